"""manage.py apply FILE: makes tenants, keys, upstreams and models what a configuration file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway import configuration
from gateway.apply import apply, plan
from gateway.rows import Mistakes, called


class Command(BaseCommand):
    help = "Apply a configuration file. What it does not name is left alone."
    requires_system_checks = ()  # they look at the code, and load all of it

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="print the difference and change nothing")

    def handle(self, *, file: Path, dry_run: bool, **_: Any) -> None:
        try:
            rows = configuration.read(file, settings.ENVIRONMENT.values)
            changes, made = (plan(rows), []) if dry_run else apply(rows)
        except Mistakes as mistakes:
            raise CommandError(f"nothing was changed:\n{mistakes}") from None
        for change in changes:
            self.stdout.write(str(change))
        if not changes:
            self.stdout.write("Nothing to change.")
        for key in made:
            self.stdout.write(f"\n{key.kind} {called(key.name)}, shown this once: {key.secret}")
