"""What servers send that speak Responses, as seen in 2026-11; and a stream run through its passage."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from proxy import sse
from proxy.call import Fields
from proxy.responses.native import ResponsesPassage
from tests.proxy.responses.transcripts import fields

Document = dict[str, Any]

USAGE = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 16,
}
ENCRYPTED = fields(include=["reasoning.encrypted_content"])
_OURS = re.compile(rb"\b([a-z]+[_-])[0-9a-f]{32}\b")
_TIMES = re.compile(rb'"completed_at":\d+')


def event(type_: str, **members: Any) -> Document:
    return {"type": type_, **members}


def spell(
    *events: Document, named: bool = True, numbered: bool = True, first: int = 0, spaced: bool = False
) -> bytes:
    """The events as a server writes them."""
    separators = (", ", ": ") if spaced else (",", ":")
    written = []
    for number, each in enumerate(events, first):
        document = {**each, "sequence_number": number} if numbered else each
        payload = json.dumps(document, separators=separators, ensure_ascii=False).encode()
        written.append(sse.encode(payload, each["type"].encode() if named else b""))
    return b"".join(written)


def response(status: str, output: list[Document], **members: Any) -> Document:
    """As OpenAI has it, 2026-11."""
    done = status not in ("in_progress", "queued")
    made: Document = {"id": "resp_theirs", "object": "response", "created_at": 1, "status": status}
    made |= {
        "error": None,
        "incomplete_details": None,
        "instructions": "The operator's.",
        "model": "theirs-1",
    }
    made |= {"output": output, "parallel_tool_calls": True, "previous_response_id": None, "store": False}
    made |= {
        "reasoning": {"effort": "low", "summary": None},
        "temperature": 1.0,
        "text": {"verbosity": "medium"},
    }
    made |= {"tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "metadata": {}}
    return made | {"usage": USAGE if done else None, "user": None, "billing": {"payer": "us"}, **members}


def begun() -> list[Document]:
    made = response("in_progress", [])
    return [event("response.created", response=made), event("response.in_progress", response=made)]


def whole(
    items: list[tuple[Document, list[Document]]], status: str = "completed", **members: Any
) -> list[Document]:
    """A stream as OpenAI sends it: each item with the events that come between its two."""
    told = begun()
    for index, (item, between) in enumerate(items):
        told.append(event("response.output_item.added", output_index=index, item=opened(item)))
        told += [{"output_index": index, "item_id": item["id"], **each} for each in between]
        told.append(event("response.output_item.done", output_index=index, item=item))
    ended = response(status, [item for item, _ in items], **members)
    return [*told, event(f"response.{status}", response=ended)]


def opened(item: Document) -> Document:
    """As it is announced: nothing said yet."""
    said: Document = {"content": [], "summary": [], "arguments": "", "status": "in_progress"}
    made = {name: said.get(name, member) for name, member in item.items()}
    return {name: member for name, member in made.items() if name != "encrypted_content"}


def message(
    id_: str, *words: str, annotations: tuple[Document, ...] = (), status: str = "completed", **more: Any
) -> tuple[Document, list[Document]]:
    place = {"content_index": 0}
    part = {"type": "output_text", "text": "".join(words), "annotations": list(annotations), "logprobs": []}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    deltas = [
        event(
            "response.output_text.delta", **place, delta=word, logprobs=[], obfuscation="x" * (n % 16), **more
        )
        for n, word in enumerate(words)
    ]
    cited = [
        event("response.output_text.annotation.added", **place, annotation_index=n, annotation=each)
        for n, each in enumerate(annotations)
    ]
    item = {"id": id_, "type": "message", "status": status, "role": "assistant", "content": [part]}
    return item, [
        event("response.content_part.added", **place, part=empty),
        *deltas,
        *cited,
        event("response.output_text.done", **place, text=part["text"], logprobs=[]),
        event("response.content_part.done", **place, part=part),
    ]


def call(id_: str, call_id: str, name: str, *pieces: str) -> tuple[Document, list[Document]]:
    arguments = "".join(pieces)
    item = {"id": id_, "type": "function_call", "status": "completed", "call_id": call_id, "name": name}
    return {**item, "arguments": arguments}, [
        *(event("response.function_call_arguments.delta", delta=piece) for piece in pieces),
        event("response.function_call_arguments.done", arguments=arguments),
    ]


def thoughts(id_: str, *words: str) -> tuple[Document, list[Document]]:
    """Reasoning with a summary and encrypted content."""
    place = {"summary_index": 0}
    part = {"type": "summary_text", "text": "".join(words)}
    item = {"id": id_, "type": "reasoning", "summary": [part], "encrypted_content": "gAAA-secret"}
    return item, [
        event("response.reasoning_summary_part.added", **place, part={"type": "summary_text", "text": ""}),
        *(event("response.reasoning_summary_text.delta", **place, delta=word) for word in words),
        event("response.reasoning_summary_text.done", **place, text=part["text"]),
        event("response.reasoning_summary_part.done", **place, part=part),
    ]


def open_thoughts(id_: str, *words: str, name: str = "reasoning_text") -> tuple[Document, list[Document]]:
    """Reasoning that is told as it is, as open models have it."""
    place = {"content_index": 0}
    part = {"type": "reasoning_text", "text": "".join(words)}
    item = {"id": id_, "type": "reasoning", "summary": [], "content": [part], "encrypted_content": None}
    return item, [
        event("response.content_part.added", **place, part={"type": "reasoning_text", "text": ""}),
        *(event(f"response.{name}.delta", **place, delta=word) for word in words),
        event(f"response.{name}.done", **place, text=part["text"]),
        event("response.content_part.done", **place, part=part),
    ]


TEXT = ("Zwölf", ' "item_id":"msg_theirs"', "\u2028\n", " 🕛", ' {"sequence_number":9}')
CITED = {"type": "url_citation", "url": "https://a.test", "title": "A", "start_index": 0, "end_index": 2}
FILE: Document = {"type": "container_file_citation", "container_id": "cntr_theirs", "file_id": "cfile_theirs"}
FILE |= {"filename": "a.csv", "start_index": 0, "end_index": 2}
SEARCH: Document = {"id": "ws_theirs", "type": "web_search_call", "status": "completed"}
SEARCH |= {"action": {"type": "search", "query": "noon"}}
CODE = {
    "id": "ci_theirs",
    "type": "code_interpreter_call",
    "status": "completed",
    "code": "1+1",
    "outputs": None,
}
CODE |= {"container_id": "cntr_theirs"}
FOUND: Document = {"id": "fs_theirs", "type": "file_search_call", "status": "completed", "queries": ["noon"]}
FOUND |= {
    "results": [{"file_id": "file-theirs", "attributes": {"file_id": "mine"}, "text": "12", "score": 0.5}]
}
APPROVAL: Document = {"id": "mcpr_theirs", "type": "mcp_approval_request", "server_label": "s", "name": "f"}
APPROVAL |= {"arguments": "{}"}
APPROVED: Document = {
    "id": "mcp_theirs",
    "type": "mcp_call",
    "server_label": "s",
    "name": "f",
    "arguments": "{}",
}
APPROVED |= {"approval_request_id": "mcpr_theirs", "output": "12", "error": None}
TRACE: Document = {"id": "trace_theirs", "type": "acme:trace", "payload": [1, None]}


def _vllm() -> Iterator[Document]:
    """Reasoning in parts of a name of its own; null where a list or nothing would be."""
    nulls = {"status": None, "encrypted_content": None, "content": None}
    for each in whole([open_thoughts("rs_theirs", "Hm", ", so."), message("msg_theirs", *TEXT)]):
        told = dict(each)
        if told.get("part", {}).get("type") == "reasoning_text":
            told["type"] = told["type"].replace("content_part", "reasoning_part")
        if "item" in told:
            told["item"] = {**nulls, **told["item"]}
        if told["type"] == "response.output_text.done":
            told["logprobs"] = None
        yield told


def _sparse() -> list[Document]:
    """As llama.cpp: no places, no numbers, an item of its least, and nothing of it in the end."""
    least = {"id": "resp_theirs", "object": "response", "status": "in_progress"}
    told = [event("response.created", response=least), event("response.in_progress", response=least)]
    for item, between in (message("msg_theirs", *TEXT), call("fc_theirs", "call_1", "f", "{", "}")):
        told.append(event("response.output_item.added", item=opened(item)))
        told += [
            {"item_id": item["id"], **{name: each[name] for name in each if not name.endswith("_index")}}
            for each in between
        ]
        told.append(event("response.output_item.done", item=item))
    told = [{name: each[name] for name in each if name not in ("logprobs", "obfuscation")} for each in told]
    return [*told, event("response.completed", response={**least, "status": "completed", "output": []})]


def _rotating() -> Iterator[Document]:
    """As GitHub's server: an item has another id in every event."""
    for number, each in enumerate(whole([thoughts("rs_theirs", "Hm"), message("msg_theirs", *TEXT)])):
        told = dict(each)
        if "item_id" in told:
            told["item_id"] += str(number)
        if "item" in told:
            told["item"] = {**told["item"], "id": f"{told['item']['id']}{number}"}
        if told["type"] == "response.completed":
            renamed = [{**item, "id": f"{item['id']}-last"} for item in told["response"]["output"]]
            told["response"] = {**told["response"], "output": renamed}
        yield told


