"""Writes the libraries that our pages run anew, as their makers publish them. Run by hand: `make vendor`.

gateway/static/gateway/vendor/manifest.json says which files of which npm packages, in which version, and what
each hashes to; a test holds the files to it. To take a newer version write it there first. Never runs in the
gateway: pages load nothing from anywhere else.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "static" / "gateway" / "vendor"
MANIFEST = FOLDER / "manifest.json"
SECONDS = 120


def read() -> list[dict[str, Any]]:
    """Each package: `package`, `version`, `license`, `source`, and `files` with `name`, `path`, `sha256`."""
    packages: list[dict[str, Any]] = json.loads(MANIFEST.read_text())
    return packages


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def renew(package: dict[str, Any]) -> None:
    """Gets the package by npm and writes its files, and their hashes into the manifest's entry."""
    name = f"{package['package']}@{package['version']}"
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", name]
        packed = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=True, timeout=SECONDS
        )
        with tarfile.open(Path(folder) / packed.stdout.split()[-1]) as archive:
            for file in package["files"]:
                member = archive.extractfile(f"package/{file['path']}")
                assert member is not None
                data = member.read()
                (FOLDER / file["name"]).write_bytes(data)
                file["sha256"] = sha256(data)


def main() -> None:
    packages = read()
    for package in packages:
        renew(package)
    MANIFEST.write_text(json.dumps(packages, indent=2) + "\n")


if __name__ == "__main__":
    main()
