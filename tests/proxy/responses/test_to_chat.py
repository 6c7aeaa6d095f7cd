"""A Responses request as a chat server gets it, and what is refused because Chat has no form for it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.chat import completion_create_params
from pydantic import TypeAdapter

from proxy.call import InvalidBody, NotOffered
from proxy.responses.to_chat import to_chat
from tests.proxy.responses.transcripts import fields

Document = dict[str, Any]

FUNCTION = {"type": "function", "name": "get_weather", "description": "The weather.", "strict": True}
FUNCTION |= {"parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
OTHER = {"type": "function", "name": "get_time"}
CUSTOM = {"type": "custom", "name": "patch", "description": "Applies a patch."}
CALL = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
THOUGHT = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
ENCRYPTED = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
HOSTED = [
    "web_search",
    "web_search_preview",
    "web_search_2025_08_26",
    "file_search",
    "code_interpreter",
    "mcp",
    "image_generation",
    "computer",
    "computer_use_preview",
    "local_shell",
    "shell",
    "apply_patch",
    "tool_search",
    "namespace",
    "tomorrows_tool",
]


def chat(**asked: object) -> Document:
    made = to_chat(fields(**{"model": "m", "input": "Hi", **asked}), "gpt-oss")
    return {name: json.loads(bytes(raw)) for name, raw in made.items()}


def messages(*items: Document, **asked: object) -> list[Document]:
    found: list[Document] = chat(input=list(items), **asked)["messages"]
    return found


def said(role: str, content: object) -> Document:
    return {"role": role, "content": content}


# Messages.


def test_a_string_is_what_the_user_says() -> None:
    assert chat(input="Hi")["messages"] == [said("user", "Hi")]


def test_instructions_come_first() -> None:
    made = messages(said("user", "Hi"), instructions="Be kind.")
    assert made == [said("system", "Be kind."), said("user", "Hi")]


def test_a_developer_is_the_system_to_a_chat_server() -> None:
    assert messages(said("user", "Hi"), said("developer", "Stop."))[1] == said("system", "Stop.")


def test_what_the_system_says_at_the_beginning_is_one_message() -> None:
    given = [said("developer", "a"), said("system", [{"type": "input_text", "text": "b"}]), said("user", "c")]
    made = messages(*given, said("system", "later"), instructions="first")
    assert made == [said("system", "first\n\na\n\nb"), said("user", "c"), said("system", "later")]


def test_pictures_sounds_and_files_go_along() -> None:
    (message,) = messages(
        said(
            "user",
            [
                {"type": "input_text", "text": "See:"},
                {"type": "input_image", "image_url": "https://a.test/a.png", "detail": "high"},
                {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
            ],
        )
    )
    assert message["content"] == [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "https://a.test/a.png", "detail": "high"}},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
    ]


def test_a_detail_that_chat_does_not_know_is_high() -> None:
    (message,) = messages(said("user", [{"type": "input_image", "image_url": "x", "detail": "original"}]))
    assert message["content"][0]["image_url"]["detail"] == "high"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_file", "file_url": "https://a.test/a.pdf"},
    ],
)
def test_a_file_that_is_not_sent_is_refused(part: Document) -> None:
    for item in (said("user", [part]), {**OUTPUT, "output": [part]}):
        with pytest.raises(NotOffered, match=part["type"]) as caught:
            messages(CALL, item)
        assert caught.value.param == "input"


def test_a_picture_without_an_address_is_refused_by_its_place() -> None:
    with pytest.raises(InvalidBody, match=r"input\[0\].content\[0\].image_url"):
        messages(said("user", [{"type": "input_image", "detail": "low"}]))


def test_a_refusal_is_what_the_assistant_said() -> None:
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert messages(refused) == [said("assistant", "No.")]


def test_a_round_of_tools_is_a_call_and_its_output() -> None:
    made = messages(said("user", "Hi"), CALL, OUTPUT)
    function = {"name": "get_weather", "arguments": "{}"}
    call = {"id": "call_1", "type": "function", "function": function}
    assert made[1:] == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    ]


def test_reasoning_goes_back_while_tools_are_being_called() -> None:
    made = messages(said("user", "Hi"), THOUGHT, CALL, OUTPUT)
    assert made[1]["reasoning_content"] == "Hm."


def test_reasoning_from_before_the_user_spoke_stays_behind() -> None:
    made = messages(said("user", "Hi"), THOUGHT, CALL, OUTPUT, said("user", "And?"))
    assert [message for message in made if "reasoning_content" in message] == []


def test_reasoning_of_a_message_without_calls_stays_behind() -> None:
    made = messages(said("user", "Hi"), THOUGHT, said("assistant", "Yes"))
    assert made == [said("user", "Hi"), said("assistant", "Yes")]


def test_reasoning_that_is_encrypted_is_dropped() -> None:
    made = messages(said("user", "Hi"), ENCRYPTED, CALL, OUTPUT)
    assert [message["role"] for message in made] == ["user", "assistant", "tool"]
    assert "gAAAA" not in json.dumps(made)


def test_what_a_hosted_tool_did_is_told_in_words() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "tides"}}
    (_, told) = messages(said("user", "Hi"), search)
    assert told == said("assistant", '[web_search_call] {"action":{"query":"tides"}}')


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "compaction", "encrypted_content": "a"},
        {"type": "compaction_trigger"},
        {"type": "additional_tools", "role": "developer", "tools": []},
    ],
)
def test_an_item_that_asks_for_what_chat_cannot_do_is_refused(item: Document) -> None:
    with pytest.raises(NotOffered, match=f"'{item['type']}'"):
        messages(item)


def test_instructions_must_be_a_string() -> None:
    with pytest.raises(InvalidBody, match="'instructions'"):
        chat(instructions=[said("user", "Hi")])


# Tools.


def test_a_function_is_offered_as_chat_has_it() -> None:
    function = {name: FUNCTION[name] for name in ("name", "description", "parameters", "strict")}
    assert chat(tools=[FUNCTION])["tools"] == [{"type": "function", "function": function}]


def test_a_function_without_parameters_takes_none() -> None:
    (tool,) = chat(tools=[{**OTHER, "parameters": None, "strict": None}])["tools"]
    assert tool["function"] == {"name": "get_time", "parameters": {"type": "object", "properties": {}}}


def test_a_custom_tool_is_a_function_of_one_string() -> None:
    (tool,) = chat(tools=[CUSTOM])["tools"]
    assert tool["function"]["name"] == "patch"
    assert tool["function"]["parameters"]["properties"] == {"input": {"type": "string"}}
    assert tool["function"]["parameters"]["required"] == ["input"]


def test_a_custom_tools_grammar_is_told_to_the_model() -> None:
    format_ = {"type": "grammar", "syntax": "lark", "definition": "start: /a+/"}
    (tool,) = chat(tools=[{**CUSTOM, "format": format_}])["tools"]
    assert tool["function"]["description"].startswith("Applies a patch.")
    assert "lark" in tool["function"]["description"]
    assert tool["function"]["description"].endswith("start: /a+/")


def test_a_custom_tools_call_is_a_call_of_that_function() -> None:
    call = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": 'a "b"'}
    made = messages(
        said("user", "Hi"), call, {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}
    )
    (told,) = made[1]["tool_calls"]
    assert told["type"] == "function"
    assert json.loads(told["function"]["arguments"]) == {"input": 'a "b"'}
    assert made[2] == {"role": "tool", "tool_call_id": "c", "content": "ok"}


@pytest.mark.parametrize("type_", HOSTED)
def test_a_tool_of_the_upstreams_own_is_refused_by_name(type_: str) -> None:
    with pytest.raises(NotOffered) as caught:
        chat(tools=[FUNCTION, {"type": type_, "name": "x"}])
    assert caught.value.param == "tools"
    assert f"'{type_}'" in str(caught.value)
    assert "'gpt-oss'" in str(caught.value)


def test_a_choice_of_a_tool_of_the_upstreams_own_is_refused_by_name() -> None:
    with pytest.raises(NotOffered, match="'file_search'") as caught:
        chat(tools=[FUNCTION], tool_choice={"type": "file_search"})
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_a_plain_choice_is_the_same_in_chat(choice: str) -> None:
    assert chat(tools=[FUNCTION], tool_choice=choice)["tool_choice"] == choice


@pytest.mark.parametrize("tool", [FUNCTION, CUSTOM])
def test_a_named_choice_names_a_function(tool: Document) -> None:
    made = chat(tools=[FUNCTION, CUSTOM], tool_choice={"type": tool["type"], "name": tool["name"]})
    assert made["tool_choice"] == {"type": "function", "function": {"name": tool["name"]}}


def test_allowed_tools_are_the_only_ones_offered() -> None:
    choice = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "get_time"}],
    }
    made = chat(tools=[FUNCTION, OTHER, CUSTOM], tool_choice=choice)
    assert [tool["function"]["name"] for tool in made["tools"]] == ["get_time"]
    assert made["tool_choice"] == "required"


def test_allowed_tools_without_a_mode_are_a_free_choice() -> None:
    choice = {"type": "allowed_tools", "tools": [{"type": "custom", "name": "patch"}]}
    assert chat(tools=[FUNCTION, CUSTOM], tool_choice=choice)["tool_choice"] == "auto"


@pytest.mark.parametrize("choice", ["auto", "none"])
@pytest.mark.parametrize("tools", [[], None])
def test_without_tools_nothing_is_said_of_them(choice: str, tools: object) -> None:
    made = chat(tools=tools, tool_choice=choice, parallel_tool_calls=True)
    assert {"tools", "tool_choice", "parallel_tool_calls"}.isdisjoint(made)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": ["f"]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [FUNCTION, {"type": "custom", "name": ""}]}, "tools[1].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "absent"}}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.tools"),
        ({"text": "json"}, "text"),
        ({"text": {"format": "json"}}, "text"),
        ({"reasoning": "low"}, "reasoning"),
    ],
)
def test_what_is_of_the_wrong_shape_is_refused_by_its_place(asked: Document, param: str) -> None:
    with pytest.raises(InvalidBody) as caught:
        chat(**asked)
    assert caught.value.param == param


def test_a_number_that_is_none_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidBody, match="'text'"):
        to_chat({**fields(model="m", input="Hi"), "text": msgspec.Raw(b'{"a":1e999}')})


# The form of the answer.


def test_a_schema_is_the_response_format() -> None:
    format_ = {"type": "json_schema", "name": "day", "schema": {"type": "object"}, "strict": True}
    made = chat(text={"format": {**format_, "description": None}})
    schema = {"name": "day", "schema": {"type": "object"}, "strict": True}
    assert made["response_format"] == {"type": "json_schema", "json_schema": schema}


@pytest.mark.parametrize("text", [{}, {"format": {"type": "text"}}, {"format": None}])
def test_plain_text_needs_no_response_format(text: Document) -> None:
    assert "response_format" not in chat(text=text)


def test_a_format_that_chat_does_not_have_is_refused() -> None:
    with pytest.raises(NotOffered, match="'tomorrows'") as caught:
        chat(text={"format": {"type": "tomorrows"}})
    assert caught.value.param == "text.format"


def test_a_summary_alone_asks_for_no_effort() -> None:
    assert "reasoning_effort" not in chat(reasoning={"summary": "auto"})


def test_logprobs_that_nobody_wants_are_not_asked_for() -> None:
    assert "logprobs" not in chat(include=["reasoning.encrypted_content"], top_logprobs=0)


def test_what_it_makes_is_a_request_of_chat_completions() -> None:
    made = chat(
        input=[said("user", "Hi"), THOUGHT, CALL, OUTPUT],
        instructions="Be kind.",
        tools=[FUNCTION, CUSTOM],
        tool_choice={"type": "custom", "name": "patch"},
        text={"format": {"type": "json_schema", "name": "day", "schema": {}}, "verbosity": "low"},
        reasoning={"effort": "low"},
        max_output_tokens=99,
        top_logprobs=2,
    )
    TypeAdapter(completion_create_params.CompletionCreateParamsStreaming).validate_python(made)


def test_an_unnamed_upstream_is_the_models() -> None:
    with pytest.raises(NotOffered, match="This model's upstream has no tool of type 'mcp'"):
        to_chat(fields(model="m", input="Hi", tools=[{"type": "mcp"}]))
