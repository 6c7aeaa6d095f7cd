"""The Open Responses specification's schemas, and what of ours does not keep them.

tests/open_responses.json has the shapes of the specification of 2026-04-24 (https://www.openresponses.org),
without their words. OPEN_RESPONSES_SCHEMA may name the specification itself, or a later one, to be held to.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from proxy import sse
from tests.server import PROJECT

Document = dict[str, Any]


@cache
def schemas() -> dict[str, Document]:
    """By their names, such as "ResponseResource"."""
    given = os.environ.get("OPEN_RESPONSES_SCHEMA")
    document = json.loads(Path(given or PROJECT / "tests" / "open_responses.json").read_text())
    found: dict[str, Document] = document["components"]["schemas"] if given else document
    return found


@cache
def _validator(name: str) -> Any:
    components = {"schemas": schemas()}
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})


@cache
def _event_schemas() -> dict[str, str]:
    """The schema of each type of event."""
    return {
        schema["properties"]["type"]["enum"][0]: name
        for name, schema in schemas().items()
        if name.endswith("StreamingEvent")
    }


def faults(document: object, schema: str) -> list[str]:
    """What keeps `document` from being a `schema`, such as "ResponseResource"."""
    error = jsonschema.exceptions.best_match(_validator(schema).iter_errors(document))
    return [f"{schema} at {error.json_path}: {error.message}"[:600]] if error else []


def event_faults(event: Document) -> list[str]:
    """What keeps one event of a stream from being one that the specification knows."""
    name = _event_schemas().get(event["type"])
    return faults(event, name) if name else [f"no such event: {event['type']}"]


def stream_faults(stream: bytes) -> list[str]:
    """What is wrong in a stream: its events one by one, their names and their numbers."""
    found = []
    for number, piece in enumerate(piece for piece in sse.split(stream) if sse.data(piece)):
        event = json.loads(sse.data(piece))
        found += event_faults(event)
        if event["sequence_number"] != number:
            found.append(f"event {number} has the number {event['sequence_number']}")
        if sse.name(piece).decode() != event["type"]:
            found.append(f"event {number} is named {sse.name(piece)!r} and has the type {event['type']}")
    return found
