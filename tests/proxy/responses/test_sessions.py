"""Sessions of several turns, as well-known clients hold them: what the chat server is asked, turn by turn,
and what the client reads of its answers.

The shapes are those of their sources in 2026-11, the texts our own: Codex, codex-rs/protocol/src/models.rs;
Vercel's AI SDK, packages/openai/src/responses.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from proxy import sse
from proxy.call import NotOffered
from proxy.responses.items import input_items, unanswered
from proxy.responses.to_chat import to_chat
from tests import open_responses
from tests.proxy.responses.test_fields import native
from tests.proxy.responses.transcripts import call, delta, events, fields, run, usage_chunk

Document = dict[str, Any]


def turn(asked: Document, transcript: bytes) -> tuple[Document, list[Document]]:
    """What the chat server is asked, and the events that the client gets of its answer."""
    wanted = fields(**asked)
    assert unanswered(input_items(wanted["input"])) is None
    chat = {name: msgspec.json.decode(raw) for name, raw in to_chat(wanted, "local").items()}
    return chat, events(run(transcript, asked=wanted)[0])


def done(told: list[Document]) -> list[Document]:
    """The items that are whole, as a client that keeps its own history collects them."""
    return [event["item"] for event in told if event["type"] == "response.output_item.done"]


def said(role: str, text: str) -> Document:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def thinks(text: str) -> bytes:
    return b"".join(delta(reasoning_content=word) for word in text.split(" "))


def function(name: str, **properties: Document) -> Document:
    parameters = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"type": "function", "name": name, "description": f"{name}.", "parameters": parameters}


# Codex: no state at the gateway, its own history, items without their ids.

PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch hunk+ end_patch"},
}
SHELL = {**function("exec_command", cmd={"type": "string"}), "strict": False}
CODEX: Document = {
    "model": "gpt-oss-120b",
    "instructions": "You are a coding agent.",
    "tools": [SHELL, {**function("update_plan"), "strict": False}, PATCH],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01990f5c-0000-7000-8000-000000000000",
    "text": {"verbosity": "low"},
}
BEGUN = [
    said("developer", "<permissions>Ask before you write.</permissions>"),
    said("user", "<environment_context><cwd>/src</cwd></environment_context>"),
    said("user", "Fix the typo."),
]
LOOKS = (
    thinks("Look first.")
    + call(0, "call_1", "exec_command", '{"cmd":')
    + call(0, arguments='"ls"}')
    + delta(finish="tool_calls")
    + usage_chunk()
    + sse.DONE
)
EDIT = "*** Begin Patch\n+fixed\n*** End Patch"
PATCHES = (
    thinks("Now patch.")
    + call(0, "call_2", "apply_patch", json.dumps({"input": EDIT}))
    + delta(finish="tool_calls")
    + sse.DONE
)


def as_codex_sends(item: Document, *, openly: bool = True) -> Document:
    """Without ids. Reasoning goes with what it says, or, by older versions, with its summary alone."""
    kept = {name: member for name, member in item.items() if name not in ("id", "status")}
    if item["type"] == "reasoning":
        kept["encrypted_content"] = item.get("encrypted_content")
        kept["content"] = kept["content"] if openly else None
    return kept


def codex_history(*, openly: bool = True) -> list[Document]:
    """The input of the third turn, put together from the first two as the client does."""
    first = done(turn({**CODEX, "input": BEGUN}, LOOKS)[1])
    answered = {"type": "function_call_output", "call_id": "call_1", "output": "README.md"}
    second_input = [*BEGUN, *(as_codex_sends(item, openly=openly) for item in first), answered]
    second = done(turn({**CODEX, "input": second_input}, PATCHES)[1])
    patched = {"type": "custom_tool_call_output", "call_id": "call_2", "output": "Done!"}
    return [*second_input, *(as_codex_sends(item, openly=openly) for item in second), patched]


def test_codex_reads_calls_of_its_tools() -> None:
    kinds = [(item["type"], item.get("call_id")) for item in codex_history()[3:]]
    assert kinds == [
        ("reasoning", None),
        ("function_call", "call_1"),
        ("function_call_output", "call_1"),
        ("reasoning", None),
        ("custom_tool_call", "call_2"),
        ("custom_tool_call_output", "call_2"),
    ]
    assert codex_history()[7]["input"] == EDIT


def test_codexs_history_reaches_the_chat_server() -> None:
    chat, _ = turn({**CODEX, "input": codex_history()}, delta(content="Fixed.", finish="stop"))
    assert [message["role"] for message in chat["messages"]] == [
        *("system", "user", "user", "assistant", "tool", "assistant", "tool")
    ]
    assert chat["messages"][0]["content"].startswith("You are a coding agent.\n\n<permissions>")
    assert [message["content"] for message in chat["messages"] if message["role"] == "tool"] == [
        "README.md",
        "Done!",
    ]
    patch = chat["messages"][5]["tool_calls"][0]["function"]
    assert (patch["name"], json.loads(patch["arguments"])) == ("apply_patch", {"input": EDIT})


@pytest.mark.parametrize("openly", [True, False])
def test_the_model_gets_its_reasoning_back_within_codexs_tool_loop(openly: bool) -> None:
    chat, _ = turn({**CODEX, "input": codex_history(openly=openly)}, delta(content="Fixed.", finish="stop"))
    thoughts = [m["reasoning_content"] for m in chat["messages"] if "reasoning_content" in m]
    assert thoughts == ["Lookfirst.", "Nowpatch."]


def test_codexs_next_question_leaves_the_reasoning_behind() -> None:
    asked = [*codex_history(), said("assistant", "Fixed."), said("user", "Thanks. And the other?")]
    chat, _ = turn({**CODEX, "input": asked}, delta(content="Fixed too.", finish="stop"))
    assert "reasoning_content" not in json.dumps(chat["messages"])


def test_codexs_request_leaves_nothing_out_that_chat_has() -> None:
    chat, _ = turn({**CODEX, "input": BEGUN}, LOOKS)
    assert chat["reasoning_effort"] == "medium"
    assert chat["verbosity"] == "low"
    assert chat["parallel_tool_calls"] is False
    assert chat["prompt_cache_key"] == CODEX["prompt_cache_key"]
    assert [tool["function"]["name"] for tool in chat["tools"]] == [
        "exec_command",
        "update_plan",
        "apply_patch",
    ]
    assert "start: begin_patch" in chat["tools"][2]["function"]["description"]
    assert {"store", "include", "instructions", "input", "text", "reasoning"}.isdisjoint(chat)


def test_codex_reads_the_end_of_a_turn() -> None:
    _, told = turn({**CODEX, "input": BEGUN}, LOOKS)
    assert told[0]["type"] == "response.created"
    assert told[-1]["type"] == "response.completed"
    assert told[-1]["response"]["id"] == told[0]["response"]["id"]
    usage = told[-1]["response"]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] == 16
    summary = [event["delta"] for event in told if event["type"] == "response.reasoning_summary_text.delta"]
    assert summary == ["Look", "first."]


def test_reasoning_that_another_model_encrypted_is_dropped_for_a_chat_server() -> None:
    sealed: Document = {"type": "reasoning", "summary": [], "content": None, "encrypted_content": "gAAAAA"}
    asked = [said("user", "Hi"), sealed, {**codex_history()[4], "call_id": "call_9"}]
    asked.append({"type": "function_call_output", "call_id": "call_9", "output": "ok"})
    chat, _ = turn({**CODEX, "input": asked}, delta(content="Fixed.", finish="stop"))
    assert [message["role"] for message in chat["messages"]] == ["system", "user", "assistant", "tool"]
    assert "gAAAAA" not in json.dumps(chat)


@pytest.mark.parametrize(
    "tool", [{"type": "local_shell"}, {"type": "web_search", "external_web_access": False}]
)
def test_codexs_tools_that_need_the_upstream_are_refused_where_it_has_none(tool: Document) -> None:
    with pytest.raises(NotOffered, match=rf"'local' has no tool of type '{tool['type']}'"):
        turn({**CODEX, "input": BEGUN, "tools": [*CODEX["tools"], tool]}, LOOKS)


def test_a_native_upstream_gets_codexs_request_as_it_is() -> None:
    unknown = [{"type": "local_shell"}, {"type": "web_search"}, {"type": "tomorrows_tool", "a": [1]}]
    search = {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "a"}}
    asked = {**CODEX, "input": [*codex_history(), search], "tools": [*CODEX["tools"], *unknown]}
    sent = native(asked)
    for item in sent["input"]:
        item.pop("id", None)
    assert sent == asked


def test_codex_is_told_of_a_stream_that_broke() -> None:
    wanted = fields(**CODEX, input=BEGUN)
    _, whole = run(thinks("Look first.") + delta(finish="length"), asked=wanted)
    assert whole["status"] == "incomplete"
    assert whole["output"][0]["status"] == "incomplete"


# The AI SDK: several steps, each with the items before it, which it names by their ids once they are stored.

WEATHER = function("weather", city={"type": "string"})
AI_SDK: Document = {
    "model": "gpt-oss-20b",
    "tools": [WEATHER],
    "tool_choice": "auto",
    "reasoning": {"effort": "low", "summary": "auto"},
    "stream": True,
}
ASKED: list[Document] = [
    {"role": "system", "content": "Answer in a word."},
    {"role": "user", "content": [{"type": "input_text", "text": "Vienna and Graz?"}]},
]
STEP_ONE = (
    thinks("Two cities.")
    + delta(content="One moment.")
    + call(0, "call_v", "weather", '{"city":"Vienna"}')
    + call(1, "call_g", "weather", '{"city":"Graz"}')
    + delta(finish="tool_calls")
    + sse.DONE
)
STEP_TWO = (
    delta(role="assistant", content="Sunny") + delta(content=" twice.") + delta(finish="stop") + sse.DONE
)
RESULTS = [
    {"type": "function_call_output", "call_id": "call_v", "output": '{"sky":"clear"}'},
    {"type": "function_call_output", "call_id": "call_g", "output": '{"sky":"clear"}'},
]


def resolved(references: list[Document], stored: list[Document]) -> list[Document]:
    """The items that are meant, as the gateway's store gives them back."""
    by_id = {item["id"]: item for item in stored}
    return [by_id[item["id"]] if item.get("type") == "item_reference" else item for item in references]


