"""Lines of the log: one each, whatever stands in it."""

from __future__ import annotations

import json
import logging

import pytest

from gateway.logs import JsonFormatter


@pytest.mark.parametrize(
    "text", ["plain", "a\nb\r\x1b[31m", "\x85\u2028\u2029", "\u202egpt\u202c", "日本 🎈", '"\\']
)
def test_it_is_one_line_that_says_what_was_written(text: str) -> None:
    record = logging.LogRecord("proxy", logging.INFO, "", 1, "call", None, None)
    record.fields = {"model": text}
    line = JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["model"] == text
