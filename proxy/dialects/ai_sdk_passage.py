"""The AI SDK's streams on their way to a client that reads Chat Completions chunks. Pure.

The data stream of AI SDK 3.4 to 4 is lines, `CODE:JSON` (ai 4.3.19, `packages/ui-utils/src/
data-stream-parts.ts`); the UI message stream of 5 and later is server-sent events (ai 7.0,
`src/ui-message-stream/ui-message-chunks.ts`, and what 5.0.0 had besides). An answer may take several steps,
with tools that the server runs between them: all of it is told. The endings:
  - the message was finished, or the last step was and the server tells no more   whole
  - the stream ends before, or the answer was aborted or `interrupted`            Truncated
  - an error, an end for the reason `error`, or what was said is taken back       UpstreamReported
  - what is not a part of this stream                                             Garbled
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from proxy import sse, usage
from proxy.chunk_passage import ChunkPassage, Told
from proxy.passage import Garbled
from proxy.usage import Usage

REASONS = {
    "stop": "stop",
    "length": "length",
    "content-filter": "content_filter",
    "tool-calls": "tool_calls",
    "other": "stop",
    "unknown": "stop",
}
BETWEEN_STEPS = "\n\n"
_ENDED_IN_ERROR = "The upstream's answer ended in an error."
_TAKEN_BACK = "The upstream took back what it had said."
# Parts of an answer that say nothing of how it goes on.
_SILENT = frozenset({"start", "start-step", "message-metadata"})
_CODE = re.compile(rb"[0-9a-z]:")

Document = dict[str, Any]


class LineSplitter:
    """Holds back what is not yet a whole line."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, piece: bytes) -> bytes:
        """The whole lines that `piece` completes. Raises OversizedEvent."""
        end = piece.rfind(b"\n") + 1
        lines = bytes(self._pending) + piece[:end] if end else b""
        if end:
            self._pending.clear()
        self._pending += piece[end:]
        if len(self._pending) > sse.MAX_EVENT_BYTES:
            raise sse.OversizedEvent
        return lines

    def rest(self) -> bytes:
        """A last line without its end."""
        return bytes(self._pending)


class AISDKPassage(ChunkPassage):
    """What both streams have in common: steps, tool calls, and why an answer ended."""

    def __init__(self, answer_id: str, model: str, told: Told) -> None:
        super().__init__(answer_id, model, told)
        self._ended: str | None = None  # why, as chat completions name it
        self._step = 0
        self._step_of_text = 0
        self._last = ""
        self._length = 0
        self._calls: dict[str, int] = {}  # by their ids, their places
        self._with_arguments: set[str] = set()
        self._unanswered: set[str] = set()

    def _reason(self) -> str | None:
        return self._ended

    def _tell(self, text: str) -> None:
        """Text of the answer. That of another step is set apart, where it does not begin apart."""
        if not text:
            return
        joined = self._last.isspace() or text[0].isspace() or not self._last
        if self._step_of_text != self._step and not joined:
            text = BETWEEN_STEPS + text
        self._step_of_text, self._last = self._step, text[-1]
        self._length += len(text)
        self._say(text)

    def _begin_call(self, part: Document, arguments: str = "") -> None:
        """A tool call that has not been told yet."""
        call_id = _text(part, "toolCallId")
        if call_id in self._calls:
            return
        self._calls[call_id] = len(self._calls)
        self._unanswered.add(call_id)
        if arguments:
            self._with_arguments.add(call_id)
        self._call_tool(self._calls[call_id], call_id, _text(part, "toolName"), arguments)

    def _go_on_with_call(self, call_id: str, piece: str) -> None:
        if piece and call_id in self._calls:
            self._with_arguments.add(call_id)
            self._add_arguments(self._calls[call_id], piece)

    def _finish_call(self, part: Document, arguments: Any) -> None:
        """A tool call whose arguments are all there: what was not told of it is told."""
        text = msgspec.json.encode({} if arguments is None else arguments).decode()
        call_id = _text(part, "toolCallId")
        self._begin_call(part, text)
        if call_id not in self._with_arguments:
            self._go_on_with_call(call_id, text)

    def _answer_call(self, part: Document) -> None:
        self._unanswered.discard(_text(part, "toolCallId"))

    def _cite_source(self, part: Document) -> None:
        if url := _text(part, "url"):
            self._cite(url, _text(part, "title"), self._length)

    def _show_file(self, media_type: str, url: str) -> None:
        """A file that the model made; chat completions have a place for images only."""
        if media_type.startswith("image/") and url:
            self._show_image(url)

    def _end(self, reason: str) -> None:
        """The message is finished; without a `reason` it waits for its tools, or has said all."""
        if reason == "error":
            self._fail({"message": _ENDED_IN_ERROR})
            return
        if reason == "interrupted":  # The model's own stream ended before it was whole.
            self.finished = True
            return
        self._ended = REASONS.get(reason) or ("tool_calls" if self._unanswered else "stop")


