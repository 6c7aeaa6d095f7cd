"""Takes out the control tokens of gpt-oss's own format where a server let them through. Pure.

A gpt-oss model writes
`<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`, and its server is to
turn that into reasoning, text and tool calls. Servers fail at it now and then, and the tokens show up in
what they tell. Here a text loses the tokens and the headers that they begin; what stood in the channel
`analysis` is reasoning. A tool's name loses all from the first token on. Facts: OpenAI's "Harmony response
format" and the special tokens of its encoding o200k_harmony, 2026-11.
"""

from __future__ import annotations

import re

ANALYSIS, FINAL, COMMENTARY = "analysis", "final", "commentary"

_NAMES = "start|end|message|channel|constrain|return|call|startoftext|endoftext|endofprompt"
_TOKEN = re.compile(rf"<\|({_NAMES}|reserved_\d{{1,6}})\|>")
_BEGINNINGS = tuple(f"<|{name}|>" for name in _NAMES.split("|"))
_RESERVED_BEGINNING = re.compile(r"<\|reserved_\d{0,6}\|?")
_OPENS_HEADER = frozenset({"start", "channel", "constrain"})
_CHANNELS = (ANALYSIS, FINAL, COMMENTARY)
_HEADER_WORDS = (*_CHANNELS, "assistant", "user", "system", "developer", "tool", "json", "code")
_ADDRESS = re.compile(r"(?:to=|functions\.)[\w.:-]{0,100}")
_ADDRESS_BEGINNINGS = ("to=", "functions.")
_LONGEST_HEADER = 160

Spoken = list[tuple[str, str]]


class TextFilter:
    """One text, as its pieces come. `default` is the channel that it is in while nothing else is said."""

    def __init__(self, default: str = FINAL) -> None:
        self.count = 0  # of the tokens taken out
        self._default = default
        self._channel = default
        self._named: str | None = None  # the channel that a header named
        self._header: str | None = None
        self._pending = ""

    @property
    def busy(self) -> bool:
        """Whether the next piece must come here even if it has no token in it."""
        return bool(self._pending) or self._header is not None or self._channel != self._default

    def feed(self, piece: str) -> Spoken:
        """What of the text is free to go: texts, each with the channel that it is in."""
        spoken: Spoken = []
        buffer, start = self._pending + piece, 0
        for token in _TOKEN.finditer(buffer):
            self._text(buffer[start : token.start()], spoken)
            self._token(token[1])
            start = token.end()
        end = _unfinished(buffer, start)
        self._text(buffer[start:end], spoken)
        self._pending = buffer[end:]
        return spoken

    def rest(self) -> Spoken:
        """What was held back when the text has ended. A token comes whole or not at all: half of one is
        text."""
        spoken: Spoken = []
        if self._header is not None and not _is_header(self._header):
            spoken.append((self._channel, self._header))
        if self._pending:
            spoken.append((self._channel, self._pending))
        self._header, self._pending = None, ""
        return spoken

    def _text(self, text: str, spoken: Spoken) -> None:
        if self._header is not None:
            text, self._header = self._header + text, None
            if _may_become_header(text):
                self._header = text
                return
        if text:
            spoken.append((self._channel, text))

    def _token(self, name: str) -> None:
        self.count += 1
        if self._header is not None:
            self._named = next((word for word in self._header.split() if word in _CHANNELS), self._named)
            self._header = None
        if name in _OPENS_HEADER:
            self._header = ""
            if name == "start":
                self._named = None
        elif name == "message":
            self._channel, self._named = self._named or self._channel, None
        else:
            self._channel, self._named = self._default, None


class NameFilter:
    """The name of a tool, as its pieces come. No name has a `<` in it."""

    def __init__(self) -> None:
        self.count = 0
        self._rest = ""  # what came from the first `<` on
        self._named = False

    @property
    def busy(self) -> bool:
        return bool(self._rest)

    def feed(self, piece: str) -> str:
        """What of the name is free to go."""
        buffer = self._rest + piece
        counted = len(_TOKEN.findall(self._rest))
        self.count += len(_TOKEN.findall(buffer)) - counted
        if not self._named:  # Tokens before the name.
            while token := _TOKEN.match(buffer):
                buffer = buffer[token.end() :]
        name, mark, rest = buffer.partition("<")
        if self._rest and self._named:
            name, rest = "", buffer[1:]
        self._rest = mark + rest
        self._named = self._named or bool(name)
        return name


def _unfinished(buffer: str, start: int) -> int:
    """Where the beginning of a token stands at the end of `buffer`; its length where none does."""
    place = buffer.rfind("<", start)
    if place == -1:
        return len(buffer)
    tail = buffer[place:]
    begins = any(token.startswith(tail) for token in _BEGINNINGS) or "<|reserved_".startswith(tail)
    return place if begins or _RESERVED_BEGINNING.fullmatch(tail) else len(buffer)


def _is_header(text: str) -> bool:
    return all(word in _HEADER_WORDS or _ADDRESS.fullmatch(word) for word in text.split(" ") if word)


def _may_become_header(text: str) -> bool:
    """Whether a header may begin so: words of headers, and a last one that may be the beginning of one."""
    if len(text) > _LONGEST_HEADER:
        return False
    before, _, last = text.rpartition(" ")
    if not _is_header(before):
        return False
    return (
        any(word.startswith(last) for word in (*_HEADER_WORDS, *_ADDRESS_BEGINNINGS))
        or _ADDRESS.fullmatch(last) is not None
    )
