"""Threads and the items in them, stored responses and stored chat completions.

Invariant: an item's position never changes, and no thread gives a position out twice, not even one whose
items are gone. So a thread and a position say for ever what came before.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, TypeVar

from django.db import models
from django.db.models.functions import Now

from accounts.ids import uuid7
from accounts.models import Tenant
from threads.item_ids import CHAT_COMPLETION, CONVERSATION, RESPONSE

LONGEST_USER = 512
LONGEST_TYPE = 200
LONGEST_TITLE = 200
# What PostgreSQL indexes of one text comes to less than 1 MiB, whatever the text is.
SEARCHED_CHARACTERS = 100_000

Row = TypeVar("Row", bound=models.Model)


def kept_text(text: str, longest: int) -> str:
    """A caller's text as a database takes it: no NUL, no halves of surrogate pairs, and so long at most."""
    return text[:longest].replace("\0", "").encode(errors="replace").decode()


class TenantQuerySet(models.QuerySet[Row]):
    """Rows that belong to tenants, and that no process caches."""

    def of(self, tenant: Tenant | uuid.UUID) -> TenantQuerySet[Row]:
        """Those of this tenant."""
        return self.filter(tenant=tenant)


class Thread(models.Model):
    """Items in their order. A conversation has a name that clients know; any other is some responses' past.

    A thread that branched off others goes on where it left them: `lineage` names those, oldest first, each
    with the position that ends its part, and `start` is the first position of the thread's own items. The
    last of them is `parent`; null where the whole of it is gone. `user_id` is whose key began it, which no
    caller can say otherwise.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    conversation = models.BooleanField()
    user_id = models.BigIntegerField(null=True, editable=False)
    end_user = models.CharField(max_length=LONGEST_USER, blank=True, help_text="As the caller names them.")
    title = models.CharField(max_length=LONGEST_TITLE, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    parent = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="branches")
    lineage = models.JSONField(default=list, help_text="Pairs: a thread's id in hex, the end of its part.")
    start = models.PositiveIntegerField(default=0)
    end = models.PositiveIntegerField(default=0, help_text="The position of the next item.")
    upstreams = models.JSONField(
        default=dict, blank=True, help_text="What upstreams call it, by their ids; no client sees that."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    used_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, editable=False, help_text="Of a conversation.")

    objects: ClassVar[models.Manager[Any]] = TenantQuerySet.as_manager()

    class Meta:
        indexes = (
            models.Index(fields=["tenant", "id"], name="thread_tenant"),
            models.Index(
                fields=["tenant", "end_user"], condition=~models.Q(end_user=""), name="thread_end_user"
            ),
            models.Index(
                fields=["tenant", "user_id", "id"],
                condition=models.Q(user_id__isnull=False),
                name="thread_user",
            ),
            models.Index(
                fields=["expires_at"], condition=models.Q(expires_at__isnull=False), name="thread_expiry"
            ),
        )

    def __str__(self) -> str:
        return CONVERSATION + self.id.hex


class Item(models.Model):
    """A message, a tool call, its output, …: `data` is its JSON as it was given, without the id.

    `text` is what a search finds it by. `response_id` is the response that it came with.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    thread = models.ForeignKey(Thread, on_delete=models.CASCADE, related_name="items", db_index=False)
    position = models.PositiveIntegerField()
    type = models.CharField(max_length=LONGEST_TYPE)
    role = models.CharField(max_length=LONGEST_TYPE, blank=True)
    data = models.TextField()
    text = models.TextField(blank=True)
    response_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar[models.Manager[Any]] = TenantQuerySet.as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["thread", "position"], name="one_item_a_position"),)
        indexes = (
            models.Index(
                fields=["response_id"], condition=models.Q(response_id__isnull=False), name="item_response"
            ),
        )


class StoredResponse(models.Model):
    """A response, or a chat completion, that its caller may come back to; its key is its call's.

    Its items are those of `thread` from `input_start` to `end`, the answer's from `output_start` on. Until it
    is completed it has none there: all three are where its past ends, and `pending_input` has what it was
    asked. A chat completion has no thread; its messages are its `pending_input`.
    """

    class Kind(models.TextChoices):
        RESPONSE = "response"
        CHAT_COMPLETION = "chat.completion"

    class Status(models.TextChoices):
        QUEUED = "queued"
        IN_PROGRESS = "in_progress"
        COMPLETED = "completed"
        INCOMPLETE = "incomplete"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    thread = models.ForeignKey(Thread, null=True, on_delete=models.SET_NULL, related_name="responses")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    model = models.CharField(max_length=200)
    status = models.CharField(max_length=12, choices=Status.choices)
    background = models.BooleanField(default=False)
    in_conversation = models.BooleanField(default=False)
    body = models.TextField(help_text="The JSON that the client sees.")
    metadata = models.JSONField(default=dict)
    end_user = models.CharField(max_length=LONGEST_USER, blank=True, help_text="As the caller names them.")
    pending_input = models.TextField(blank=True)
    request = models.TextField(blank=True, help_text="What a background response is made from.")
    input_start = models.PositiveIntegerField(default=0)
    output_start = models.PositiveIntegerField(default=0)
    end = models.PositiveIntegerField(default=0)
    user_id = models.BigIntegerField(null=True)
    api_key_id = models.UUIDField(null=True)
    security_key_id = models.UUIDField(null=True)
    worker_id = models.UUIDField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    produced = models.BooleanField(default=False, help_text="Whether any of its answer was given out.")
    not_before = models.DateTimeField(null=True)
    cancel_requested = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager[Any]] = TenantQuerySet.as_manager()

    class Meta:
        indexes = (
            models.Index(fields=["tenant", "kind", "id"], name="response_tenant"),
            models.Index(
                fields=["tenant", "end_user"], condition=~models.Q(end_user=""), name="response_end_user"
            ),
            models.Index(fields=["id"], condition=models.Q(status="queued"), name="response_queue"),
            models.Index(
                fields=["worker_id"], condition=models.Q(status="in_progress"), name="response_worker"
            ),
            models.Index(
                fields=["expires_at"], condition=models.Q(expires_at__isnull=False), name="response_expiry"
            ),
        )

    def __str__(self) -> str:
        return (CHAT_COMPLETION if self.kind == self.Kind.CHAT_COMPLETION else RESPONSE) + self.id.hex