class DataStreamPassage(AISDKPassage):
    """The stream of AI SDK 4."""

    frame_end = b"\n"

    def __init__(self, answer_id: str, model: str, told: Told) -> None:
        super().__init__(answer_id, model, told)
        self.splitter = LineSplitter()

    def _frames(self, events: bytes) -> list[bytes]:
        return [line for each in events.split(b"\n") if (line := each.strip())]

    def _read(self, frame: bytes) -> None:
        if not _CODE.match(frame):
            raise Garbled
        code, data = frame[:1], frame[2:]
        if code in b"0gf9b":  # It goes on: what ended was a step.
            self._ended = None
        if code in b"0g3":
            self._read_text(code, _decoded(data, str))
        elif code in b"9abcdehk":
            # JavaScript writes numbers that it does not have as null, and careless servers as they are.
            self._read_part(
                code, _decoded(data.replace(b":NaN", b":null") if code in b"de" else data, Document)
            )

    def _read_text(self, code: bytes, text: str) -> None:
        if code == b"3":
            self._fail({"message": text or _ENDED_IN_ERROR})
            return
        if code == b"0":
            self._tell(text)
        else:
            self._think(text, self._step)

    def _read_part(self, code: bytes, part: Document) -> None:
        if code == b"9":
            self._finish_call(part, part.get("args"))
        elif code == b"a":
            self._answer_call(part)
        elif code == b"b":
            self._begin_call(part)
        elif code == b"c":
            self._go_on_with_call(_text(part, "toolCallId"), _text(part, "argsTextDelta"))
        elif code == b"h":
            self._cite_source(part)
        elif code == b"k":
            media_type = _text(part, "mimeType")
            self._show_file(media_type, f"data:{media_type};base64,{_text(part, 'data')}")
        else:
            self._read_end(code, part)

    def _read_end(self, code: bytes, part: Document) -> None:
        reason, reported = _text(part, "finishReason"), read_usage(part.get("usage"))
        if code == b"d":
            self.usage = reported or self.usage
            self._end(reason)
            self.finished = True
            return
        self.usage = _sum(self.usage, reported)
        if part.get("isContinued"):
            return
        self._step += 1
        if reason not in (
            "tool-calls",
            "error",
            "",
        ):  # The last step, where the server tells no more than that.
            self._end(reason)


