"""`/chat/completions` and the older `/completions`."""

from __future__ import annotations

from django.conf import settings

from proxy import call
from proxy.call import Call, Fields, InvalidBody
from proxy.usage import estimate_input


def parse_chat(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """The call, and the `security_key` of its body. Raises InvalidBody."""
    fields = call.parse_fields(body)
    _require_list(fields, "messages")
    return _call("chat.completions", "/chat/completions", body, fields)


def parse_completions(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """The call, and the `security_key` of its body. Raises InvalidBody."""
    return _call("completions", "/completions", body, call.parse_fields(body))


def _call(endpoint: str, path: str, body: bytes, fields: Fields) -> tuple[Call, str | None]:
    made = Call(
        endpoint=endpoint,
        path=path,
        model=call.model_name(call.string(fields, "model"), settings.DEFAULT_MODEL),
        stream=call.boolean(fields, "stream"),
        fields=fields,
        input_tokens_estimate=estimate_input(body),
        shows_usage=_asks_usage(fields),
        asked=fields,
    )
    return made, call.string(fields, "security_key")


def _require_list(fields: Fields, name: str) -> None:
    if not bytes(fields.get(name, b"")).startswith(b"["):
        raise InvalidBody(f"'{name}' must be an array.", name)


def _asks_usage(fields: Fields) -> bool:
    return call.boolean(call.members(fields, "stream_options"), "include_usage")
