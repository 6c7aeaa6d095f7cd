"""An upstream's ids in a Response become ours: of the Response, its items, and what else lives there. Pure.

Tenants share an upstream's account, so nobody may hold an id that means something there. What is ours for one
is the same wherever it comes again in one Response. Where ids stand: OpenAI's API reference 2.3.0, "Output
item", 2026-11. A `call_id` stays: it means nothing but which output belongs to which call.
"""

from __future__ import annotations

from typing import Any

from accounts.ids import uuid7
from proxy.call import Fields

# Members that name objects of the upstream's account, and how ours begin.
_PREFIXES = {
    "approval_request_id": "mcpr_",
    "container_id": "cntr_",
    "file_id": "file-",
    "file_ids": "file-",
    "vector_store_id": "vs_",
    "vector_store_ids": "vs_",
}
# What callers and tools fill with names of their own: the members there are not ours to read.
_OPAQUE = frozenset({"attributes", "env", "input_schema", "metadata", "output_schema", "parameters"})


class Names:
    """What is called how in one Response. What the request itself named keeps its name."""

    def __init__(self, asked: Fields) -> None:
        self._asked = tuple(asked.values())
        self._ours: dict[str, str] = {}

    def call(self, theirs: str, ours: str) -> None:
        """From now on `theirs` is told as `ours`."""
        self._ours[theirs] = ours

    def of(self, theirs: str, prefix: str) -> str:
        """What we call an object of the upstream's account."""
        if theirs not in self._ours:
            self._ours[theirs] = theirs if self._was_asked(theirs) else f"{prefix}{uuid7().hex}"
        return self._ours[theirs]

    def _was_asked(self, name: str) -> bool:
        quoted = f'"{name}"'.encode()
        return any(quoted in bytes(raw) for raw in self._asked)

    def own(self, document: Any) -> Any:
        """A copy of a JSON document in which every id is ours."""
        if isinstance(document, list):
            return [self.own(each) for each in document]
        if not isinstance(document, dict):
            return document
        return {name: self._own(name, member) for name, member in document.items()}

    def _own(self, name: str, member: Any) -> Any:
        if isinstance(member, str):
            if name in _PREFIXES:
                return self.of(member, _PREFIXES[name])
            return self._ours.get(member, member) if name == "id" or name.endswith("_id") else member
        if name in _PREFIXES and isinstance(member, list):
            return [self.of(each, _PREFIXES[name]) if isinstance(each, str) else each for each in member]
        return member if name in _OPAQUE else self.own(member)
