#!/usr/bin/env python
"""Runs Django's commands, and this project's own: `quickstart` and `apply`."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as mistake:
        sys.exit(f"tollgate cannot start: {mistake}")


if __name__ == "__main__":
    main()
