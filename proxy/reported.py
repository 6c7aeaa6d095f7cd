"""What an upstream says went wrong, in any of the shapes seen, made fit for a caller's eyes. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

MAX_MESSAGE_LENGTH = 2000
_SHOWN = ("message", "type", "code", "param")


class UpstreamReported(Exception):
    """The upstream reported an error, with the status `status` or in the middle of a stream (None).

    `error` is its error object, {} when it sent none. `of_caller` says that it is about a key that the caller
    brought, and so for the caller to hear.
    """

    of_caller = False

    def __init__(
        self, error: dict[str, Any], status: int | None = None, retry_after: str | None = None
    ) -> None:
        super().__init__(f"the upstream reported an error ({status or 'in its stream'})")
        self.error = error
        self.status = status
        self.retry_after = retry_after

    def tidy(self, model: str, public: str, private: tuple[str, ...]) -> None:
        """Puts our name for the model in what callers see, and takes `private` words (address, key) out."""
        shown = {name: self.error[name] for name in _SHOWN if isinstance(self.error.get(name), str)}
        for word in private:
            shown = {name: text.replace(word, "…") for name, text in shown.items()}
        for name, text in shown.items():
            shown[name] = text[:MAX_MESSAGE_LENGTH].replace(model, public)[:MAX_MESSAGE_LENGTH]
        self.error = {**self.error, **shown}


def read_error(body: bytes) -> dict[str, Any]:
    """The error object of a body: `{"error": {…}}` (OpenAI), `{"error": "…"}` (Ollama), `{"detail": …}`
    (FastAPI), `{"message": …}` (vLLM, LM Studio); {} for anything else. Seen 2026-11."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    error = document.get("error") or document.get("detail")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {"message": error}
    return document if isinstance(document.get("message"), str) else {}


def text(value: object) -> str | None:
    """A member of an error object as the shape wants it: servers send numbers as codes (vLLM, llama.cpp)."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
