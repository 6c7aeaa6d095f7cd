"""Programs that some tests want and a machine may lack."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

INSTALL_NODE = "apt-get install nodejs npm   (or: brew install node)"
INSTALL_SECONDS = 50
NODE_22 = Path(__file__).parent / "upstreams" / "node22"
INSTALL_NODE_22 = "install Node.js 22 or newer: https://nodejs.org"


def need(program: str, install: str) -> Path:
    """Where the program is; skips the test, saying what installs it, when it is nowhere."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is missing: {install}")
    return Path(found)


def tokenizer() -> None:
    """Skips the test where the optional tokenizer is not installed."""
    if find_spec("bpe_openai") is None:
        pytest.skip("bpe-openai is missing: make tokenizer")


def node(folder: Path) -> Path:
    """Where Node.js is, once what the folder's package-lock.json names is installed in it. Skips the test
    where there is no Node.js, or where the packages are not there and cannot be had."""
    program, npm = need("node", INSTALL_NODE), need("npm", INSTALL_NODE)
    with (folder / "package.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two lanes of tests may want the same packages
        _install(npm, folder)
    return program


def _install(npm: Path, folder: Path) -> None:
    locked, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= locked.stat().st_mtime:
        return
    command = [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm takes too long; try: cd {folder} && npm ci")
    if ended.returncode:
        pytest.skip(f"npm fails; try: cd {folder} && npm ci")


def node_22() -> Path:
    """Node.js 22 or newer: the machine's, else the one that is locked in tests/upstreams/node22. Skips the
    test where there is neither."""
    program = need("node", INSTALL_NODE)
    version = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().removeprefix("v").partition(".")[0]) >= 22:
        return program
    node(NODE_22)
    found = next(NODE_22.glob("node_modules/*/bin/node"), None)  # Of the packages, npm installs what fits.
    if found is None:
        pytest.skip(f"Node.js 22 is missing: {INSTALL_NODE_22}")
    return found
