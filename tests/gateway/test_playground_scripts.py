"""What the playground's page does that needs no browser, and the libraries that it runs.

The scripts are modules, run by Node.js from a copy; what they write for people to paste runs here for real.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway import vendored
from tests import machine

PROJECT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = PROJECT / "gateway" / "static" / "gateway" / "playground"
TESTS = Path(__file__).parent / "playground"
SECONDS = 30

HOSTILE = """'"`$(touch pwned)\\ JSON
JSON
${HOME} %s {} </script> \u2028 \u202e \u009b31m \x7f \U0001f600 \x00 '; import os #"""
QUOTED = "'\"`$(touch pwned)\\ ${HOME}"
CALL: dict[str, Any] = {
    "baseUrl": "http://127.0.0.1:8000/v1",
    "body": {
        "model": HOSTILE,
        "messages": [
            {"role": "system", "content": HOSTILE},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}],
            },
        ],
        "temperature": 0.5,
        "stream": True,
        "stop": None,
        "stream_options": {"include_usage": True},
    },
    "headers": {"X-Show-Reasoning": "false", "X-Odd": QUOTED},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's modules and their tests, where Node.js takes them for modules."""
    folder = tmp_path_factory.mktemp("playground")
    (folder / "package.json").write_text('{"type": "module"}')
    for file in (*SCRIPTS.glob("*.js"), TESTS / "scripts.test.js"):
        shutil.copy(file, folder / file.name)
    (folder / "written.js").write_text(
        "import { readFileSync } from 'node:fs';\nimport * as snippets from './snippets.js';\n"
        "process.stdout.write(snippets[process.argv[2]](JSON.parse(readFileSync(0, 'utf8'))));\n"
    )
    return folder


def run(*command: str | Path, folder: Path, given: str = "", **environment: str) -> str:
    ended = subprocess.run(
        command,
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        env={**os.environ, **environment},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def written(language: str, folder: Path, call: dict[str, Any] = CALL) -> str:
    node = machine.need("node", machine.INSTALL_NODE)
    return run(node, "written.js", language, folder=folder, given=json.dumps(call))


def test_it_does_what_its_modules_promise(folder: Path) -> None:
    node = machine.need("node", machine.INSTALL_NODE)
    told = run(node, "--test", "--test-reporter=tap", "scripts.test.js", folder=folder)
    assert "# fail 0" in told
    assert "# pass 0" not in told


def test_it_writes_curl_that_a_shell_reads_as_it_is_meant(folder: Path, tmp_path: Path) -> None:
    fake = tmp_path / "curl"
    fake.write_text(
        f"#!{sys.executable}\nimport json, sys\nprint(json.dumps([sys.argv[1:], sys.stdin.read()]))\n"
    )
    fake.chmod(0o755)
    code = written("curl", folder)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    arguments, body = json.loads(
        run("sh", "-c", code, folder=tmp_path, PATH=path, TOLLGATE_API_KEY="sk-mine")
    )
    assert json.loads(body) == CALL["body"]
    assert "http://127.0.0.1:8000/v1/chat/completions" in arguments
    assert "Authorization: Bearer sk-mine" in arguments
    assert f"X-Odd: {QUOTED}" in arguments
    assert not (tmp_path / "pwned").exists()


def test_it_writes_python_that_says_the_same(folder: Path) -> None:
    code = written("python", folder)
    [call] = [
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "client.chat.completions.create"
    ]
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert given.pop("extra_headers") == CALL["headers"]
    assert given == CALL["body"]


def test_it_writes_node_that_says_the_same(folder: Path) -> None:
    code = written("node", folder)
    head, rest = code.split("const client", 1)
    assert head.startswith('import OpenAI from "openai"')
    fake = (
        "class OpenAI { constructor(o) { this.chat = { completions: { create: async (...given) => {"
        " console.log(JSON.stringify([o, ...given])); return []; } } }; } }\nconst client"
    )
    (folder / "pasted.js").write_text(fake + rest)
    node = machine.need("node", machine.INSTALL_NODE)
    options, body, more = json.loads(
        run(node, "pasted.js", folder=folder, TOLLGATE_API_KEY="sk-mine").strip()
    )
    assert options == {"baseURL": CALL["baseUrl"], "apiKey": "sk-mine"}
    assert (body, more["headers"]) == (CALL["body"], CALL["headers"])


@pytest.mark.parametrize("language", ["curl", "python", "node"])
def test_it_writes_nothing_that_deceives_who_reads_it(folder: Path, language: str) -> None:
    plain = {**CALL, "headers": {}}
    code = written(language, folder, plain)
    assert "TOLLGATE_API_KEY" in code
    assert not [character for character in code if not character.isprintable() and character != "\n"]


def test_it_runs_libraries_as_their_makers_published_them() -> None:
    named = set()
    for package in vendored.read():
        assert package["version"] in package["source"]
        assert package["license"]
        for file in package["files"]:
            named.add(file["name"])
            assert vendored.sha256((vendored.FOLDER / file["name"]).read_bytes()) == file["sha256"]
        script = (vendored.FOLDER / package["files"][0]["name"]).read_text()
        assert package["version"] in script[:500]
    assert {path.name for path in vendored.FOLDER.iterdir()} == named | {"manifest.json"}
