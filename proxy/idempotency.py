"""Idempotency-Key: a call that is repeated under the same key is made, and paid, once.

Invariant: a key's row is inserted with the open call, and finished or removed with its settlement, each time
in the same transaction (proxy/ledger.py). So a key is one of:
  - running       its call is open; the reaper frees the key of a call whose process died
  - kept          its answer is sealed in the row, for KEPT_FOR, and is given again
  - too large     its answer passed MAX_ANSWER_BYTES; that is said in place of it
  - free          no row: never used, expired, or the call ended in a way that another try may mend
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db.models.functions import Now
from django.utils import timezone

from accounts import database, keys
from accounts.tenancy import operator_scope, tenant_scope
from proxy import sealing
from proxy.call import LARGE_BYTES, Call
from proxy.http import Copy, Last, Reply, Request
from proxy.models import IdempotencyKey, UsageRecord

HEADER = b"idempotency-key"
MAX_ANSWER_BYTES = 1024 * 1024
KEPT_FOR = timedelta(hours=24)

State = IdempotencyKey.State
Row = dict[str, Any]

_KEY = re.compile(rb"[\x20-\x7e]{1,255}")
_BOUNDARY = re.compile(r'boundary="?([^";]+)', re.IGNORECASE)
# What another try may mend, of the refusals that an upstream gives.
_PASSING = (408, 409, 429)

logger = logging.getLogger(__name__)


class InvalidKey(Exception):
    """The header is not one key of 1–255 printable ASCII characters."""


class InProgress(Exception):
    """The key's call has not ended."""


class Mismatch(Exception):
    """The key was used for another request."""


class AnswerTooLarge(Exception):
    """The key's call was answered, with more than is kept."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What a client got."""

    status: int
    content_type: bytes
    body: bytes


class Claim:
    """One call's claim on its key."""

    def __init__(self, tenant_id: UUID, digest: str, body_digest: str) -> None:
        self._tenant_id = tenant_id
        self._digest = digest
        self._body_digest = body_digest
        self._copy = Copy(MAX_ANSWER_BYTES)

    async def replay(self, request: Request, reply: Reply) -> bool:
        """Sends the answer that is kept, if there is one; else what `reply` streams is copied from now on.

        Raises InProgress, Mismatch, AnswerTooLarge, SealBroken, DatabaseUnavailable.
        """
        found = await self._look_up()
        if found is None:
            reply.copies = (self._copy,)
            return False
        if found.body_digest != self._body_digest:
            raise Mismatch
        if found.state == State.RUNNING:
            raise InProgress
        if found.sealed_answer is None:
            raise AnswerTooLarge
        sealed = sealing.unseal_bytes(bytes(found.sealed_answer), self._context())
        answer = msgspec.msgpack.decode(sealed, type=Answer)
        fields = {"request_id": str(request.id), "original_request_id": str(found.call_id)}
        logger.info("replayed", extra={"fields": fields})
        original = (b"x-tollgate-original-request-id", str(found.call_id).encode())
        headers = ((b"x-tollgate-idempotent-replay", b"true"), original)
        await reply.whole(answer.status, answer.content_type, answer.body, headers)
        return True

    async def _look_up(self) -> IdempotencyKey | None:
        try:
            async with asyncio.timeout(keys.LOOKUP_SECONDS):
                return await database.run(find, self._tenant_id, self._digest)
        except TimeoutError as error:
            raise database.DatabaseUnavailable from error

    def opened(self) -> Row:
        """What the ledger is told when the call is opened."""
        return {"digest": self._digest, "body_digest": self._body_digest}

    def settled(self, status: str, status_code: int | None, last: Last, began: int | None) -> Row | None:
        """What the ledger is told when the call is settled; None: the key is free again.

        `began` is the status of the stream that `last` ends, None where `last` is the whole answer.
        """
        if not _is_final(status, status_code):
            return None
        if began is None:
            answer = Answer(last.status, last.content_type, last.body)
        else:
            self._copy.add(last.body)
            answer = Answer(began, self._copy.content_type, self._copy.body())
        if self._copy.overflowed or len(answer.body) > MAX_ANSWER_BYTES:
            return {"state": State.TOO_LARGE, "sealed_answer": None}
        sealed = sealing.seal_bytes(msgspec.msgpack.encode(answer), self._context())
        return {"state": State.KEPT, "sealed_answer": base64.b64encode(sealed).decode()}

    def _context(self) -> bytes:
        return f"{self._tenant_id}|{self._digest}".encode()


