"""The published schema of the management API, held to its word by schemathesis: thousands of requests that it
says are good, or bad, as an operator and as the admin of a tenant. No answer is an error of ours, and each is
one that the schema tells of.

The requests are the same in each run. Half of those that name something name what there is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.api.resource import REQUESTS_PER_MINUTE
from tests.conftest import StartGateway
from tests.gateway.test_permissions import SAMPLES
from tests.managing import Cast, cast, made

CASES = 5_200 if os.environ.get("CI") == "true" else 300
ROLES = ("admin", "operator")  # who may delete everything comes last
SLUG = "explored"
ROWS = 3
NAMES = {"tenant": SLUG, "user": f"viewer@{SLUG}.test", "model": "demo", "upstream": "demo"}
CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
]


def operations(gateway_url: str) -> list[APIOperation[Any, Any, Any, Any]]:
    schema = schemathesis.openapi.from_url(f"{gateway_url}/api/schema/")
    found = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
    assert len(found) == schema.statistic.operations.total
    return found


def callers(people: Cast, role: str) -> Iterator[requests.Session]:
    """So many keys of that role that none of them asks too often; one after the other."""
    user = {} if role == "operator" else {"tenant": SLUG, "user": f"{role}@{SLUG}.test"}
    keys = [
        made(people.operator.post("api-keys/", json={"name": f"{role} {number}", **user}))["secret"]
        for number in range(CASES // REQUESTS_PER_MINUTE + 2)
    ]
    return cycle([session(people, key) for key in keys])


def session(people: Cast, key: str) -> requests.Session:
    made = people.gateway.closing.enter_context(requests.Session())
    made.trust_env = False
    made.headers["authorization"] = f"Bearer {key}"
    return made


def rows(people: Cast, role: str) -> dict[str, list[str]]:
    """Ids of rows that nobody needs, of this tenant and of another; an operator may delete any."""
    known = {
        resource: [sample(people, slug) for slug in (SLUG, f"{SLUG}-other") for _ in range(ROWS)]
        for resource, sample in SAMPLES.items()
    }
    spare = [
        made(people.operator.post("tenants/", json={"slug": f"spare-{role}-{n}", "name": "x"}))
        for n in range(ROWS)
    ]
    return known | {
        "tenants": [*(each["id"] for each in spare), *(known["tenants"] if role == "admin" else ())]
    }


def explore(
    operation: APIOperation[Any, Any, Any, Any],
    known: dict[str, list[str]],
    clients: Iterator[requests.Session],
    examples: int,
) -> None:
    """Sends so many requests to one endpoint."""
    ids = known[operation.path.split("/")[2]]
    cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))
    rows = st.none() | st.sampled_from(ids)

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, id_=rows, named=st.booleans())
    def send(case: schemathesis.Case[Any], id_: str | None, named: bool) -> None:
        if id_ is not None and case.path_parameters:
            case.path_parameters["id"] = id_
        for values in (case.query, case.body):
            if named and isinstance(values, dict):
                values.update({name: NAMES[name] for name in NAMES.keys() & values.keys()})
        caller = next(clients)
        answer = case.call(session=caller, timeout=30)
        assert answer.status_code not in (401, 429), answer.text
        case.validate_response(answer, checks=CHECKS)

    send()


@pytest.mark.timeout(600)
def test_it_answers_as_its_schema_says(start_gateway: StartGateway) -> None:
    people = cast(start_gateway(), SLUG)
    every = operations(people.gateway.url)
    for role in ROLES:
        known, clients = rows(people, role), callers(people, role)
        for operation in every:
            explore(operation, known, clients, examples=-(-CASES // len(ROLES) // len(every)))
