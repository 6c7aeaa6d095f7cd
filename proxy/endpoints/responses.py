"""`/responses`, to upstreams that speak it. Nothing is stored: what would need a store is refused by name."""

from __future__ import annotations

from proxy import call
from proxy.call import Call, InvalidBody
from proxy.usage import estimate_input

# Members that name an object kept at an upstream, whose account tenants share.
_NEEDS_STORE = ("previous_response_id", "conversation")


def parse(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """The call, and the `security_key` of its body. Raises InvalidBody."""
    fields = call.parse_fields(body)
    for name in _NEEDS_STORE:
        if name in fields and bytes(fields[name]) != b"null":
            raise InvalidBody(f"'{name}' is not supported: this gateway does not store responses.", name)
    if call.boolean(fields, "background"):
        raise InvalidBody(
            "'background' is not supported: this gateway does not store responses.", "background"
        )
    made = Call(
        endpoint="responses",
        path="/responses",
        model=call.model_name(call.string(fields, "model")),
        stream=call.boolean(fields, "stream"),
        fields=fields,
        input_tokens_estimate=estimate_input(body),
    )
    return made, call.string(fields, "security_key")
