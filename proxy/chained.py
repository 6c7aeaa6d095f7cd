"""Passages one behind the other: what the first tells in chat chunks becomes what the client is given. Pure.

A stream ends as its first passage ends it: where that raises, nothing here makes it whole. Usage, and the
estimate of it, are the first one's.
"""

from __future__ import annotations

from typing import Any

from proxy.call import Fields
from proxy.fold import Fold
from proxy.passage import Passage, ResponsePassage


class FoldedChat(Passage):
    """A chat that is told in chunks, and wanted in one piece: `final`, once `end` was called."""

    marks = ()

    def __init__(self, chat: Passage) -> None:
        super().__init__("", "")
        self._chat = chat
        self._fold = Fold()
        self.splitter = chat.splitter

    @property
    def output_tokens_estimate(self) -> int:
        return self._chat.output_tokens_estimate

    @property
    def input_tokens_counted(self) -> int | None:
        return self._chat.input_tokens_counted

    @property
    def texts(self) -> tuple[str, str] | None:
        return self._chat.texts

    def count(self, asked: int, said: int) -> None:
        self._chat.count(asked, said)

    def feed(self, events: bytes) -> bytes:
        """Takes them in; there is nothing for the client yet. Raises Garbled, TooMuchToFold."""
        try:
            self._fold.feed(self._chat.feed(events))
        finally:
            _follow(self, self._chat)
        return b""

    def rest(self) -> bytes:
        try:
            self._fold.feed(self._chat.rest())
        finally:
            _follow(self, self._chat)
        return b""

    def end(self) -> bytes:
        return self._chat.end()

    def final(self) -> bytes:
        """The chat completion as JSON. Raises Garbled where nothing was said."""
        return self._fold.answer()

    def _look(self, event: bytes, document: Fields) -> bytes:
        raise AssertionError("The passage in front looks.")


class ResponseOverChat(ResponsePassage):
    """A Response that is made of what a chat passage tells in chunks, usage among it."""

    marks = ()

    def __init__(self, chat: Passage, response: ResponsePassage) -> None:
        super().__init__("", "")
        self._chat = chat
        self._response = response
        self.splitter = chat.splitter

    @property
    def output_tokens_estimate(self) -> int:
        return self._chat.output_tokens_estimate

    @property
    def input_tokens_counted(self) -> int | None:
        return self._chat.input_tokens_counted

    @property
    def texts(self) -> tuple[str, str] | None:
        return self._chat.texts

    def count(self, asked: int, said: int) -> None:
        self._chat.count(asked, said)

    @property
    def items(self) -> list[dict[str, Any]]:
        return self._response.items

    def begin(self) -> bytes:
        return self._response.begin()

    def feed(self, events: bytes) -> bytes:
        try:
            chunks = self._chat.feed(events)
            return self._response.feed(chunks) if chunks else b""
        finally:
            _follow(self, self._chat)

    def rest(self) -> bytes:
        try:
            chunks = self._chat.rest()
            return self._response.feed(chunks) if chunks else b""
        finally:
            _follow(self, self._chat)

    def end(self) -> bytes:
        self._response.feed(self._chat.end())
        return self._response.end()

    def final(self) -> bytes:
        return self._response.final()

    def failed(self, error: dict[str, Any]) -> bytes:
        return self._response.failed(error)

    def _look(self, event: bytes, document: Fields) -> bytes:
        raise AssertionError("The passage in front looks.")


def _follow(passage: Passage, front: Passage) -> None:
    """What is known of a stream is known by the passage in front."""
    passage.usage, passage.events, passage.finished = front.usage, front.events, front.finished
