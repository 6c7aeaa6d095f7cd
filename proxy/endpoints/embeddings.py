"""`/embeddings`."""

from __future__ import annotations

from proxy import call
from proxy.call import Call, InvalidBody
from proxy.usage import estimate_input

# What chatgpt-proxy takes where none is named; its bodies bear a `security_key`.
OLDER_MODEL = "text-embedding-3-large"


def parse(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """The call, and the `security_key` of its body. Raises InvalidBody."""
    fields = call.parse_fields(body)
    if "input" not in fields:
        raise InvalidBody("You must provide an 'input'.", "input")
    if call.string(fields, "encoding_format", "float") not in ("float", "base64"):
        raise InvalidBody("'encoding_format' must be 'float' or 'base64'.", "encoding_format")
    made = Call(
        endpoint="embeddings",
        path="/embeddings",
        model=call.model_name(
            call.string(fields, "model"), OLDER_MODEL if "security_key" in fields else None
        ),
        stream=False,
        fields=fields,
        input_tokens_estimate=estimate_input(body),
    )
    return made, call.string(fields, "security_key")
