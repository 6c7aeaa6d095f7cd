"""Fills an installation that nobody uses with made-up calls: `manage.py seed_usage --records 5000000`."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway.seeding import NotEmpty, check_empty, make_cast, seed
from proxy import rollups


class Command(BaseCommand):
    help = "Makes up tenants and calls, to look at pages or to measure them. Never where people work."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--records", type=int, default=100_000)
        parser.add_argument("--days", type=int, default=90, help="how far back they go")
        parser.add_argument("--tenants", type=int, default=20)
        parser.add_argument("--force", action="store_true", help="though there are calls that somebody made")

    def handle(self, *args: Any, **options: Any) -> None:
        records, days, tenants = options["records"], options["days"], options["tenants"]
        if min(records, days, tenants) < 1:
            raise CommandError("Give at least one record, one day and one tenant.")
        try:
            if not options["force"]:
                check_empty()
        except NotEmpty:
            raise CommandError(
                "There are calls on record here. --force mixes made-up ones with them."
            ) from None
        now = datetime.now(UTC)
        casts = [make_cast(number + 1, now) for number in range(tenants)]
        rollups.keep_zones()
        for made in seed(records, days, casts, now):
            if made % 100_000 == 0 or made == records:
                print(f"{made:,} of {records:,} calls", flush=True)
