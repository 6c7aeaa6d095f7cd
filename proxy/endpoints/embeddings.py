"""`/embeddings`."""

from __future__ import annotations

from proxy import call
from proxy.call import Call, InvalidBody
from proxy.usage import estimate_input

# What chatgpt-proxy takes where none is named; its bodies bear a `security_key`.
OLDER_MODEL = "text-embedding-3-large"
_OLDER_MEMBERS = ("model", "input", "dimensions", "encoding_format", "security_key")


def parse(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """The call, and the `security_key` of its body. Raises InvalidBody."""
    fields, older = call.parse_fields(body), None
    if "security_key" in fields:  # Its bodies may bear the caller's own account, which it never heeded here.
        fields, older = {name: fields[name] for name in _OLDER_MEMBERS if name in fields}, OLDER_MODEL
    if "input" not in fields:
        raise InvalidBody("You must provide an 'input'.", "input")
    if call.string(fields, "encoding_format", "float") not in ("float", "base64"):
        raise InvalidBody("'encoding_format' must be 'float' or 'base64'.", "encoding_format")
    made = Call(
        endpoint="embeddings",
        path="/embeddings",
        model=call.model_name(call.string(fields, "model"), older),
        stream=False,
        fields=fields,
        input_tokens_estimate=estimate_input(body),
    )
    return made, call.string(fields, "security_key")