class UIMessagePassage(AISDKPassage):
    """The stream of AI SDK 5 and later."""

    frame_end = b"\n\n"

    def __init__(self, answer_id: str, model: str, told: Told) -> None:
        super().__init__(answer_id, model, told)
        self._told_before_step = 0
        self._places: dict[str, int] = {}  # of each text, where it begins in the answer
        self._plain: set[str] = set()  # tool calls whose arguments come as plain text

    def _frames(self, events: bytes) -> list[bytes]:
        return _events(events)

    def _read(self, frame: bytes) -> None:
        if frame == b"[DONE]":
            self.finished = True
            if self._ended is None and self._began:
                self._end("")
            return
        part = _decoded(frame, Document)
        type_ = _text(part, "type")
        self.usage = _metadata_usage(part) or self.usage
        if type_ == "text-delta":
            self._tell(_text(part, "delta"))
            self._places.setdefault(_text(part, "id"), self._length - len(_text(part, "delta")))
        elif type_ in ("reasoning-delta", "reasoning"):
            self._think(_text(part, "delta") or _text(part, "text"), (self._step, _text(part, "id")))
        elif type_.startswith("tool-"):
            self._read_tool(type_, part)
        elif type_ == "error":
            self._fail({"message": _text(part, "errorText") or _ENDED_IN_ERROR})
        elif type_ == "abort":
            self.finished = True
        elif type_ in ("start-step", "finish-step", "reset-step"):
            self._read_step(type_)
        elif type_ == "finish":
            self._end(_text(part, "finishReason"))
        elif type_ == "source-url":
            self._cite_source(part)
        elif type_ == "text-end":
            self._read_citations(part)
        elif type_ == "file":
            self._show_file(_text(part, "mediaType"), _text(part, "url"))

    def _read_step(self, type_: str) -> None:
        """A step begins, ends, or is to be made again. What was told of it then cannot be taken back."""
        if type_ == "reset-step" and self.events != self._told_before_step:
            self._fail({"message": _TAKEN_BACK})
        self._step += type_ == "finish-step"
        self._told_before_step = self.events

    def _read_citations(self, part: Document) -> None:
        """What a text that has ended was drawn from."""
        begin = self._places.get(_text(part, "id"), self._length)
        for citation in part.get("citations") or ():
            source = citation.get("source") if isinstance(citation, dict) else None
            if isinstance(source, dict) and (url := _text(source, "url")):
                start, end = (citation.get(name) for name in ("startIndex", "endIndex"))
                if isinstance(start, int) and isinstance(end, int):
                    self._cite(url, _text(source, "title"), begin + start, begin + end)
                else:
                    self._cite(url, _text(source, "title"), self._length)

    def _read_tool(self, type_: str, part: Document) -> None:
        if part.get("providerExecuted"):  # Nobody here is to run it: it is part of how the model answers.
            return
        call_id = _text(part, "toolCallId")
        if type_ == "tool-input-start":
            self._begin_call(part)
            if part.get("inputEncoding") == "text":
                self._plain.add(call_id)
        elif type_ == "tool-input-delta":
            if call_id not in self._plain:
                self._go_on_with_call(call_id, _text(part, "inputTextDelta"))
        elif type_ in ("tool-input-available", "tool-input-error"):
            self._finish_call(part, part.get("input"))
        elif type_ in ("tool-output-available", "tool-output-error", "tool-output-denied"):
            self._answer_call(part)


def begins(told: bytes) -> bool | None:
    """Whether a UI message stream that begins so says something; False where it fails at once, None while
    that cannot be seen."""
    for data in _events(sse.Splitter().feed(told)):
        try:
            type_ = _text(_decoded(data, Document), "type")
        except Garbled:
            return True
        if type_ not in _SILENT and not type_.startswith("data-"):
            return type_ != "error"
    return None


def _events(events: bytes) -> list[bytes]:
    return [data for event in sse.split(events) if (data := sse.data(event)).strip()]


def read_usage(reported: object) -> Usage | None:
    """Usage as the AI SDK counts it, in the names of 4, of 5 and of 6 on; None where there is none."""
    if not isinstance(reported, dict):
        return None
    inputs, outputs = _details(reported, "inputTokenDetails"), _details(reported, "outputTokenDetails")
    cached = reported.get("cachedInputTokens", inputs.get("cacheReadTokens"))
    reasoning = reported.get("reasoningTokens", outputs.get("reasoningTokens"))
    return usage.read(
        {
            "prompt_tokens": reported.get("inputTokens", reported.get("promptTokens")),
            "completion_tokens": reported.get("outputTokens", reported.get("completionTokens")),
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
    )


def _details(reported: Document, name: str) -> Document:
    details = reported.get(name)
    return details if isinstance(details, dict) else {}


def _metadata_usage(part: Document) -> Usage | None:
    """What applications that tell usage at all put into a message's metadata, under either name."""
    metadata = part.get("messageMetadata")
    if not isinstance(metadata, dict):
        return None
    return read_usage(metadata.get("totalUsage") or metadata.get("usage"))


def _sum(known: Usage | None, more: Usage | None) -> Usage | None:
    """Usage of several steps."""
    if known is None or more is None:
        return known or more
    return Usage(
        input_tokens=(known.input_tokens or 0) + (more.input_tokens or 0),
        output_tokens=(known.output_tokens or 0) + (more.output_tokens or 0),
    )


def _decoded(data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Garbled from None


def _text(part: Document, name: str) -> str:
    value = part.get(name)
    return value if isinstance(value, str) else ""
