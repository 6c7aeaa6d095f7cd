"""THE table of a create request's fields: what becomes of each at an upstream that speaks Chat Completions
only, and at one that speaks Responses. Pure.

The fields are those of OpenAI's API reference ("Create a model response", version 2.3.0) and of the Open
Responses specification (2026-04-24). A field in neither goes upstream as it is: servers such as vLLM take
sampling options of their own. A field that is null asks for nothing.

`to_chat` goes by the column for Chat. The other is what proxy/before.py, proxy/wires.py and the dialect come
to; tests hold them to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from proxy.call import Fields, NotOffered


class Treatment(StrEnum):
    """What becomes of a field on its way upstream."""

    KEPT = "kept"  # goes on as it is
    MAPPED = "mapped"  # said in another way
    REFUSED = "refused"  # 400, by name
    DROPPED = "dropped"  # done here, or nothing to do


@dataclass(frozen=True, slots=True)
class Field:
    """A field's treatment by the kind of upstream, and why."""

    chat: Treatment
    native: Treatment
    why: str


KEPT, MAPPED, REFUSED, DROPPED = Treatment
FIELDS: dict[str, Field] = {
    "background": Field(DROPPED, DROPPED, "The gateway runs it in the background itself."),
    "context_management": Field(
        REFUSED, KEPT, "Compaction in mid-answer is the upstream's; /responses/compact works anywhere."
    ),
    "conversation": Field(DROPPED, DROPPED, "Its items come from the gateway's store, as `input`."),
    "frequency_penalty": Field(KEPT, KEPT, "The same in both languages."),
    "include": Field(
        MAPPED,
        MAPPED,
        "Chat: logprobs; the rest is of hosted tools. Native: encrypted reasoning too, if kept.",
    ),
    "input": Field(MAPPED, MAPPED, "Chat: messages. Native: items. Both with all that was said before."),
    "instructions": Field(MAPPED, KEPT, "Chat: the first system message."),
    "max_output_tokens": Field(MAPPED, KEPT, "Chat: max_tokens, which every server knows."),
    "max_tool_calls": Field(DROPPED, KEPT, "It counts calls of hosted tools, and Chat has none."),
    "metadata": Field(DROPPED, DROPPED, "Kept with the response in the gateway's store, and shown there."),
    "model": Field(KEPT, KEPT, "The route puts the upstream's own name for it."),
    "moderation": Field(REFUSED, KEPT, "A server that ignored it would leave the answer unchecked."),
    "parallel_tool_calls": Field(MAPPED, KEPT, "Chat: the same, but only beside tools."),
    "presence_penalty": Field(KEPT, KEPT, "The same in both languages."),
    "previous_response_id": Field(DROPPED, DROPPED, "Its items come from the gateway's store, as `input`."),
    "prompt": Field(
        REFUSED, REFUSED, "It names an object in an account that tenants share; a tenant's own gets it."
    ),
    "prompt_cache_key": Field(KEPT, KEPT, "The same in both languages."),
    "prompt_cache_options": Field(KEPT, KEPT, "The same in both languages."),
    "prompt_cache_retention": Field(KEPT, KEPT, "The same in both languages."),
    "reasoning": Field(
        MAPPED, KEPT, "Chat: reasoning_effort. What comes back is told as content and as summary."
    ),
    "safety_identifier": Field(KEPT, KEPT, "The same in both languages."),
    "service_tier": Field(KEPT, KEPT, "The same in both languages."),
    "store": Field(DROPPED, MAPPED, "The gateway stores; an upstream is told to keep nothing."),
    "stream": Field(MAPPED, KEPT, "Chat: always a stream, folded for a client that wants one answer."),
    "stream_options": Field(MAPPED, KEPT, "Chat: asks for usage; the gateway adds no obfuscation."),
    "temperature": Field(KEPT, KEPT, "The same in both languages."),
    "text": Field(MAPPED, KEPT, "Chat: response_format and verbosity."),
    "tool_choice": Field(MAPPED, KEPT, "Chat: the same; allowed_tools narrows the tools to those."),
    "tools": Field(MAPPED, KEPT, "Chat: functions, and custom tools as functions of one string."),
    "top_logprobs": Field(MAPPED, KEPT, "Chat: the same, with logprobs switched on."),
    "top_p": Field(KEPT, KEPT, "The same in both languages."),
    "truncation": Field(
        DROPPED,
        KEPT,
        "Chat servers refuse what does not fit, as 'disabled' wants; none has 'auto'.",
    ),
    "user": Field(KEPT, KEPT, "The same in both languages."),
}

# Chat's own fields that would ask for an answer of a shape that a Response has no place for.
CHAT_ONLY = frozenset({"messages", "n", "functions", "function_call", "modalities", "audio", "logprobs"})


def asked(fields: Fields) -> Fields:
    """The fields that ask for something: those that are not null."""
    return {name: raw for name, raw in fields.items() if bytes(raw) != b"null"}


def kept_for_chat(fields: Fields) -> Fields:
    """The fields that go on to Chat as they are: the kept and the unknown ones. Raises NotOffered."""
    for name in fields:
        if name in FIELDS and FIELDS[name].chat is REFUSED:
            raise NotOffered(f"'{name}' is not offered here. {FIELDS[name].why}", name)
    return {
        name: raw
        for name, raw in fields.items()
        if name not in CHAT_ONLY and (name not in FIELDS or FIELDS[name].chat is KEPT)
    }
