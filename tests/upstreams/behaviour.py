"""How the scripted upstream behaves for one call, said in the name of the model.

`gpt-test` behaves well; `gpt-test+cut=3+crlf` breaks its connection after three events, whose lines
end in CRLF. Options without a value are switches; a name may carry any text as `tag=…`, to be told
from others in the log. What each does stands at its field below.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from typing import Any


class UnknownOption(ValueError):
    """A test misspelt an option."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Defaults are the good server's. Positions count the events of a stream from 1; times are ms."""

    # Before the answer
    status: int = 200  # answers this error, if not 200
    error: str = "openai"  # its body: openai | detail | integer_code | text | empty | leaky (key and address)
    retry_after: str = ""  # its header, if any
    location: str = ""  # a Location header, for redirects
    fail: int = 0  # the first so many calls of this very name answer `status`, or 500; later ones are well
    delay: int = 0  # waits before the status
    hang: bool = False  # reads the request and never answers
    refuse: bool = False  # breaks the connection instead of answering

    # What is said
    words: int = 5  # length of the answer, in events of a stream
    huge: int = 0  # each word has so many bytes more
    prompt: int = 11  # usage: input tokens
    cached: int = 3  # usage: of which cached
    reasoning_tokens: int = 0  # usage: of the output tokens
    usage: str = "own_chunk"  # own_chunk (when asked) | always | last_choice | missing | null
    reasoning: str = ""  # thinks first: in a chat's field of this name; responses: "content" or as a summary
    tools: bool = False  # calls every tool that it is given, until the newest of the input is a result
    schema: bool = False  # keeps to the JSON schema that it is given
    ends: str = ""  # failed | incomplete | error: how a response ends; a chat knows incomplete only
    leaks: bool = False  # lets control tokens of gpt-oss through: three in a text, one in a tool's name
    noencrypted: bool = False  # responses: refuses to encrypt its reasoning
    chatonly: int = 0  # answers this status on /responses: 404 | 405 | 501
    counts: bool = False  # has /responses/input_tokens
    sparse: bool = False  # responses: leaves out what llama.cpp does, and the output in the end
    private: bool = False  # model is a file's path; timings, token_ids, kv_transfer_params are in the answer
    spaces: bool = False  # JSON as `"id": "x"`
    escaped: bool = False  # the words hold quotes, backslashes, line separators and the model's own name
    null_first: bool = False  # the first delta has content null
    ignore_format: bool = False  # embeddings are floats whatever was asked
    seconds: str = "2.5"  # audio: length reported
    tag: str = ""  # means nothing

    # How it goes over the wire, and how it ends
    pace: int = 0  # pause between events
    crlf: bool = False  # lines of events end in CRLF
    cr: bool = False  # lines of events end in CR
    piece: int = 0  # writes so many bytes at a time, whatever they are part of
    comments: bool = False  # a comment line before each event
    cut: int = 0  # breaks the connection after this event (JSON: in the middle of the body)
    end: int = 0  # ends the body cleanly after this event, with nothing said of an end
    hang_after: int = 0  # falls silent after this event
    error_after: int = 0  # after this event an error event, then the end
    nodone: bool = False  # ends cleanly without [DONE]
    garbage: bool = False  # a 200 whose body is HTML
    encoding: str = ""  # content-encoding that the body does not have


_FIELDS: dict[str, Field[Any]] = {field.name: field for field in fields(Behaviour)}


def parse(model: str) -> Behaviour:
    """What the options in a model's name mean; raises UnknownOption."""
    chosen: dict[str, object] = {}
    for option in model.split("+")[1:]:
        name, _, value = option.partition("=")
        if name not in _FIELDS:
            raise UnknownOption(f"{name!r} in {model!r}; there are: {', '.join(_FIELDS)}")
        kind: Any = type(_FIELDS[name].default)
        chosen[name] = True if kind is bool else kind(value)
    return Behaviour(**chosen)  # type: ignore[arg-type]  # each value has its field's own type
