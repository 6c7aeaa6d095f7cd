"""What the limits that apply to a call demand of the limiter, and how a refusal is told. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from accounts.keys import Caller
from accounts.limits import Bucket, Demand, Grant, Lease, Level, Refusal
from accounts.rules import LimitRule, SubjectId
from proxy.call import Call

# Output is reserved as asked for, within these: most answers are short, and what was too little is taken
# while the answer runs.
DEFAULT_OUTPUT_TOKENS = 1_000
MAX_OUTPUT_TOKENS = 4_000
_OUTPUT_MEMBERS = ("max_completion_tokens", "max_tokens", "max_output_tokens")

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Asked:
    """One demand, the limit that makes it, and what it counts: requests, tokens or concurrent calls."""

    demand: Demand
    rule: LimitRule
    counts: str

    def words(self) -> str:
        """The limit as a sentence names it."""
        if isinstance(self.demand, Lease):
            return f"{self.demand.limit} concurrent calls per {self.rule.scope}"
        assert isinstance(self.demand, Bucket)
        period = "second" if self.demand.period_seconds == 1 else "minute"
        return f"{self.demand.limit} {self.counts} per {period} and {self.rule.scope}"


class RateLimited(Exception):
    """A limit is exceeded, and the call was not, or not in time, let in. `headers` tell how things stand."""

    def __init__(self, asked: Asked, retry_after_seconds: float) -> None:
        super().__init__(asked.words())
        self.retry_after_seconds = retry_after_seconds
        self.headers = (
            (b"retry-after", b"%d" % math.ceil(retry_after_seconds)),
            (b"retry-after-ms", b"%d" % math.ceil(retry_after_seconds * 1000)),
            *_exceeded(asked, retry_after_seconds),
        )


def asked_of(rules: tuple[LimitRule, ...], call: Call, caller: Caller, client_ip: str) -> tuple[Asked, ...]:
    """The demands of every limit that applies to this call."""
    subjects: dict[str, SubjectId | None] = {
        "tenant": caller.tenant_id,
        "user": caller.user_id,
        "key": caller.api_key_id or caller.security_key_id,
        "ip": client_ip,
        "model": call.model,
    }
    tokens = token_cost(call)
    asked: list[Asked] = []
    for rule in rules:
        subject = subjects[rule.scope]
        if subject is not None and (rule.subject_id is None or rule.subject_id == subject):
            asked += _demands(rule, f"{rule.id.hex}:{subject}", tokens)
    return tuple(asked)


def token_cost(call: Call) -> int:
    """Tokens to reserve: the input's estimate, and the output that is asked for within bounds."""
    wanted = DEFAULT_OUTPUT_TOKENS if call.endpoint != "embeddings" else 0
    for name in _OUTPUT_MEMBERS:
        raw = call.fields.get(name)
        if raw is not None and bytes(raw).isdigit():
            wanted = msgspec.json.decode(raw)
    return call.input_tokens_estimate + min(wanted, MAX_OUTPUT_TOKENS)


def _demands(rule: LimitRule, where: str, tokens: int) -> Iterator[Asked]:
    queues = rule.queue_seconds is not None
    for limit, period in ((rule.requests_per_second, 1), (rule.requests_per_minute, 60)):
        if limit is not None:
            bucket = Bucket(f"{where}:r{period}", 1 if queues else limit, limit, period)
            yield Asked(bucket, rule, "requests")
    if (limit := rule.tokens_per_minute) is not None:
        # A call that asks for more than the bucket holds is let in when it is full.
        yield Asked(Bucket(f"{where}:t60", limit, limit, 60, min(tokens, limit)), rule, "tokens")
    if rule.concurrent is not None:
        yield Asked(Lease(f"{where}:c", rule.concurrent), rule, "concurrent calls")


def headers(asked: tuple[Asked, ...], grant: Grant) -> tuple[Header, ...]:
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}` of the fullest bucket of each kind.

    Source: OpenAI's guide "Rate limits", 2026-11: resets are durations such as `1s`, `6m0s`, `20ms`.
    """
    counted = [each.counts for each in asked if isinstance(each.demand, Bucket)]
    out: list[Header] = []
    for counts in ("requests", "tokens"):
        levels = [level for kind, level in zip(counted, grant.levels, strict=True) if kind == counts]
        if levels:
            out += _told(counts, min(levels, key=lambda level: level.remaining / level.limit))
    return tuple(out)


def _told(counts: str, level: Level) -> list[Header]:
    return [
        (f"x-ratelimit-limit-{counts}".encode(), b"%d" % level.limit),
        (f"x-ratelimit-remaining-{counts}".encode(), b"%d" % max(0, level.remaining)),
        (f"x-ratelimit-reset-{counts}".encode(), duration(level.full_seconds)),
    ]


def _exceeded(asked: Asked, retry_after_seconds: float) -> list[Header]:
    if not isinstance(asked.demand, Bucket):
        return []
    return _told(asked.counts, Level(asked.demand.limit, 0, retry_after_seconds))


def duration(seconds: float) -> bytes:
    """`20ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000)
    minutes, rest = divmod(seconds, 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return (f"{minutes:.0f}m{text}s" if minutes else f"{text}s").encode()


def refused(asked: tuple[Asked, ...], refusal: Refusal) -> RateLimited:
    """The exception that tells the refusal; without a known wait a second is as good as any."""
    wait = refusal.retry_after_seconds
    return RateLimited(asked[refusal.index], 1.0 if wait is None else wait)
