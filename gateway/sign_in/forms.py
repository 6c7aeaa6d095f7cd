"""Some of allauth's forms: in our words, and unmoved by what no browser would send."""

from __future__ import annotations

import struct
from typing import Any

from allauth.account.forms import LoginForm
from allauth.mfa.adapter import get_adapter
from allauth.mfa.webauthn import forms as webauthn
from cryptography.exceptions import InvalidSignature
from django.forms import BaseForm

# What fido2 raises, besides what allauth expects, of a credential that is none, or is signed by another key.
_NO_CREDENTIAL = (KeyError, TypeError, ValueError, AttributeError, IndexError, struct.error, InvalidSignature)


class SignIn(LoginForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["login"].label = "User name or e-mail address"
        self.fields["login"].widget.attrs["autocomplete"] = "username"
        for field in self.fields.values():
            field.widget.attrs.pop("placeholder", None)


class _Passkey(BaseForm):
    def clean_credential(self) -> Any:
        try:
            return super().clean_credential()  # type: ignore[misc]  # of the form that this is mixed into
        except _NO_CREDENTIAL:
            raise get_adapter().validation_error("incorrect_code") from None


class LoginByPasskey(_Passkey, webauthn.LoginWebAuthnForm):  # type: ignore[misc]
    pass


class ThenPasskey(_Passkey, webauthn.AuthenticateWebAuthnForm):  # type: ignore[misc]
    pass


class ConfirmByPasskey(_Passkey, webauthn.ReauthenticateWebAuthnForm):  # type: ignore[misc]
    pass


class AddPasskey(webauthn.AddWebAuthnForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["name"].help_text = "What you will know it by, such as “Phone”."
        self.fields["passwordless"].initial = True
        self.fields["passwordless"].label = "Sign in with it alone"
        self.fields["passwordless"].help_text = (
            "Without a password: it asks for your finger, your face or its PIN. "
            "Otherwise it is asked for after the password."
        )

    def clean(self) -> Any:
        try:
            return super().clean()
        except _NO_CREDENTIAL:
            raise get_adapter().validation_error("incorrect_code") from None