_HOSTED = [
    thoughts("rs_theirs", "I ", "search."),
    (SEARCH, [event("response.web_search_call.searching"), event("response.web_search_call.completed")]),
    (CODE, [event("response.code_interpreter_call_code.delta", delta="1+1")]),
    (FOUND, [event("response.file_search_call.completed")]),
    (APPROVAL, []),
    (APPROVED, [event("response.mcp_call_arguments.delta", delta="{}")]),
    message("msg_theirs", *TEXT, annotations=(CITED, FILE)),
]
_CALLS = [
    thoughts("rs_theirs", "Both."),
    call("fc_theirs1", "call_a", "get_weather", '{"city":', '"Wien"}'),
    call("fc_theirs2", "call_b", "get_time", "{", "}"),
]

TRANSCRIPTS: dict[str, bytes] = {
    "text": spell(*whole([message("msg_theirs", *TEXT)])),
    "text with spaces": spell(*whole([message("msg_theirs", *TEXT)]), spaced=True),
    "text with CRLF and comments": b": ping\n\n"
    + spell(*whole([message("msg_theirs", *TEXT)])).replace(b"\n", b"\r\n"),
    "text and [DONE]": spell(*whole([message("msg_theirs", *TEXT)])) + sse.DONE,
    "numbered from 1": spell(*whole([message("msg_theirs", *TEXT)]), first=1),
    "not named": spell(*whole([message("msg_theirs", *TEXT)]), named=False),
    "calls": spell(*whole(_CALLS)),
    "hosted tools": spell(*whole(_HOSTED)),
    "reasoning as it is": spell(
        *whole([open_thoughts("rs_theirs", "Hm", "."), message("msg_theirs", *TEXT)])
    ),
    "reasoning by Open Responses": spell(*whole([open_thoughts("rs_theirs", "Hm", ".", name="reasoning")])),
    "nulls and parts of reasoning": spell(*_vllm()),
    "sparse": spell(*_sparse(), named=False, numbered=False),
    "ids that rotate": spell(*_rotating()),
    "incomplete": spell(
        *whole(
            [message("msg_theirs", *TEXT, status="incomplete")],
            status="incomplete",
            incomplete_details={"reason": "max_output_tokens"},
        )
    ),
    "no usage": spell(*whole([message("msg_theirs", *TEXT)], usage=None)),
    "the id of the response in every event": spell(
        *whole([message("msg_theirs", *TEXT, response_id="resp_theirs")])
    ),
    "nothing said": spell(*whole([])),
    "nothing but the end": spell(whole([message("msg_theirs", *TEXT)])[-1]),
    "items that were only done": spell(
        *(each for each in whole(_CALLS) if "item_id" not in each and not each["type"].endswith("added"))
    ),
    "items that were never done": spell(
        *(each for each in whole(_CALLS) if each["type"] != "response.output_item.done")
    ),
    "all items in place 0": spell(*({**each, "output_index": 0} for each in whole(_CALLS))),
    "an unknown item and event": spell(
        *whole([(TRACE, [event("acme:progress", percent=7)]), message("msg_theirs", *TEXT)])
    ),
}


def passage(asked: Fields | None = None) -> ResponsesPassage:
    return ResponsesPassage("resp_ours", "public", asked or {}, 1700000000)


def feed(made: ResponsesPassage, transcript: bytes, cuts: tuple[int, ...] = ()) -> bytes:
    """What a client gets of a transcript that comes in pieces, but for the end."""
    out = made.begin()
    for start, end in itertools.pairwise((0, *cuts, len(transcript))):
        if events := made.splitter.feed(transcript[start:end]):
            out += made.feed(events)
    return out + made.rest()


def run(transcript: bytes, cuts: tuple[int, ...] = (), asked: Fields | None = None) -> tuple[bytes, Document]:
    """The stream that a client gets, and the response as one JSON."""
    made = passage(asked)
    out = feed(made, transcript, cuts) + made.end()
    return out, json.loads(made.final())


def alike(stream: bytes) -> bytes:
    """The stream with its ids numbered as they appear and its times left out: what two runs share."""
    found: dict[bytes, bytes] = {}
    numbered = _OURS.sub(lambda match: found.setdefault(match[0], match[1] + b"%d" % len(found)), stream)
    return _TIMES.sub(b'"completed_at":0', numbered)
