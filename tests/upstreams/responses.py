"""What the scripted upstream says on /responses: as OpenAI does, or as sparsely as llama.cpp (2026-11)."""

from __future__ import annotations

from typing import Any

from tests.upstreams.answers import (
    CREATED,
    PATH,
    PRIVATE,
    Document,
    called,
    error_object,
    sample,
    spoken,
)
from tests.upstreams.behaviour import Behaviour

Told = tuple[Document, list[Document]]  # an item, and the events between its first and its last

ENCRYPTED = "reasoning.encrypted_content"
THOUGHT = ("Let me ", "think.")
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
_REPEATED = ("instructions", "tools", "tool_choice", "text", "temperature", "top_p", "store")
_LEAST = ("id", "object", "status", "model", "usage")
_PLACES = ("output_index", "content_index", "summary_index", "logprobs")


def refusal(request: Document, behaviour: Behaviour) -> tuple[int, Document] | None:
    """What a server that keeps nothing refuses, in OpenAI's words."""
    if behaviour.noencrypted and ENCRYPTED in (request.get("include") or ()):
        said = error_object("Encrypted content is not supported with this model.", "unsupported_parameter")
        return 400, {"error": said | {"param": "include"}}
    given = request["input"] if isinstance(request.get("input"), list) else []
    kept = [item["id"] for item in given if _was_kept(item)] + [request.get("previous_response_id")]
    for id_ in filter(None, kept):
        said = error_object(f"Item with id '{id_}' not found. Items are not persisted.", "not_found")
        return 404, {"error": said | {"param": "input"}}
    return None


def _was_kept(item: Document) -> bool:
    """Whether an item of the input stands for one that the server would have had to keep."""
    if item.get("type") == "item_reference":
        return True
    return item.get("type") == "reasoning" and "id" in item and not item.get("encrypted_content")


def response(model: str, behaviour: Behaviour, request: Document) -> Document:
    """The whole Response."""
    items = [item for item, _ in _told(model, behaviour, request)]
    made = _response(model, behaviour, request, behaviour.ends or "completed", items)
    return {name: made[name] for name in (*_LEAST, "created_at", "output")} if behaviour.sparse else made


def events(model: str, behaviour: Behaviour, request: Document) -> list[Document]:
    """The event sequence, from response.created to the terminal one."""
    told = _told(model, behaviour, request)
    begun = _response(model, behaviour, request, "in_progress", [])
    made = [_event("created", response=begun), _event("in_progress", response=begun)]
    for index, (item, between) in enumerate(told):
        made.append(_event("output_item.added", output_index=index, item=_opened(item)))
        made += [{"item_id": item["id"], "output_index": index, **event} for event in between]
        made.append(_event("output_item.done", output_index=index, item=item))
    if behaviour.ends == "error":
        broken = error_object("The upstream broke down.", "scripted_breakdown")
        made.append({**broken, "type": "error"})
    else:
        ending = behaviour.ends or "completed"
        items = [item for item, _ in told]
        made.append(_event(ending, response=_response(model, behaviour, request, ending, items)))
    numbered = [event | {"sequence_number": number} for number, event in enumerate(made)]
    return [_sparse(event) for event in made] if behaviour.sparse else numbered


def _event(type_: str, **members: Any) -> Document:
    return {"type": f"response.{type_}", **members}


def _sparse(event: Document) -> Document:
    """An event as llama.cpp has it; the last one says nothing of what was said."""
    made = {name: member for name, member in event.items() if name not in _PLACES}
    if "response" in made:
        made["response"] = {name: made["response"][name] for name in _LEAST} | {"output": []}
    return made


def counted(behaviour: Behaviour) -> Document:
    return {"object": "response.input_tokens", "input_tokens": behaviour.prompt}


def _response(
    model: str, behaviour: Behaviour, request: Document, status: str, output: list[Document]
) -> Document:
    done = status != "in_progress"
    said = behaviour.words + behaviour.reasoning_tokens
    usage = {
        "input_tokens": behaviour.prompt,
        "input_tokens_details": {"cached_tokens": behaviour.cached},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": behaviour.reasoning_tokens},
        "total_tokens": behaviour.prompt + said,
    }
    broken = {"code": "server_error", "message": f"The model {model} broke down."}
    document: Document = {
        "id": "resp_upstream1",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": broken if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "model": PATH if behaviour.private else model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if done and behaviour.usage != "missing" else None,
    }
    document |= {name: request[name] for name in _REPEATED if request.get(name) is not None}
    return document | PRIVATE if behaviour.private else document


