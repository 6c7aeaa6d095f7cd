"""What django-allauth is told of this installation: whose address counts, what is sealed, what is noted."""

from __future__ import annotations

import base64
import logging
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts.models import User
from gateway.sign_in import notes
from proxy.http import client_ip
from proxy.sealing import seal, unseal

_MISMATCH = "There is nobody with this name and this password."
_UNSAID = ("account/messages/logged_in.txt", "account/messages/logged_out.txt")
_SEALED_FOR = b"second factor"

logger = logging.getLogger(__name__)


class Accounts(DefaultAccountAdapter):  # type: ignore[misc]
    """Passwords, and everything that all ways to sign in have in common."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": _MISMATCH,
        "email_password_mismatch": _MISMATCH,
        "too_many_login_attempts": "That was wrong too often. Wait a few minutes, or use a passkey.",
    }

    def get_client_ip(self, request: HttpRequest) -> str:
        """As the relay has it: proxies are believed where TRUSTED_PROXIES names them."""
        peer = request.META.get("REMOTE_ADDR") or ""
        return client_ip(peer, request.headers.get("x-forwarded-for", ""), settings.TRUSTED_PROXIES) or "?"

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Whose guesses are counted together: all at one account, by whichever of its names and at whichever
        host name. Allauth's own goes by both, and either is the guesser's to choose."""
        name = str(credentials.get("email") or credentials.get("username") or "")
        user = User.objects.named([name]).get(name)
        return f"user {user.pk}" if user else f"nobody {name.lower()}"

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        logger.warning("a wrong password was given, from %s", self.get_client_ip(request))

    def set_password(self, user: User, password: str) -> None:
        super().set_password(user, password)
        notes.note(user, "password")

    def post_login(self, request: HttpRequest, user: User, **told: Any) -> HttpResponse:
        notes.note(user, "sign-in")
        answer: HttpResponse = super().post_login(request, user, **told)
        return answer

    def add_message(
        self,
        request: HttpRequest,
        level: int,
        message_template: str | None = None,
        *rest: Any,
        **options: Any,
    ) -> None:
        """What the next page shows anyway is not said beside it."""
        if message_template not in _UNSAID:
            super().add_message(request, level, message_template, *rest, **options)


class SecondFactors(DefaultMFAAdapter):  # type: ignore[misc]
    """Authenticator apps, passkeys and recovery codes."""

    def encrypt(self, text: str) -> str:
        return base64.b64encode(seal(text, _SEALED_FOR)).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Raises proxy.sealing.SealBroken."""
        return unseal(base64.b64decode(encrypted_text), _SEALED_FOR)

    def generate_authenticator_name(self, user: User, type: str) -> str:
        others = Authenticator.objects.filter(user=user, type=type).count()
        return f"Passkey {others + 1}" if others else "Passkey"

    def get_totp_issuer(self) -> str:
        return f"Tollgate {self._get_site_name()}"
