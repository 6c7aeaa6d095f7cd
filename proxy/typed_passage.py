"""A transcription's stream, whose events carry a `type`. Pure."""

from __future__ import annotations

import msgspec

from proxy import sse, usage
from proxy.call import Fields
from proxy.passage import Garbled, Passage, Truncated, value, without_private
from proxy.reported import UpstreamReported


class TranscriptPassage(Passage):
    """A transcription as it is heard: every event is looked at, for they are few."""

    marks = (b"",)
    terminal = frozenset({"transcript.text.done"})

    def __init__(self, answer_id: str, model: str) -> None:
        super().__init__(answer_id, model)
        self._ending = b""

    def end(self) -> bytes:
        if self._error is not None:
            raise UpstreamReported(self._error)
        if not self._ending:
            raise Truncated
        return self._ending

    def _look(self, event: bytes, document: Fields) -> bytes:
        type_ = _text(document.get("type")) or sse.name(event).decode(errors="replace")
        if type_ == "error" or (not type_ and "error" in document):
            return self._fail(value(document.get("error") or msgspec.Raw(msgspec.json.encode(document))))
        if not type_:
            raise Garbled
        if "usage" in document:
            self.usage = usage.read(value(document["usage"])) or self.usage
        written = sse.encode(msgspec.json.encode(without_private(document)), sse.name(event))
        if type_ not in self.terminal:
            return written
        self.finished = True
        self._ending = written
        return b""


def _text(raw: msgspec.Raw | None) -> str | None:
    text: object = value(raw) if raw is not None else None
    return text if isinstance(text, str) else None
