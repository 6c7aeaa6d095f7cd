"""Log records as JSON, one line each, on standard error.

Only the message, where it came from, an exception's traceback and the mapping given as
`extra={"fields": {...}}` are written: never a request object, a body or a header.
"""

import logging
from datetime import UTC, datetime

import msgspec


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
        return msgspec.json.encode(line, enc_hook=str).decode()
