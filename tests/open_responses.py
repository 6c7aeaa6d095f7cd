"""The Open Responses specification's schemas, and what of ours does not keep them.

The file is the specification's `openapi.json` of 2026-04-24 (https://www.openresponses.org). It is not kept
here: OPEN_RESPONSES_SCHEMA says where it is, or it lies at ../shared/specs/open-responses-2026-04-24.json,
beside the project. Without it the tests that ask for it are skipped.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from proxy import sse
from tests.server import PROJECT

Document = dict[str, Any]

BESIDE = PROJECT.parent / "shared" / "specs" / "open-responses-2026-04-24.json"


def path() -> Path:
    return Path(os.environ.get("OPEN_RESPONSES_SCHEMA") or BESIDE)


def require() -> None:
    """Skips the test that asks where the specification is not to be found."""
    if not path().is_file():
        pytest.skip(f"The Open Responses specification is not at {path()}: set OPEN_RESPONSES_SCHEMA.")


@cache
def _specification() -> Document:
    document: Document = json.loads(path().read_text())
    return document


@cache
def _validator(name: str) -> Any:
    components = _specification()["components"]
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})


@cache
def _event_schemas() -> dict[str, str]:
    """The schema of each type of event."""
    return {
        schema["properties"]["type"]["enum"][0]: name
        for name, schema in _specification()["components"]["schemas"].items()
        if name.endswith("StreamingEvent")
    }


def faults(document: object, schema: str) -> list[str]:
    """What keeps `document` from being a `schema`, such as "ResponseResource"."""
    require()
    error = jsonschema.exceptions.best_match(_validator(schema).iter_errors(document))
    return [f"{schema} at {error.json_path}: {error.message}"[:600]] if error else []


def event_faults(event: Document) -> list[str]:
    """What keeps one event of a stream from being one that the specification knows."""
    require()
    name = _event_schemas().get(event["type"])
    return faults(event, name) if name else [f"no such event: {event['type']}"]


def stream_faults(stream: bytes) -> list[str]:
    """What is wrong in a stream: its events one by one, their names and their numbers."""
    require()
    found = []
    for number, piece in enumerate(piece for piece in sse.split(stream) if sse.data(piece)):
        event = json.loads(sse.data(piece))
        found += event_faults(event)
        if event["sequence_number"] != number:
            found.append(f"event {number} has the number {event['sequence_number']}")
        if sse.name(piece).decode() != event["type"]:
            found.append(f"event {number} is named {sse.name(piece)!r} and has the type {event['type']}")
    return found
