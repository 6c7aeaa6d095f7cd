"""One call as one target gets it, and what calls have shown of targets."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from proxy.admission import Ending
from proxy.call import Call
from proxy.dialects.openai import Whole
from proxy.dialects.outbound import Outbound
from proxy.passage import Passage
from proxy.reported import UpstreamReported
from proxy.routing import Target
from proxy.upstream import Exchange

COUNTS = "responses.input_tokens"
ENCRYPTED = "reasoning.encrypted_content"
# Reasoning that is not encrypted, as the servers of open models have it; OpenAI takes none (2026-11).
OPEN_REASONING = "open reasoning"
# The same in a chat's messages: Groq refuses `reasoning_content` there (2026-11).
CHAT_REASONING = "reasoning in messages"
# What a call may suppose of a target: a thread that it should have; that it takes system messages.
THREAD = "thread"
SYSTEM = "system messages"

FOUND_FOR_SECONDS = 3600.0
MOST_FOUND = 10_000  # with a route for a pattern, callers write the names of models
EVENTS = frozenset({"text/event-stream"})
# What servers answer on a path that they do not have (vLLM, Ollama, llama.cpp, gateways; 2026-11).
_NO_SUCH_PATH = frozenset({404, 405, 501})


@dataclass(frozen=True, slots=True)
class Wire:
    """One call as one target gets it. `call` is in the target's language; `outbound` is the request itself,
    where that language is not OpenAI's.

    `passage` reads a stream of a content type, one of `streams`; `whole` reads an answer in one piece, None
    where the target always answers in a stream. `here` answers in place of a target that cannot. `ended` is
    told of a stream that was read, however it ended.

    Of a dialect with generations, `way` is the one spoken, and `misunderstood` are the statuses with which a
    server of another one may answer. Where a call `supposes` something of the target that may not be so,
    `begins` tells by the first of its answer whether it was: None while that is too little to tell.
    """

    call: Call
    passage: Callable[[str], Passage]
    whole: Callable[[str, bytes], Whole] | None
    here: Callable[[], Exchange] | None = None
    asks_encrypted: bool = False
    tells_reasoning: str = ""
    outbound: Outbound | None = None
    streams: frozenset[str] = EVENTS
    ended: Callable[[Ending, Exchange], None] | None = None
    way: str = ""
    misunderstood: frozenset[int] = frozenset()
    supposes: str = ""
    begins: Callable[[bytes], bool | None] | None = None


@dataclass(slots=True)
class Tried:
    """What one call has tried at one target, in vain: ways of asking it, and what it supposed; what was said
    to the first; and what the target was found to lack meanwhile."""

    ways: set[str] = field(default_factory=set)
    lacking: list[str] = field(default_factory=list)
    first: UpstreamReported | None = None


class Findings:
    """What calls have shown of upstreams, believed for an hour: the last of it, where that is a lot."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[Hashable, float] = OrderedDict()  # what was found first stands first

    def lacks(self, target: Target, what: str) -> bool:
        """Whether the upstream was found not to have `what`, a path or a member of `include`."""
        return self._until.get(_key(target, what), 0.0) > self._clock()

    def chat_only(self, target: Target) -> bool:
        """Whether Responses go to this target as chats."""
        if target.dialect != "openai" or target.responses == "chat":
            return True
        return target.responses == "auto" and self.lacks(target, "/responses")

    def way(self, target: Target, ways: tuple[str, ...], tried: Tried) -> str:
        """Which of the ways to ask: the one that was understood before, else the first not tried yet."""
        left = [way for way in ways if way not in tried.ways] or list(ways)
        return next((way for way in left if self.understands(target, way)), left[0])

    def understands(self, target: Target, way: str) -> bool:
        """Whether the upstream was found to understand that way of asking."""
        return self._until.get(_understood(target, way), 0.0) > self._clock()

    def taken(self, wire: Wire, target: Target, tried: Tried) -> None:
        """The target took the call: it understands the way in which it was asked, and is as supposed."""
        for way in filter(None, (wire.way, wire.supposes)):
            self._believe(_understood(target, way))
        if SYSTEM in tried.ways:
            self._believe(_key(target, SYSTEM))

    def learn(self, wire: Wire, target: Target, refusal: UpstreamReported, tried: Tried) -> bool:
        """Whether a refusal says what the upstream lacks, so that the call is worth putting another way."""
        what = _lacking(wire, target, refusal)
        if what is not None:
            self._believe(_key(target, what))
            tried.lacking.append(what)
            return True
        if wire.supposes == THREAD and 400 <= (refusal.status or 0) < 500 and refusal.status != 429:
            tried.ways.add(THREAD)
            return True
        if refusal.status not in wire.misunderstood or self.understands(target, wire.way) or tried.first:
            return False
        tried.ways.add(wire.way)
        tried.first = refusal
        return True

    def take_back(self, target: Target, tried: Tried) -> None:
        """The target refused the call in the other way too: its refusals said nothing of what it lacks."""
        for what in tried.lacking:
            self._until.pop(_key(target, what), None)

    def _believe(self, finding: Hashable) -> None:
        """From now on, for as long as any other."""
        now = self._clock()
        self._until.pop(finding, None)
        self._until[finding] = now + FOUND_FOR_SECONDS
        while len(self._until) > MOST_FOUND or next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)


def _understood(target: Target, way: str) -> Hashable:
    return target.upstream_id, "understands", way


def _key(target: Target, what: str) -> Hashable:
    """What paths there are is the upstream's; what becomes of reasoning, the model's."""
    return target.upstream_id, what, "" if what.startswith("/") else target.model


def _lacking(wire: Wire, target: Target, refusal: UpstreamReported) -> str | None:
    if wire.outbound is not None:
        return None
    path = wire.call.path
    if refusal.status in _NO_SUCH_PATH and not _is_about_the_call(refusal):
        if path == "/responses" and target.responses == "auto":
            return path
        return path if wire.call.endpoint == COUNTS else None
    told = f"{refusal.error.get('message')} {refusal.error.get('param')}"
    if wire.asks_encrypted and refusal.status == 400 and ("ncrypted" in told or "include" in told):
        return ENCRYPTED
    if wire.tells_reasoning and refusal.status in (400, 404, 422) and ("reasoning" in told or "rs_" in told):
        return wire.tells_reasoning
    return None


def _is_about_the_call(refusal: UpstreamReported) -> bool:
    """Whether what is missing is the model, or something that the request names, and not the path."""
    return refusal.error.get("code") == "model_not_found" or bool(refusal.error.get("param"))
