"""`GET /models` and `/models/{id}`: the names that this caller may use.

Behind a name with `*` stand the names that its upstreams list themselves; one that looks like a path on
somebody's disk is not a name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from accounts.keys import Caller
from proxy import discovery
from proxy.errors import WrongMethod
from proxy.http import Reply, Request
from proxy.relay import Relay
from proxy.routing import ModelForbidden, ModelNotFound, Pattern, Table, Target

# The list has no times of its own: a model's row may be older or newer than the model.
_CREATED = 0


async def answer(relay: Relay, name: str, request: Request, reply: Reply) -> None:
    """The list, or the model called `name`. Raises ModelForbidden, ModelNotFound, …"""
    if request.method != "GET":
        raise WrongMethod(request.method, ("GET",))
    caller = await relay.caller(request)
    if name and not caller.may_use(name):
        raise ModelForbidden(name)
    names = await _names(await relay.routing.table.get(), caller)
    if not name:
        listed = {"object": "list", "data": [_model(each) for each in sorted(names)]}
        return await reply.whole(200, b"application/json", msgspec.json.encode(listed))
    if name not in names:
        raise ModelNotFound(name)
    await reply.whole(200, b"application/json", msgspec.json.encode(_model(name)))


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "tollgate"}


async def _names(table: Table, caller: Caller) -> set[str]:
    exact = table.names(caller.tenant_id)
    listed = await asyncio.gather(*(_listed(pattern, caller) for pattern in table.patterns))
    return {name for name in exact.union(*listed) if caller.may_use(name)}


async def _listed(pattern: Pattern, caller: Caller) -> set[str]:
    targets = [c.target for c in pattern.candidates if c.tenant_id in (None, caller.tenant_id)]
    lists: Iterable[list[str]] = await asyncio.gather(
        *(_discover(target) for target in targets if not target.model)
    )
    return {name for names in lists for name in names if pattern.fits(name)}


async def _discover(target: Target) -> list[str]:
    if target.dialect != "openai":
        return []
    return await discovery.discover(target.upstream_id, target.base_url, dict(target.headers))
