"""All that was said, as one sealed item: `POST /responses/compact`, and what becomes of such an item later.

The model is asked for a summary; the caller gets it sealed for its tenant, after its own messages. Sent back,
it opens as a message. No upstream has a part in that: a window made over one goes on over any other.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any
from uuid import UUID

from proxy.call import InvalidBody
from proxy.sealing import SealBroken, seal, unseal
from threads.item_ids import new_id

Item = dict[str, Any]

INSTRUCTIONS = (
    "Write a summary of the conversation so far, for yourself: you will go on from it without the rest. "
    "Keep every fact, name, number, decision, file, open question and unfinished task that may still matter, "
    "what the user wants, and what was tried. Answer with the summary alone."
)
_HEADING = "Summary of the conversation before this point:\n\n"
_KEPT_ROLES = ("user", "developer", "system")


def asking(said: list[Item]) -> list[Item]:
    """The input that asks the model for a summary of what was said."""
    return [*said, {"type": "message", "role": "user", "content": INSTRUCTIONS}]


def window(said: list[Item], summary: str, tenant_id: UUID) -> list[Item]:
    """What a caller goes on with: what people said, as it was, and the summary, sealed."""
    kept = [item for item in said if item.get("type") == "message" and item.get("role") in _KEPT_ROLES]
    sealed = base64.b64encode(seal(summary, _context(tenant_id))).decode()
    return [*kept, {"type": "compaction", "id": new_id("compaction"), "encrypted_content": sealed}]


def opened(item: Item, tenant_id: UUID) -> Item:
    """A compaction as the message that it stands for. Raises InvalidBody for one that was not made here."""
    try:
        sealed = base64.b64decode(item.get("encrypted_content") or "", validate=True)
        summary = unseal(sealed, _context(tenant_id))
    except (SealBroken, binascii.Error, TypeError, ValueError):
        raise InvalidBody("The 'encrypted_content' of a compaction item is not from here.", "input") from None
    return {"type": "message", "role": "developer", "content": _HEADING + summary}


def _context(tenant_id: UUID) -> bytes:
    return f"compaction|{tenant_id}".encode()
