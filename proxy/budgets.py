"""What a call may cost under its budgets: what is held for it, and the output that this pays for. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from accounts.limits import Hold
from accounts.models import LARGEST_BUDGET_NANO_USD
from accounts.rules import BudgetRule
from proxy.call import Call, member
from proxy.usage import Price

# An answer shorter than this helps nobody: a call that cannot pay for it waits, or is refused.
LEAST_OUTPUT_TOKENS = 16
# What a model may say that was not told how much: more than models write at once.
UNBOUNDED_OUTPUT_TOKENS = 128_000
# Where a caller names a larger number, tokens or choices, it stands for this: more than any model gives.
MOST_ASKED = 10**9
# What no budget pays for. A call that may cost more is told from others by nothing.
_UNPAYABLE_NANO_USD = LARGEST_BUDGET_NANO_USD + 1
# A token is at least a byte of what was sent; a chat's own marks come on top of it.
_BYTES_PER_ESTIMATED_TOKEN = 4
_OVERHEAD_TOKENS = 64

_A_DAY = timedelta(days=1)

# What each endpoint calls the most output it may have; the first is what is sent where the caller named none.
_LIMIT_MEMBERS = {
    "chat.completions": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "responses.compact": ("max_output_tokens",),
}


class Unpriced(Exception):
    """Nobody can tell what the model costs, and a budget applies that does not allow that."""


class QuotaExceeded(Exception):
    """The budget is spent, or what is left of it does not pay for the call. `retry_after_seconds` is when its
    window ends; a budget in total has a day, in which an operator may have raised it."""

    def __init__(self, rule: BudgetRule, now: datetime) -> None:
        super().__init__()
        end = now + _A_DAY if rule.period == "total" else rule.window(now)[1]
        self.retry_after_seconds = math.ceil((end - now).total_seconds())


@dataclass(frozen=True, slots=True)
class Worst:
    """The most that a call may cost, in parts: its input, and each token of output, of all choices."""

    input_nano_usd: int
    output_tokens: int
    output_nano_usd_per_million: int
    choices: int = 1

    def cost(self, output_tokens: int) -> int:
        """Nano-dollars with that much output, rounded up."""
        return self.input_nano_usd + -(-output_tokens * self.output_nano_usd_per_million // 1_000_000)

    @property
    def wanted(self) -> int:
        """What is held for it where there is enough, in nano-dollars."""
        return min(self.cost(self.output_tokens), _UNPAYABLE_NANO_USD)

    @property
    def least(self) -> int:
        """What is held for it at least: the cost of a short answer for each choice, in nano-dollars."""
        tokens = min(self.output_tokens, LEAST_OUTPUT_TOKENS * self.choices)
        return min(self.cost(tokens), _UNPAYABLE_NANO_USD)

    def affordable(self, held: int) -> int:
        """Tokens of output that `held` nano-dollars pay for."""
        if self.output_nano_usd_per_million == 0:
            return self.output_tokens
        return max(0, held - self.input_nano_usd) * 1_000_000 // self.output_nano_usd_per_million


@dataclass(frozen=True, slots=True)
class Charge:
    """Where a call's cost is added up: a row of accounts.Spend, named as the ledger's JSON names it."""

    budget: str
    subject: str
    window_start: str

    @classmethod
    def of(cls, rule: BudgetRule, subject: str, start: datetime) -> Charge:
        """In the window that began then."""
        return cls(rule.id.hex, subject, start.strftime("%Y-%m-%d %H:%M:%S"))

    def hold(self, amount: int) -> Hold:
        """What a limiter calls the same, of a budget of that many nano-dollars."""
        return Hold(f"{self.budget}:{self.subject}@{self.window_start}", amount)


def worst(call: Call, price: Price | None) -> Worst | None:
    """None where no price is known for something that the call will use. Raises InvalidBody."""
    if price is None:
        return None
    if call.audio is not None and price.minute is not None:
        return Worst(-(-call.audio.milliseconds * price.minute // 60_000), 0, 0)
    tokens = _output_tokens(call)
    if price.input is None or (tokens and price.output is None):
        return None
    inputs = call.input_tokens_estimate * _BYTES_PER_ESTIMATED_TOKEN + _OVERHEAD_TOKENS
    return Worst(-(-inputs * price.input // 1_000_000), tokens, price.output or 0, _choices(call))


def capped(call: Call, most: Worst, held: int) -> tuple[Call, int | None]:
    """The call with the output that `held` pays for, and that cap; None where it asked for no more."""
    names = _LIMIT_MEMBERS.get(call.endpoint)
    cap = most.affordable(held) // most.choices
    if names is None or (cap >= most.output_tokens // most.choices and _asked(call) is not None):
        return call, None
    cap = min(cap, most.output_tokens)
    given = [name for name in names if name in call.fields] or [names[0]]
    fields = {**call.fields, **{name: msgspec.Raw(b"%d" % cap) for name in given}}
    return replace(call, fields=fields), cap


def _output_tokens(call: Call) -> int:
    """The most tokens of output that the call may have; 0 for calls that have none."""
    if call.endpoint not in _LIMIT_MEMBERS:
        return 0
    asked = _asked(call)
    return (UNBOUNDED_OUTPUT_TOKENS if asked is None else asked) * _choices(call)


def _asked(call: Call) -> int | None:
    for name in _LIMIT_MEMBERS.get(call.endpoint, ()):
        value = _number(call, name)
        if value is not None:
            return value
    return None


def _choices(call: Call) -> int:
    return max(1, _number(call, "n") or 1, _number(call, "best_of") or 1)


def _number(call: Call, name: str) -> int | None:
    value = member(call.fields, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return None
    return min(value, MOST_ASKED)
