"""Parts of lists: how many entries make a page."""

from __future__ import annotations

import pytest

from accounts.models import Tenant
from tests.threads.turns import message
from threads import conversations
from threads.pages import LARGEST_PAGE_BYTES, Order, Page, fitting

HALF = LARGEST_PAGE_BYTES // 2


@pytest.mark.parametrize(
    ("sizes", "limit", "fit"),
    [
        ([], 20, 20),
        ([1] * 20, 20, 20),
        ([1] * 21, 20, 20),
        ([HALF, HALF, 1], 20, 2),
        ([HALF, HALF + 1, 1], 20, 1),
        ([HALF, HALF, 1], 2, 2),
        ([LARGEST_PAGE_BYTES + 1], 20, 20),
        ([LARGEST_PAGE_BYTES + 1, 1], 20, 1),
        ([1, LARGEST_PAGE_BYTES], 20, 1),
    ],
)
def test_a_page_has_what_fits_and_one_entry_at_least(sizes: list[int], limit: int, fit: int) -> None:
    assert fitting(sizes, limit) == fit


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_large_entries_come_in_pages_of_fewer(acme: Tenant, order: Order) -> None:
    large = [message("ä" * (LARGEST_PAGE_BYTES // 4)) for _ in range(3)]
    conversation = conversations.create(acme.id, large, retention_days=30).id
    pages = [conversations.items(acme.id, conversation, Page(order=order))]
    while pages[-1].has_more:
        pages.append(conversations.items(acme.id, conversation, Page(after=pages[-1].last_id, order=order)))
    assert [len(page.data) for page in pages] == [1, 1, 1]
    assert len({page.last_id for page in pages}) == 3
