"""The size rules, read from the code itself: what a reviewer would otherwise have to count."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
APPS = ("accounts", "threads", "proxy", "gateway")
OWN = (*APPS, "benchmarks", "tests")
LONGEST_FUNCTION = 70
LONG_FUNCTION = 30
LONG_FUNCTIONS_PER_THOUSAND = 20
LONGEST_FILE = 500
# `except Exception` belongs at an outer edge: a request's, a background loop's, a thread's.
BROAD_EXCEPTS = 8

Place = tuple[str, ast.AST]


@cache
def modules() -> dict[str, ast.Module]:
    """Every Python file of the project, but what is generated or installed in it."""
    return {
        str(path.relative_to(PROJECT)): ast.parse(path.read_text())
        for folder in OWN
        for path in sorted((PROJECT / folder).rglob("*.py"))
        if not {"migrations", "node_modules"}.intersection(path.parts)
    }


def nodes(*kinds: type[ast.AST]) -> Iterator[Place]:
    for name, module in modules().items():
        for node in ast.walk(module):
            if isinstance(node, kinds):
                yield name, node


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef):
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        yield name, node


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def places(found: Iterator[Place], wanted: Callable[[ast.AST], bool]) -> list[str]:
    return [f"{name}:{getattr(node, 'lineno', 0)}" for name, node in found if wanted(node)]


def test_it_has_no_function_over_seventy_lines() -> None:
    long = [
        f"{name}:{node.lineno} {node.name} has {length(node)} lines"
        for name, node in functions()
        if length(node) > LONGEST_FUNCTION
    ]
    assert not long


def test_it_has_few_functions_over_thirty_lines() -> None:
    every = list(functions())
    long = [f"{name}:{node.lineno} {node.name}" for name, node in every if length(node) > LONG_FUNCTION]
    assert len(long) * 1000 <= len(every) * LONG_FUNCTIONS_PER_THOUSAND, long


def test_it_has_no_file_over_five_hundred_lines() -> None:
    lines = {name: len((PROJECT / name).read_text().splitlines()) for name in modules()}
    assert not {name: count for name, count in lines.items() if count > LONGEST_FILE}


def is_broad(node: ast.AST) -> bool:
    assert isinstance(node, ast.ExceptHandler)
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(
        one is None or (isinstance(one, ast.Name) and one.id in ("Exception", "BaseException"))
        for one in caught
    )


def test_it_catches_what_it_expects_by_name() -> None:
    broad = places(nodes(ast.ExceptHandler), is_broad)
    assert len(broad) <= BROAD_EXCEPTS, broad
    assert not [place for place in broad if place.startswith(("tests", "benchmarks", "accounts/models"))]


def imports_own(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in OWN
    return isinstance(node, ast.Import) and any(alias.name.split(".")[0] in OWN for alias in node.names)


def test_it_imports_its_own_modules_at_the_top() -> None:
    inner = [
        place
        for name, function in functions()
        for place in places(((name, node) for node in ast.walk(function)), imports_own)
    ]
    assert not inner


def test_it_gives_a_reason_beside_each_requirement() -> None:
    lines = [
        line
        for file in sorted((PROJECT / "requirements").glob("*.in"))
        for line in file.read_text().splitlines()
        if line.strip() and not line.startswith(("#", "-r "))
    ]
    assert lines
    assert not [line for line in lines if not re.search(r"\S\s+#\s+\S+", line)]


def test_it_locks_each_requirement_with_a_hash() -> None:
    for file in sorted((PROJECT / "requirements").glob("*.txt")):
        pins = [line for line in file.read_text().splitlines() if line and line[0] not in "# "]
        assert pins
        assert all("==" in line and line.endswith("\\") for line in pins)


def test_it_leaves_no_note_of_work_undone() -> None:
    notes = re.compile(r"\b(TO[D]O|FIX[M]E|X[X]X)\b")
    assert not [name for name in modules() if notes.search((PROJECT / name).read_text())]


def test_it_keeps_no_copy_of_a_secret_or_of_what_is_generated() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False)
    forbidden = re.compile(r"(^|/)(\.env(\.local)?|secret_key|__pycache__/.*|.*\.sqlite3.*)$")
    assert not [name for name in listed.stdout.split() if forbidden.search(name)]
