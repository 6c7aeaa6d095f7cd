"""What runs needs requirements/base.txt alone, though its tests have more around them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.server import PROJECT, plain_environment

# Imports what serves and what Celery is, with the packages that are named out of reach.
IMPORTS = """
import importlib, sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions

OWNERS, OUT_OF_REACH = packages_distributions(), set(sys.argv[1:])

class WithinReach(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        packages = {owner.lower().replace("_", "-") for owner in OWNERS.get(name.partition(".")[0], ())}
        return None if packages and packages <= OUT_OF_REACH else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithinReach
for name in (
    "uvicorn.loops.uvloop", "gateway.asgi",
    "gateway.celery", "celery.bin.worker", "celery.bin.beat", "celery.concurrency.thread",
    "kombu.transport.redis",
):
    importlib.import_module(name)
"""


def names(requirements: str) -> set[str]:
    text = (PROJECT / "requirements" / requirements).read_text()
    return set(re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE))


def test_it_runs_on_what_base_txt_installs(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTS, *sorted(names("dev.txt") - names("base.txt"))],
        cwd=PROJECT,
        env={**plain_environment(), "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
