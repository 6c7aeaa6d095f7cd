"""A stream of Chat Completions chunks becomes a Response: its events, and the whole. Pure.

Reads what servers were seen to send (2026-11): reasoning as `reasoning_content` or `reasoning`, or as parts
of the content (Mistral); members that are null or missing; calls whose pieces come interleaved, without an
index, or each under index 0 with an id of its own (Gemini's compatible endpoint); usage in the last chunk or
in one without choices. Only the first choice is read: nothing asks for more.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from proxy import usage
from proxy.call import Fields, member
from proxy.fold import MAX_FOLDED_BYTES, TooMuchToFold
from proxy.passage import Garbled, ResponsePassage, Truncated, in_place_of_a_chunk, value
from proxy.reported import UpstreamReported
from proxy.responses.draft import Draft, Writing
from proxy.responses.shape import complete_annotation, complete_usage, estimated_usage, skeleton

# Why a choice ended, where that is not the end of a whole answer; and what a Response says of it.
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_LOGPROBS = "message.output_text.logprobs"


class _Named(msgspec.Struct):
    name: str | None = None
    arguments: Any = None
    input: Any = None


class _CallPiece(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Named | None = None
    custom: _Named | None = None


class _Delta(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    annotations: Any = None
    tool_calls: list[_CallPiece] | None = None
    function_call: _Named | None = None


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: _Delta | None = None
    message: _Delta | None = None  # in an answer that is not streamed
    finish_reason: str | None = None
    logprobs: Any = None


_CHOICES = msgspec.json.Decoder(list[_Choice] | None)


class _Call:
    """A call under way; `writing` from when its name is known."""

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.early: list[str] = []
        self.writing: Writing | None = None


class ChatToResponses(ResponsePassage):
    """One Response. `asked` are the members of the create request as the client sent them.

    `begin` gives the first events, `feed` those that follow, `end` the terminal one, and then `final` is the
    response as one JSON. `failed` ends it at any moment. `feed` raises Garbled, TooMuchToFold.
    """

    marks = (b"",)

    def __init__(self, answer_id: str, model: str, asked: Fields, created_at: int) -> None:
        super().__init__(answer_id, model)
        self.input_tokens_estimate = usage.estimate_input(b"".join(asked.values()))
        self._draft = Draft(
            skeleton(answer_id, model, asked, created_at),
            shows_logprobs=_LOGPROBS in _strings(member(asked, "include"))
            or bool(member(asked, "top_logprobs")),
            custom=_custom_names(member(asked, "tools")),
        )
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._finish_reason: str | None = None
        self._size = 0

    @property
    def items(self) -> list[dict[str, Any]]:
        output: list[dict[str, Any]] = self._draft.response["output"]
        return output

    def begin(self) -> bytes:
        self._draft.begin()
        return self._draft.taken()

    def feed(self, events: bytes) -> bytes:
        self._size += len(events)
        if self._size > MAX_FOLDED_BYTES:
            raise TooMuchToFold
        return super().feed(events)

    def end(self) -> bytes:
        if self._error is not None:
            raise UpstreamReported(self._error)
        if self._finish_reason == "abort" or (not self.finished and self._finish_reason is None):
            raise Truncated
        if any(call.writing is None for call in self._calls):
            raise Garbled
        reason = _INCOMPLETE.get(self._finish_reason or "")
        counts = self._counts()
        if reason:
            self._draft.end("incomplete", incomplete_details={"reason": reason}, usage=counts)
        else:
            self._draft.end("completed", completed_at=int(time.time()), usage=counts)
        return self._draft.taken()

    def final(self) -> bytes:
        return msgspec.json.encode(self._draft.response)

    def failed(self, error: dict[str, Any]) -> bytes:
        self._draft.fail(error)
        return self._draft.taken()

    def _look(self, event: bytes, document: Fields) -> bytes:
        if "error" in document and (error := value(document["error"])):
            return self._fail(error)
        if "choices" not in document and (error := in_place_of_a_chunk(event)) is not None:
            return self._fail(error)
        if "usage" in document:
            self.usage = usage.read(value(document["usage"])) or self.usage
        if "service_tier" in document and isinstance(tier := value(document["service_tier"]), str):
            self._draft.response["service_tier"] = tier
        for choice in _choices(document.get("choices", b"null")):
            if not choice.index:
                self._take(choice)
        return self._draft.taken()

    def _take(self, choice: _Choice) -> None:
        delta = choice.delta or choice.message
        if delta is not None:
            if isinstance(thought := delta.reasoning_content or delta.reasoning, str):
                self._draft.reason(thought)
            if delta.content:
                self._take_content(delta.content, choice.logprobs)
            if isinstance(delta.refusal, str) and delta.refusal:
                self._draft.refuse(delta.refusal)
            if delta.annotations:
                self._take_annotations(delta.annotations)
            for piece in delta.tool_calls or ():
                self._take_call(piece.index, piece.id or "", piece.function or piece.custom or _Named())
            if delta.function_call is not None:
                self._take_call(0, "", delta.function_call)
        if choice.finish_reason:
            self._finish_reason = choice.finish_reason
            if choice.finish_reason == "error":
                self._fail({})

    def _take_content(self, content: object, logprobs: object) -> None:
        if isinstance(content, str):
            self._draft.speak(content, _logprobs(logprobs))
            return
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, dict):
                raise Garbled
            if isinstance(part.get("text"), str):
                self._draft.speak(part["text"], [])
            for thought in part["thinking"] if isinstance(part.get("thinking"), list) else ():
                if isinstance(thought, dict) and isinstance(thought.get("text"), str):
                    self._draft.reason(thought["text"])

    def _take_annotations(self, annotations: object) -> None:
        for annotation in annotations if isinstance(annotations, list) else ():
            cited = annotation.get("url_citation") if isinstance(annotation, dict) else None
            if isinstance(cited, dict):
                self._draft.cite(complete_annotation({**cited, "type": "url_citation"}))

    def _take_call(self, index: int | None, id_: str, named: _Named) -> None:
        call = self._call(index, id_, named.name or "")
        arguments = named.arguments if named.arguments is not None else named.input
        if isinstance(arguments, dict):  # Some servers send them whole, as JSON rather than as a string.
            arguments = msgspec.json.encode(arguments).decode()
        if isinstance(arguments, str) and arguments:
            call.early.append(arguments)
        if call.writing is None and named.name:
            call.writing = self._draft.call(call.id, named.name)
        if call.writing is not None:
            for piece in call.early:
                self._draft.argue(call.writing, piece)
            call.early.clear()

    def _call(self, index: int | None, id_: str, name: str) -> _Call:
        """The call that a piece belongs to. An id that is new, with a name, begins another."""
        last = self._calls[-1] if self._calls else None
        known = last if index is None else self._by_index.get(index)
        if known is not None and not (name and id_ and known.id and id_ != known.id):
            known.id = known.id or id_
            return known
        call = _Call(id_)
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def _counts(self) -> dict[str, Any]:
        """What was used, in numbers: programs take nothing else. An estimate says that it is one."""
        known = self.usage
        if known is None or known.input_tokens is None:
            return estimated_usage(self.input_tokens_estimate, self.events)
        return complete_usage(
            {
                "input_tokens": known.input_tokens,
                "input_tokens_details": {"cached_tokens": known.cached_input_tokens},
                "output_tokens": self.events if known.output_tokens is None else known.output_tokens,
                "output_tokens_details": {"reasoning_tokens": known.reasoning_tokens},
            }
        )


def _choices(raw: bytes | msgspec.Raw) -> list[_Choice]:
    try:
        return _CHOICES.decode(raw) or []
    except (msgspec.DecodeError, RecursionError):
        raise Garbled from None


def _strings(given: object) -> list[object]:
    return given if isinstance(given, list) else []


def _custom_names(tools: object) -> frozenset[str]:
    given = tools if isinstance(tools, list) else []
    custom = (tool for tool in given if isinstance(tool, dict) and tool.get("type") == "custom")
    return frozenset(str(tool.get("name")) for tool in custom)


def _logprobs(given: object) -> list[Any]:
    """A choice's log probabilities as a Response has them: bytes are an array there, if an empty one."""
    tokens = given.get("content") if isinstance(given, dict) else None
    return [_token(token) for token in tokens or () if isinstance(token, dict)]


def _token(token: dict[str, Any]) -> dict[str, Any]:
    top = [_top(one) for one in token.get("top_logprobs") or () if isinstance(one, dict)]
    return {**_top(token), "top_logprobs": top}


def _top(token: dict[str, Any]) -> dict[str, Any]:
    named = {"token": token.get("token", ""), "logprob": token.get("logprob", 0.0)}
    return {**named, "bytes": token.get("bytes") or []}
