"""What a connection remembers: its last Response, within bounds, and nothing that counts when it is over."""

from __future__ import annotations

import pytest

from proxy.intake import MAX_PROCESS_BYTES, Held, TooMuchAtOnce
from proxy.memory import Memory
from threads.history import LARGEST_PAST_BYTES

SAID = ({"type": "message", "role": "user", "content": "Hello"},)


def is_empty(held: Held) -> bool:
    """Whether there is room for all that a process may hold."""
    held.take("", MAX_PROCESS_BYTES)
    held.give_back("", MAX_PROCESS_BYTES)
    return True


async def test_it_remembers_the_last_response_and_no_other() -> None:
    remembered = Memory(Held())
    assert await remembered.said("") is None
    await remembered.remember("resp_1", SAID, 0)
    await remembered.remember("resp_2", SAID * 2, 0)
    assert await remembered.said("resp_1") is None
    assert await remembered.said("resp_2") == SAID * 2


async def test_it_knows_an_event_that_goes_on_from_it() -> None:
    remembered = Memory(Held())
    assert not remembered.is_named_in(b'{"previous_response_id": ""}')
    await remembered.remember("resp_1", SAID, 0)
    assert remembered.is_named_in(b'{"previous_response_id": "resp_1", "broken')
    assert not remembered.is_named_in(b'{"previous_response_id": "resp_2"}')


async def test_it_counts_until_it_is_forgotten() -> None:
    held = Held()
    remembered = Memory(held)
    await remembered.remember("resp_1", SAID, 0)
    with pytest.raises(TooMuchAtOnce):
        is_empty(held)
    remembered.forget()
    assert await remembered.said("resp_1") is None
    assert is_empty(held)


async def test_what_is_too_much_for_the_process_is_not_remembered() -> None:
    held = Held()
    held.take("", MAX_PROCESS_BYTES)
    remembered = Memory(held)
    await remembered.remember("resp_1", SAID, 0)
    assert await remembered.said("resp_1") is None


async def test_what_is_too_much_for_a_past_is_not_remembered() -> None:
    held = Held()
    remembered = Memory(held)
    await remembered.remember("resp_1", ({"type": "message", "content": "x" * LARGEST_PAST_BYTES},), 0)
    assert await remembered.said("resp_1") is None
    assert is_empty(held)
