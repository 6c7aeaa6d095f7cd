"""`/responses`, `/responses/input_tokens` and `/responses/compact`: what a Response would be made of."""

from __future__ import annotations

from django.conf import settings

from proxy import call
from proxy.call import Call, Fields, InvalidBody
from proxy.usage import estimate_input


def parse(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """The call, and the `security_key` of its body. Raises InvalidBody."""
    fields = call.parse_fields(body)
    if call.string(fields, "previous_response_id") and given(fields, "conversation"):
        raise InvalidBody("Give 'previous_response_id' or 'conversation', not both.", "conversation")
    call.metadata(fields)
    call.string(fields, "instructions")
    if call.boolean(fields, "background") and not call.boolean(fields, "store", default=True):
        raise InvalidBody("A 'background' response is stored: 'store' cannot be false.", "background")
    return _call("responses", "/responses", body, fields, stream=call.boolean(fields, "stream"))


def parse_count(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """As `parse`, for counting the tokens of an input."""
    path = "/responses/input_tokens"
    return _call("responses.input_tokens", path, body, call.parse_fields(body), stream=False)


def parse_compact(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """As `parse`, for making one item out of all that was said."""
    fields = call.parse_fields(body)
    if not given(fields, "input") and not given(fields, "previous_response_id"):
        raise InvalidBody("You must provide an 'input' or a 'previous_response_id'.", "input")
    return _call("responses.compact", "/responses", body, fields, stream=False)


def given(fields: Fields, name: str) -> bool:
    """Whether the member is there, and not null."""
    return bytes(fields.get(name, b"null")) != b"null"


def _call(endpoint: str, path: str, body: bytes, fields: Fields, *, stream: bool) -> tuple[Call, str | None]:
    key = call.string(fields, "security_key")
    made = Call(
        endpoint=endpoint,
        path=path,
        model=call.model_name(call.string(fields, "model"), settings.DEFAULT_MODEL),
        stream=stream,
        fields=fields,
        input_tokens_estimate=estimate_input(body),
        asked={name: value for name, value in fields.items() if name != "security_key"},
    )
    return made, key
