"""The kinds of upstreams that Responses are answered over; SQLite in a file, as people have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from proxy.upstream import Upstreams
from tests.accounts.conftest import database_threads, django_db_modify_db_settings
from tests.server import UPSTREAM_API_KEY, Gateway
from tests.upstreams.scripted import ScriptedUpstream

__all__ = ["chatting", "database_threads", "django_db_modify_db_settings"]


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    asyncios: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    return asyncios | ({"uvloop": uvloop.new_event_loop} if item.get_closest_marker("both_loops") else {})


@pytest.fixture(scope="session")
def chatting(session_gateway: Gateway, session_upstream: ScriptedUpstream) -> str:
    """A model of the shared gateway whose upstream only chats. `gpt-test`'s has Responses of its own, and
    `demo` is no server at all."""
    upstream = {"name": "chats", "dialect": "openai", "base_url": session_upstream.url, "responses": "chat"}
    model = {"name": "chatting", "routes": [{"upstream": "chats", "model": "gpt-test"}]}
    session_gateway.configure({"upstreams": [{**upstream, "api_key": UPSTREAM_API_KEY}], "models": [model]})
    return "chatting"


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    opened = Upstreams()
    yield opened
    await opened.close()
