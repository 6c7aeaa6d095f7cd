"""Reads the body of a request: one JSON document, within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from accounts.errors import ApiError

LARGEST_BODY = 1024 * 1024


class JsonBody(BaseParser):
    """Stricter than Python's: no NaN, no halves of surrogate pairs, nothing nested without end."""

    media_type = "application/json"

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = stream.read(LARGEST_BODY + 1)
        if len(body) > LARGEST_BODY:
            raise ApiError(413, "The body is larger than 1 MiB.", code="request_too_large")
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ParseError("The body is not one JSON document.") from None
