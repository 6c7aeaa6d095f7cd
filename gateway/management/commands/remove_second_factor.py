"""manage.py remove_second_factor: lets somebody in by their password alone again, who has lost the rest."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import audit
from accounts.actors import called
from accounts.models import User
from accounts.tenancy import operator_scope


class Command(BaseCommand):
    help = "Remove a user's authenticator app, passkeys and recovery codes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the user's name or e-mail address")

    def handle(self, *, name: str, **_: Any) -> None:
        user = User.objects.named([name]).get(name)
        if user is None:
            raise CommandError(f"there is no user {name}")
        removed, _by_model = Authenticator.objects.filter(user=user).delete()
        if removed:
            what = audit.What("second-factor-remove", "users", str(user.pk), called(user), None, ("all",))
            with operator_scope():
                audit.record(audit.Who(None, "manage.py", "command"), what)
        self.stdout.write(f"{removed} removed.")