def _is_final(status: str, status_code: int | None) -> bool:
    """Whether another try would end in the same way. After admission a 4xx is always the upstream's."""
    if status == UsageRecord.Status.COMPLETED:
        return True
    refused = status == UsageRecord.Status.FAILED and status_code is not None and 400 <= status_code < 500
    return refused and status_code not in _PASSING


async def claim_of(request: Request, call: Call, owner: keys.Caller, body: bytes) -> Claim | None:
    """The call's claim on the key that its header names; None without the header. Raises InvalidKey."""
    if HEADER not in request.headers:
        return None
    given = {value for name, value in request.header_list if name == HEADER}
    key = given.pop()
    if given or not _KEY.fullmatch(key):
        raise InvalidKey
    if len(body) < LARGE_BYTES:
        content = _content(body, request.header(b"content-type"))
    else:
        content = await asyncio.to_thread(_content, body, request.header(b"content-type"))
    digest = keys.digest(f"{owner.tenant_id}|{_owner(owner, request)}|{key.decode()}")
    return Claim(owner.tenant_id, digest, keys.digest(f"{call.endpoint}|{content}"))


def _owner(caller: keys.Caller, request: Request) -> str:
    """Whose the key is: a user's, of a shared credential all its bearers', of the public an address's."""
    if caller.user_id is not None:
        return f"user:{caller.user_id}"
    if caller.security_key_id is not None:
        return f"key:{caller.security_key_id}"
    return f"ip:{request.client_ip}"


def _content(body: bytes, content_type: str) -> str:
    """SHA-256 of the body. A form's boundary is no part of it: clients choose a new one for each try."""
    boundary = _BOUNDARY.search(content_type)
    if boundary is not None and content_type.startswith("multipart/"):
        body = body.replace(b"--" + boundary[1].strip().encode("latin-1"), b"--")
    return hashlib.sha256(body).hexdigest()


# Database jobs


def find(tenant_id: UUID, digest: str) -> IdempotencyKey | None:
    """The key's row; one that has expired is removed."""
    with tenant_scope(tenant_id):
        found = IdempotencyKey.objects.filter(digest=digest).first()
        if found is None or found.expires_at > timezone.now():
            return found
        IdempotencyKey.objects.filter(digest=digest, call_id=found.call_id).delete()
        return None


def claim(opened: list[Row]) -> set[str]:
    """Inserts the keys of calls that are being opened, within the transaction that does; the ids of the calls
    whose key another call has."""
    expires_at = timezone.now() + KEPT_FOR
    wanted = [
        IdempotencyKey(
            tenant_id=row["tenant_id"], call_id=row["id"], expires_at=expires_at, **row["idempotency"]
        )
        for row in opened
    ]
    # In one order, so that two processes that want the same keys wait for each other and do not deadlock.
    wanted.sort(key=lambda key: key.digest)
    IdempotencyKey.objects.bulk_create(wanted, ignore_conflicts=True)
    calls = {row["id"] for row in opened}
    held = IdempotencyKey.objects.filter(call_id__in=calls).values_list("call_id", flat=True)
    return calls - {call_id.hex for call_id in held}


def finish(settled: list[Row]) -> None:
    """Keeps the answers of calls, or frees their keys, within the transaction that settles them."""
    freed = [row["id"] for row in settled if row["idempotency"] is None]
    IdempotencyKey.objects.filter(call_id__in=freed).delete()
    for row in settled:
        kept = row["idempotency"]
        if kept is not None:
            sealed = kept["sealed_answer"] and base64.b64decode(kept["sealed_answer"])
            key = IdempotencyKey.objects.filter(call_id=row["id"])
            key.update(state=kept["state"], sealed_answer=sealed)


def give_up(ids: list[str]) -> None:
    """Frees the keys of calls that were not made, within the transaction that withdraws them."""
    IdempotencyKey.objects.filter(call_id__in=ids, state=State.RUNNING).delete()


def forget_expired() -> None:
    """Removes the keys whose time is over."""
    with operator_scope():
        IdempotencyKey.objects.filter(expires_at__lt=Now()).delete()
