"""The first five minutes: what somebody who signed in does next, and what is done.

Each step is asked of the database, so that it does not matter how it was done. People see the steps that the
permission table lets them take. Where calls have come for longer than a day, nobody is new any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.core.cache import cache
from django.http import HttpRequest

from accounts.actors import Actor, NotManaging, actor_of_user
from accounts.models import ApiKey, Membership, User
from accounts.permissions import Reach, reach
from accounts.tenancy import operator_scope
from proxy.models import Model, Route, Upstream, UsageRecord

NEW_FOR = timedelta(days=1)
# How far back is looked for a call of somebody's own.
LATELY = 1_000
DEMO = Upstream.Dialect.DEMO
# What a start makes by itself (gateway/bootstrap.py).
_MADE_AT_START = {"name": "default", "tenant__slug": "default"}
_REMEMBERED_SECONDS = 90 * 86_400


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, called `name`. `path` leads to where it is done, by a link that says `label`; "" where
    there is no such place."""

    name: str
    title: str
    text: str
    done: bool
    path: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """All of somebody's, and the model that their first call may ask for."""

    steps: Sequence[Step]
    model: str

    @property
    def done(self) -> int:
        """How many are."""
        return sum(step.done for step in self.steps)

    @property
    def next(self) -> str:
        """The name of the first that is not."""
        return next((step.name for step in self.steps if not step.done), "")


def saw_live(user_id: int) -> None:
    """Somebody looks at live calls."""
    cache.add(_saw_live(user_id), True, _REMEMBERED_SECONDS)


def _saw_live(user_id: int) -> str:
    return f"saw_live:{user_id}"


def open_steps(request: HttpRequest) -> FirstSteps | None:
    """What is to be done by whoever asks; None when all is, and for those who are nobody or not new."""
    user = request.user
    if not isinstance(user, User):
        return None
    try:
        actor = actor_of_user(user, _first_tenant(user))
    except NotManaging:
        return None
    saw = bool(cache.get(_saw_live(user.pk)))
    with operator_scope():
        first_call_at = _first_call_at(actor)
        if first_call_at is not None and first_call_at < datetime.now(UTC) - NEW_FOR:
            return None
        called = first_call_at is not None and _has_called(actor)
        steps = tuple(_steps(actor, called=called, saw=saw))
        model = _model() if steps else ""
    return FirstSteps(steps, model) if any(not step.done for step in steps) else None


def _first_tenant(user: User) -> str:
    with operator_scope():
        found = Membership.objects.filter(user=user, tenant__active=True).order_by("id")
        return found.values_list("tenant__slug", flat=True).first() or ""


def _first_call_at(actor: Actor) -> datetime | None:
    """When the oldest call began, of the actor's tenant or, for an operator, of all; each by an index."""
    if actor.tenant_id is None:
        records = UsageRecord.objects.order_by("id")
    else:
        records = UsageRecord.objects.of(actor.tenant_id).order_by("started_at")
    return records.values_list("started_at", flat=True).first()


def _steps(actor: Actor, *, called: bool, saw: bool) -> Iterator[Step]:
    if reach(actor.role, "upstreams", "create") is Reach.ALL:
        yield from _upstream_steps()
    keys = reach(actor.role, "api-keys", "read")
    makes_keys = reach(actor.role, "api-keys", "create") is Reach.ALL
    if makes_keys:
        yield _key_step(actor)
    elif keys is Reach.OWN:
        yield _own_key_step(actor)
    if makes_keys or keys is Reach.OWN:
        yield Step(
            "call",
            "Send the first call",
            "With the key, from anywhere that reaches this gateway. Any OpenAI client will do.",
            called,
        )
    yield Step(
        "live",
        "See it arrive",
        "Calls are shown as they start, stream and end.",
        called and saw,
        "/dashboard/live/",
        "Watch live calls",
    )


def _upstream_steps() -> Iterator[Step]:
    there = Upstream.objects.exclude(dialect=DEMO).exists()
    yield Step(
        "upstream",
        "Add an upstream",
        "A server that answers: OpenAI, vLLM, Ollama, or any that speaks OpenAI's language. Until there is "
        "one, the built-in model demo answers.",
        there,
        "/admin/proxy/upstream/add/",
        "Add an upstream",
    )
    yield Step(
        "model",
        "Name its models",
        "Discover them on the upstream's page, or add one here: a name that callers ask for, and a route. "
        "The name * stands for every other.",
        Route.objects.exclude(upstream__dialect=DEMO).exists(),
        "/admin/proxy/model/add/",
        "Add a model",
    )


def _key_step(actor: Actor) -> Step:
    keys = ApiKey.objects.all() if actor.tenant_id is None else ApiKey.objects.of(actor.tenant_id)
    there = keys.exclude(**_MADE_AT_START).filter(revoked_at=None)
    return Step(
        "key",
        "Make a key",
        "Programs call with a key, which is some member's. It is shown once: copy it.",
        there.exists(),
        "/admin/accounts/apikey/add/",
        "Make an API key",
    )


def _own_key_step(actor: Actor) -> Step:
    assert actor.tenant_id is not None
    there = ApiKey.objects.of(actor.tenant_id).filter(user_id=actor.user_id, revoked_at=None)
    return Step("key", "Get a key", "An owner or an admin of your team makes one for you.", there.exists())


def _has_called(actor: Actor) -> bool:
    """Whether one of the calls is among those that the actor may see."""
    if actor.tenant_id is None or reach(actor.role, "usage", "read") is not Reach.OWN:
        return True
    callers = UsageRecord.objects.of(actor.tenant_id).order_by("-started_at")
    return actor.user_id in set(callers.values_list("user_id", flat=True)[:LATELY])


def _model() -> str:
    """One that an upstream answers, where there is one whose name needs no quotes in a shell."""
    routed = Model.objects.filter(name__regex=r"^[\w./:-]+$", routes__upstream__enabled=True)
    found = routed.exclude(routes__upstream__dialect=DEMO).order_by("id").first()
    return found.name if found is not None else "demo"