def second_step() -> list[Document]:
    stored = done(turn({**AI_SDK, "input": ASKED}, STEP_ONE)[1])
    references = [{"type": "item_reference", "id": item["id"]} for item in stored]
    return resolved([*ASKED, *references, *RESULTS], stored)


def test_the_ai_sdks_second_step_holds_the_first() -> None:
    chat, _ = turn({**AI_SDK, "input": second_step()}, STEP_TWO)
    assert [message["role"] for message in chat["messages"]] == [
        *("system", "user", "assistant", "tool", "tool")
    ]
    assistant = chat["messages"][2]
    assert assistant["content"] == "One moment."
    assert assistant["reasoning_content"] == "Twocities."
    assert [made["id"] for made in assistant["tool_calls"]] == ["call_v", "call_g"]
    assert [message["tool_call_id"] for message in chat["messages"][3:]] == ["call_v", "call_g"]


def test_the_ai_sdk_can_name_each_item_by_one_id() -> None:
    _, told = turn({**AI_SDK, "input": ASKED}, STEP_ONE)
    stored = {item["id"] for item in told[-1]["response"]["output"]}
    named = {event["item_id"] for event in told if "item_id" in event}
    assert named == stored == {item["id"] for item in done(told)}
    assert len(stored) == 4


@pytest.mark.parametrize("usage", [b"", usage_chunk()])
def test_the_ai_sdk_finds_numbers_for_its_usage(usage: bytes) -> None:
    transcript = STEP_TWO.replace(sse.DONE, usage + sse.DONE)
    _, told = turn({**AI_SDK, "input": second_step()}, transcript)
    counts = told[-1]["response"]["usage"]
    numbers = [counts["input_tokens"], counts["output_tokens"], counts["total_tokens"]]
    numbers += [counts["input_tokens_details"]["cached_tokens"]]
    numbers += [counts["output_tokens_details"]["reasoning_tokens"]]
    assert [type(number) for number in numbers] == [int] * 5
    assert counts["input_tokens"] > 0


def test_the_ai_sdk_is_shown_each_step_as_it_happens() -> None:
    _, told = turn({**AI_SDK, "input": ASKED}, STEP_ONE)
    kinds = [event["type"].removeprefix("response.") for event in told]
    assert kinds.index("reasoning_summary_text.delta") < kinds.index("output_text.delta")
    assert kinds.index("output_text.delta") < kinds.index("function_call_arguments.delta")
    added = [event["item"]["type"] for event in told if event["type"] == "response.output_item.added"]
    assert added == ["reasoning", "message", "function_call", "function_call"]


@pytest.mark.parametrize("transcript", [LOOKS, STEP_ONE, STEP_TWO])
def test_each_turn_keeps_the_open_responses_schema(transcript: bytes) -> None:
    asked = {**AI_SDK, "input": ASKED, "store": False}
    stream, whole = run(transcript, asked=fields(**asked))
    assert open_responses.stream_faults(stream) == []
    assert open_responses.faults(whole, "ResponseResource") == []
