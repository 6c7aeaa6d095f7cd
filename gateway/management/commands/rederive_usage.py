"""manage.py rederive_usage 2026-11-01: adds up anew, from the ledger, what calls since then came to."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from proxy import rollups


class Command(BaseCommand):
    help = "Adds up anew what calls since a day (in UTC) came to. Numbers stay right meanwhile, only slower."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("since", help="such as 2026-11-01")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            since = datetime.strptime(options["since"], "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            raise CommandError("Give a day, such as 2026-11-01.") from None
        try:
            records = rollups.rederive(since)
        except rollups.HistoryLost as lost:
            raise CommandError(f"{lost} Nothing was changed; give a later day.") from None
        while rollups.roll_up():
            pass
        self.stdout.write(f"{records} calls were added up anew.")