def _told(model: str, behaviour: Behaviour, request: Document) -> list[Told]:
    """What is said, in order."""
    told = [_thoughts(behaviour, request)] if behaviour.reasoning else []
    tools = request.get("tools") or []
    if any(str(tool.get("type")).startswith("web_search") for tool in tools):
        told.append(_search())
    if any(tool.get("type") == "code_interpreter" for tool in tools):
        told.append(_code())
    given = request["input"] if isinstance(request.get("input"), list) else []
    answered = sum(item.get("type") in _RESULTS for item in given)
    callable_ = [tool for tool in tools if tool.get("type") in ("function", "custom")]
    if behaviour.tools and callable_ and not (given and given[-1].get("type") in _RESULTS):
        named = [{**tool, "name": called(tool["name"], behaviour)} for tool in callable_]
        return told + [_call(tool, n, answered + n) for n, tool in enumerate(named, start=1)]
    format_ = (request.get("text") or {}).get("format") or {}
    cited = any(item["type"] == "code_interpreter_call" for item, _ in told)
    return [*told, _message(spoken(model, behaviour, format_.get("schema")), behaviour, cited=cited)]


def _opened(item: Document) -> Document:
    """An item as it is announced."""
    said: Document = {"content": [], "summary": [], "arguments": "", "input": "", "code": ""}
    said["status"] = "in_progress"
    made = {name: said.get(name, member) for name, member in item.items()}
    made.pop("encrypted_content", None)
    return made


def _thoughts(behaviour: Behaviour, request: Document) -> Told:
    """Reasoning: told as it is by "reasoning=content", else summarized; encrypted where that is asked for."""
    as_it_is = behaviour.reasoning == "content"
    list_, type_ = ("content", "reasoning_text") if as_it_is else ("summary", "summary_text")
    text_events = "reasoning_text" if as_it_is else "reasoning_summary_text"
    part_events = "content_part" if as_it_is else "reasoning_summary_part"
    place, part = {f"{list_}_index": 0}, {"type": type_, "text": "".join(THOUGHT)}
    item: Document = {"id": "rs_upstream1", "type": "reasoning", "summary": [], list_: [part]}
    if ENCRYPTED in (request.get("include") or ()):
        item["encrypted_content"] = "gAAA-upstream"
    return item, [
        _event(f"{part_events}.added", **place, part=part | {"text": ""}),
        *(_event(f"{text_events}.delta", **place, delta=word) for word in THOUGHT),
        _event(f"{text_events}.done", **place, text=part["text"]),
        _event(f"{part_events}.done", **place, part=part),
    ]


def _search() -> Told:
    item = {"id": "ws_upstream1", "type": "web_search_call", "status": "completed"}
    steps = ("in_progress", "searching", "completed")
    return item | {"action": {"type": "search", "query": "words"}}, [
        _event(f"web_search_call.{step}") for step in steps
    ]


def _code() -> Told:
    item: Document = {"id": "ci_upstream1", "type": "code_interpreter_call", "status": "completed"}
    item |= {"code": "print(1)", "container_id": "cntr_upstream1", "outputs": None}
    deltas = [_event("code_interpreter_call_code.delta", delta=piece) for piece in ("print", "(1)")]
    return item, [*deltas, _event("code_interpreter_call_code.done", code="print(1)")]


def _call(tool: Document, number: int, unique: int) -> Told:
    """A call of the tool; `unique` tells it from those that the input has."""
    if tool["type"] == "custom":
        name, events_name, said = "input", "custom_tool_call_input", "some input"
        item = {"id": f"ctc_upstream{number}", "type": "custom_tool_call"}
    else:
        name, events_name, said = "arguments", "function_call_arguments", sample(tool.get("parameters"))
        item = {"id": f"fc_upstream{number}", "type": "function_call"}
    item |= {"status": "completed", "call_id": f"call_{unique}", "name": tool["name"], name: said}
    half = len(said) // 2
    return item, [
        *(_event(f"{events_name}.delta", delta=piece) for piece in (said[:half], said[half:])),
        _event(f"{events_name}.done", **{name: said}),
    ]


def _message(said: list[str], behaviour: Behaviour, *, cited: bool) -> Told:
    text, place = "".join(said), {"content_index": 0}
    annotations: list[Document] = []
    if cited:
        where = {"container_id": "cntr_upstream1", "file_id": "cfile_upstream1", "filename": "words.txt"}
        annotations.append({"type": "container_file_citation", **where, "start_index": 0, "end_index": 2})
    part = {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}
    status = "incomplete" if behaviour.ends == "incomplete" else "completed"
    item = {
        "id": "msg_upstream1",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [part],
    }
    notes = [
        _event("output_text.annotation.added", **place, annotation_index=index, annotation=annotation)
        for index, annotation in enumerate(annotations)
    ]
    return item | {"content": [part]}, [
        _event("content_part.added", **place, part=part | {"text": "", "annotations": []}),
        *(_event("output_text.delta", **place, delta=word, logprobs=[]) for word in said),
        *notes,
        _event("output_text.done", **place, text=text, logprobs=[]),
        _event("content_part.done", **place, part=part),
    ]
