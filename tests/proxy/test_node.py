"""The official SDK for Node over what is stored (tests/clients/node/stored.mjs)."""

from __future__ import annotations

import pytest

from tests.clients import node
from tests.server import Person


@pytest.mark.parametrize("part", ["responses", "conversations", "completions"])
def test_the_sdk_for_node_finds_all_as_it_expects(part: str, alice: Person) -> None:
    node.run("stored.mjs", part, person=alice)
