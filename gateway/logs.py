"""Log records as JSON, one line of ASCII each, on standard error.

Only the message, where it came from, an exception's traceback and the mapping given as
`extra={"fields": {...}}` are written: never a request object, a body or a header.
"""

import json
import logging
import re
from datetime import UTC, datetime

import msgspec

_ODD = re.compile(r"[^\x00-\x7f]+")


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message"}`, then the fields and the traceback where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = msgspec.json.encode(line, enc_hook=str).decode()
        return text if text.isascii() else _ODD.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    """What is no ASCII: it may end a line, or turn what is shown of it round."""
    return json.dumps(found[0])[1:-1]
