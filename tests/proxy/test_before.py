"""What a Response goes on from, where that is much: other calls have their turn meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import pytest

from accounts.ids import uuid7
from accounts.keys import Caller
from proxy.before import Before, encoded, look_back, with_history
from proxy.call import LARGE_BYTES, Call
from proxy.intake import Held
from proxy.memory import Memory
from proxy.usage import estimate_input
from threads.history import NOTHING

T = TypeVar("T")

TENANT = UUID(int=1)
CALLER = Caller(TENANT, "acme", 1, None, None, (), "", "UTC", None, False)
SAID = tuple({"type": "message", "role": "user", "content": "word " * 200} for _ in range(LARGE_BYTES // 500))
SIZE = len(msgspec.json.encode(SAID))


def raw(**members: object) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(member)) for name, member in members.items()}


CALL = Call(
    "responses", "/responses", "m", False, raw(model="m", previous_response_id="resp_1", input="Hi"), 1
)


async def beside(work: Coroutine[Any, Any, T]) -> tuple[T, int]:
    """What the work comes to, and how many turns another task had meanwhile."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    try:
        return await work, turns
    finally:
        other.cancel()


async def remembered() -> Memory:
    memory = Memory(Held())
    await memory.remember("resp_1", SAID, SIZE)
    return memory


async def test_much_is_remembered_beside_other_calls() -> None:
    memory = Memory(Held())
    _, turns = await beside(memory.remember("resp_1", SAID, SIZE))
    assert turns
    assert await memory.said("resp_1") == SAID


async def test_much_is_looked_back_at_beside_other_calls() -> None:
    before, turns = await beside(look_back(CALL, CALLER, await remembered()))
    assert turns
    assert before.said == SAID


async def test_much_is_put_before_the_input_beside_other_calls() -> None:
    before = await look_back(CALL, CALLER, await remembered())
    call, turns = await beside(with_history(CALL, before, TENANT))
    assert turns
    assert msgspec.json.decode(call.fields["input"]) == [*SAID, *before.given]


@pytest.mark.parametrize("said", [(), SAID[:1], SAID[:3]])
async def test_the_input_is_estimated_as_it_is_sent(said: tuple[dict[str, Any], ...]) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,aaaa"}
    given = ({"type": "message", "role": "user", "content": [image]},)
    call = await with_history(CALL, Before(NOTHING, said, given), uuid7())
    assert call.input_tokens_estimate == estimate_input(msgspec.json.encode(call.fields))


@pytest.mark.parametrize("said", [(), SAID[:1], SAID[:3]])
def test_it_is_encoded_as_a_list_is(said: tuple[dict[str, Any], ...]) -> None:
    assert encoded(said) == msgspec.json.encode(said)
