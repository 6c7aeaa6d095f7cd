"""Programs that some tests want and a machine may lack."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


def need(program: str, install: str) -> Path:
    """Where the program is; skips the test, saying what installs it, when it is nowhere."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is missing: {install}")
    return Path(found)
