"""The documentation is held to the code: what it leaves out, or tells of what is gone, fails here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from accounts.permissions import PERMISSIONS, Role
from gateway import configuration
from gateway.metrics import Told
from gateway.standing import Installation, Standing
from gateway.urls import MANAGED
from proxy.asgi import MODELS, POSTS, STORED
from proxy.models import UsageRecord

PROJECT = Path(__file__).resolve().parent.parent
APPS = ("accounts", "threads", "proxy", "gateway")
README = PROJECT / "README.md"
CONFIGURATION = PROJECT / "docs" / "configuration.md"
ERRORS = PROJECT / "docs" / "errors.md"
METRICS = PROJECT / "docs" / "metrics.md"
MANAGEMENT = PROJECT / "docs" / "management-api.md"
ARCHITECTURE = PROJECT / "docs" / "architecture.md"
PAGES = sorted(
    [README, PROJECT / "CHANGELOG.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").rglob("*.md")]
)


def rows(page: Path) -> set[str]:
    """The names in code spans that the first cells of the page's tables hold."""
    cells = re.findall(r"^\| ([^|]+) \|", page.read_text(), re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def spans(page: Path) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", page.read_text()))


# Error codes, as the code gives them: `code=…` and what is passed for a parameter called `code`.


def given_codes() -> set[str]:
    found: set[str] = set()
    for path in sources():
        tree = ast.parse(path.read_text())
        places = code_parameters(tree)
        for node in ast.walk(tree):
            found.update(words for value in code_values(node, places) for words in strings(value))
    return found


def sources() -> Iterator[Path]:
    for app in APPS:
        yield from sorted((PROJECT / app).rglob("*.py"))


def code_parameters(tree: ast.Module) -> dict[str, int]:
    """Of each function of the module that takes a `code` by position: which one it is."""
    return {
        node.name: [argument.arg for argument in node.args.args].index("code")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and "code" in [argument.arg for argument in node.args.args]
    }


def code_values(node: ast.AST, places: dict[str, int]) -> Iterator[ast.expr]:
    """The expressions that this node gives for a `code` or an `error_code`."""
    if isinstance(node, ast.Call):
        yield from (keyword.value for keyword in node.keywords if keyword.arg in ("code", "error_code"))
        place = places.get(node.func.id) if isinstance(node.func, ast.Name) else None
        yield from node.args[place : place + 1] if place is not None else ()
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "error_code":
                yield value
    elif isinstance(node, ast.Assign) and any(is_error_code(target) for target in node.targets):
        yield node.value


def is_error_code(target: ast.expr) -> bool:
    return isinstance(target, ast.Attribute) and target.attr == "error_code"


def strings(value: ast.expr) -> Iterator[str]:
    """The constants that an expression may come to; not those inside of a call."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
        yield value.value
    elif isinstance(value, ast.BoolOp):
        for part in value.values:
            yield from strings(part)
    elif isinstance(value, ast.IfExp):
        yield from strings(value.body)
        yield from strings(value.orelse)


def test_it_finds_the_codes_that_the_code_gives() -> None:
    """One of each way to give one: by keyword, by position, in either branch, in an assignment, in a dict."""
    assert {
        "invalid_api_key",
        "upstream_timeout",
        "upstream_error",
        "client_left",
        "worker_lost",
    } <= given_codes()


def test_it_documents_every_error_code_and_none_that_is_gone() -> None:
    assert rows(ERRORS) == given_codes()


@pytest.mark.parametrize("path", [*POSTS, MODELS, f"{MODELS}/{{id}}"])
def test_it_documents_every_path_of_the_relay(path: str) -> None:
    assert any(span.endswith(f" /v1{path}") for span in spans(README))


@pytest.mark.parametrize(
    ("path", "method"), [(path, method) for path, methods in STORED.table.items() for method in methods]
)
def test_it_documents_every_path_of_what_is_stored(path: str, method: str) -> None:
    assert f"{method} /v1{path}" in spans(README)


def test_it_shows_the_permission_table_of_the_management_api() -> None:
    shown = re.findall(r"^\| `([\w-]+)` \| ([\w-]+) \| (.+) \|$", MANAGEMENT.read_text(), re.MULTILINE)
    told = {
        (resource, action): tuple(cell.strip().replace("–", "none") for cell in cells.split("|"))
        for resource, action, cells in shown
        if cells.count("|") == len(Role) - 1
    }
    assert told == PERMISSIONS


def test_it_tells_of_every_resource_of_the_management_api() -> None:
    assert {resource.resource for resource in MANAGED} <= rows(MANAGEMENT)


def test_it_documents_every_setting_and_none_that_is_gone() -> None:
    assert {name for name in rows(CONFIGURATION) if name.isupper()} == settings.ENVIRONMENT.names


def test_it_offers_only_settings_that_there_are() -> None:
    offered = re.findall(r"^#?([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    assert offered
    assert set(offered) <= settings.ENVIRONMENT.names


def test_it_documents_every_column_of_a_usage_record() -> None:
    columns = {field.name for field in UsageRecord._meta.concrete_fields}
    assert columns <= rows(ARCHITECTURE)


def test_it_tells_of_every_metric(db: None) -> None:
    told = Told(Standing((), None, (), (), Installation((), (), 0)))
    names = {f"{each.name}_total" if each.type == "counter" else each.name for each in told.collect()}
    assert names == {name for name in rows(METRICS) if name.startswith("tollgate_")}


def yaml_blocks() -> list[str]:
    return [
        block
        for page in (README, CONFIGURATION)
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    ]


@pytest.mark.parametrize("block", yaml_blocks())
def test_it_shows_only_configuration_files_that_can_be_read(tmp_path: Path, block: str) -> None:
    file = tmp_path / "tollgate.yaml"
    file.write_text(block)
    environ = dict.fromkeys(re.findall(r"env:(\w+)", block), "something")
    assert configuration.read(file, environ)


def test_it_names_only_make_targets_that_there_are() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    command = re.compile(r"(?:^ {4,}(?:\S+=\S+ +)*|`(?:[^`\n]+ )?)make ([a-z-]+)", re.MULTILINE)
    named = {name for page in PAGES for name in command.findall(page.read_text())}
    assert {"run", "test"} <= named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_it_links_only_to_what_is_there(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def test_it_names_only_files_that_are_there() -> None:
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(rf"\b(?:{'|'.join(APPS)}|tests|docs)/[\w/]+\.\w+", page.read_text())
    }
    assert named
    assert not {(page, name) for page, name in named if not (PROJECT / name).exists()}


def test_it_tells_of_every_module_of_the_apps() -> None:
    words = set(re.findall(r"[\w/]+\.py", ARCHITECTURE.read_text()))
    modules = {
        path.name
        for app in APPS
        for path in (PROJECT / app).glob("*.py")
        if path.name not in ("__init__.py", "apps.py")
    }
    assert modules <= {word.rpartition("/")[2] for word in words}


def test_it_lists_every_decision() -> None:
    written = {path.name for path in (PROJECT / "docs" / "decisions").glob("*.md")}
    linked = set(re.findall(r"decisions/([\w-]+\.md)", ARCHITECTURE.read_text()))
    assert written == linked


def test_it_refers_from_the_code_to_decisions_that_there_are() -> None:
    files = [*sources(), *(PROJECT / "requirements").glob("*.in")]
    named = {number for path in files for number in re.findall(r"decisions/(\d{4})", path.read_text())}
    written = {path.name[:4] for path in (PROJECT / "docs" / "decisions").glob("*.md")}
    assert named
    assert named <= written
