"""A stream of another language on its way to a client that reads Chat Completions chunks. Pure.

What the upstream says is told in the inner language: a chunk that bears the role, then text, reasoning and
tool calls as they come. The chunk that finishes the choice, and the usage, come from `rest`: only for a
stream that was whole. Shapes: OpenAI API reference, "Chat completion chunk object", 2026-11.
`reasoning_content` is DeepSeek's and llama.cpp's name for what came before the answer; `images` is
OpenRouter's (their documentation, "Image generation", 2026-11).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy import sse
from proxy.call import Call, Fields
from proxy.passage import Garbled, Passage, Truncated
from proxy.reported import UpstreamReported

BETWEEN_THOUGHTS = "\n\n"
MAX_COUNTED_BYTES = 1024 * 1024
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Told:
    """What the client is told besides the answer: `created` in seconds of Unix time, whether it asked for
    usage and for reasoning, and how many tokens its request is thought to be; its text, where the tokens can
    be counted."""

    created: int
    shows_usage: bool = False
    shows_reasoning: bool = True
    input_tokens_estimate: int = 0
    asked: str | None = None


def told(call: Call, created: int, *, shows_reasoning: bool = True, asked: str | None = None) -> Told:
    """As the call asks. One that wants a single JSON gets usage in it."""
    shows_usage = call.shows_usage or not call.stream
    return Told(created, shows_usage, shows_reasoning, call.input_tokens_estimate, asked)


class ChunkPassage(Passage):
    """Reads frames, one after the other, and says in chunks what they say."""

    frame_end: bytes

    def __init__(self, answer_id: str, model: str, told: Told) -> None:
        super().__init__(answer_id, model)
        self._told = told
        self._head = b'{"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % (
            self.answer_id,
            told.created,
            self.model,
        )
        self._written: list[bytes] = []
        self._said_bytes = 0
        self._said: list[str] = []  # where it is to be counted
        self._counted: tuple[int, int] | None = None  # tokens of the request, and of what was said
        self._counted_bytes = 0
        self._thought: object = None
        self._began = False
        self._concluded = False

    @property
    def output_tokens_estimate(self) -> int:
        """How much was said, reasoning included: what was counted, and a token in four bytes of the rest."""
        counted = self._counted[1] if self._counted else 0
        return counted + -(-(self._said_bytes - self._counted_bytes) // _BYTES_PER_TOKEN)

    @property
    def input_tokens_counted(self) -> int | None:
        return self._counted[0] if self._counted else None

    @property
    def texts(self) -> tuple[str, str] | None:
        return None if self._told.asked is None or self.usage else (self._told.asked, "".join(self._said))

    def count(self, asked: int, said: int) -> None:
        self._counted = asked, said
        self._counted_bytes = sum(len(text.encode()) for text in self._said)

    def feed(self, events: bytes) -> bytes:
        for frame in self._frames(events):
            if not self.finished:
                self._read(frame)
        return self._take()

    def rest(self) -> bytes:
        """What the stream's end adds: the finishing chunk and the usage, where it was whole. Raises
        Truncated."""
        left = self.splitter.rest()
        try:
            passed = self.feed(left + self.frame_end) if left and not self.finished else b""
        except Garbled:
            raise Truncated from None
        if self._error is None and (reason := self._reason()) is not None:
            self._conclude(reason)
        return passed + self._take()

    def end(self) -> bytes:
        if self._error is not None:
            raise UpstreamReported(self._error)
        if not self._concluded:
            raise Truncated
        return sse.DONE

    @abstractmethod
    def _frames(self, events: bytes) -> list[bytes]:
        """The data of each frame that has some."""

    @abstractmethod
    def _read(self, frame: bytes) -> None:
        """Says what one frame says. Raises Garbled."""

    @abstractmethod
    def _reason(self) -> str | None:
        """Why the answer ended, as chat completions name it; None while it has not."""

    def _look(self, event: bytes, document: Fields) -> bytes:
        raise AssertionError("Every frame is read.")

    def _take(self) -> bytes:
        taken, self._written = b"".join(self._written), []
        return taken

    def _say(self, text: str) -> None:
        if text:
            self._note(text)
            self._delta({"content": text})

    def _think(self, text: str, thought: object) -> None:
        """Reasoning; pieces of one `thought` belong together, others are set apart."""
        if not text:
            return
        apart = BETWEEN_THOUGHTS if self._thought not in (None, thought) else ""
        self._thought = thought
        self._note(apart + text)
        if self._told.shows_reasoning:
            self._delta({"reasoning_content": apart + text})

    def _call_tool(self, index: int, call_id: str, name: str, arguments: str) -> None:
        """The beginning of a tool call: whose it is, and as much of its arguments as is known."""
        self._note(name + arguments)
        function = {"name": name, "arguments": arguments}
        call = {"index": index, "id": call_id, "type": "function", "function": function}
        self._delta({"tool_calls": [call]}, content=None)

    def _add_arguments(self, index: int, piece: str) -> None:
        if piece:
            self._note(piece)
            self._delta({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})

    def _show_image(self, url: str) -> None:
        self._delta({"images": [{"type": "image_url", "image_url": {"url": url}}]})

    def _cite(self, url: str, title: str, place: int, end: int | None = None) -> None:
        """A source, and after how many characters of the answer it is cited, or from where to where."""
        cited = {"url": url, "title": title, "start_index": place, "end_index": place if end is None else end}
        self._delta({"annotations": [{"type": "url_citation", "url_citation": cited}]})

    def _note(self, text: str) -> None:
        self._said_bytes += len(text.encode())
        if self._told.asked is not None and self._said_bytes <= MAX_COUNTED_BYTES:
            self._said.append(text)

    def _delta(self, delta: dict[str, Any], content: str | None = "") -> None:
        """One chunk. The first bears the role, before it, and an empty text, as OpenAI's does."""
        self._begin(content)
        self.events += 1
        self._write(msgspec.json.encode(delta), b"null")

    def _begin(self, content: str | None) -> None:
        if not self._began:
            self._began = True
            self._write(msgspec.json.encode({"role": "assistant", "content": content}), b"null")

    def _write(self, delta: bytes, reason: bytes) -> None:
        choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}' % (delta, reason)
        self._written.append(sse.encode(b"%b%b]}" % (self._head, choice)))

    def _conclude(self, reason: str) -> None:
        self._concluded = self.finished = True
        self._begin("")
        self._write(b"{}", msgspec.json.encode(reason))
        if self._told.shows_usage:
            usage = msgspec.json.encode(self._shown_usage())
            self._written.append(sse.encode(b'%b],"usage":%b}' % (self._head, usage)))

    def _shown_usage(self) -> dict[str, Any]:
        """What was used, as chat completions tell it; marked where it is an estimate."""
        usage = self.usage
        asked = self._counted[0] if self._counted else self._told.input_tokens_estimate
        inputs = asked if usage is None else usage.input_tokens or 0
        outputs = self.output_tokens_estimate if usage is None else usage.output_tokens or 0
        shown: dict[str, Any] = {
            "prompt_tokens": inputs,
            "completion_tokens": outputs,
            "total_tokens": inputs + outputs,
        }
        if usage is None:
            return {**shown, "estimated": True}
        if usage.cached_input_tokens is not None:
            shown["prompt_tokens_details"] = {"cached_tokens": usage.cached_input_tokens}
        if usage.reasoning_tokens is not None:
            shown["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
        return shown
