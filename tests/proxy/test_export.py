"""Usage records as files that spreadsheets and programs read, whatever callers wrote."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from accounts.ids import uuid7
from accounts.reading import BY_ARRIVAL, Question
from accounts.tenancy import operator_scope
from proxy.export import COLUMNS, FORMS, Form, cell, pieces
from proxy.models import UsageRecord
from tests.managing import Cast, cast, error, key_of, results
from tests.server import Gateway
from tests.upstreams.scripted import ScriptedUpstream

# What callers may call a model; and what only a row that came in another way could have.
ODD = (
    *("<script>alert(1)</script>", '=HYPERLINK("http://evil.test";"x")', "@SUM(A1)", "-2-3", "a;=1"),
    *('quo"ted,', "x" * 200, "'", "{{7*7}}"),
)
ODDER = ("\t=1", "two\nlines", "a\rb", "a\u2028b\u2029c\x85d", "\u202egpt", "+1", "\n=1")


@pytest.fixture(scope="module")
def people(session_gateway: Gateway) -> Cast:
    return cast(session_gateway, "exported")


@pytest.fixture(scope="module")
def called(people: Cast) -> list[str]:
    """The ids of calls for models of odd names, newest first."""
    headers = {"authorization": f"Bearer {key_of('exported', 'member')}"}
    url = f"{people.gateway.url}/v1/chat/completions"
    ids = []
    for name in ODD:
        body = {"model": name, "messages": [{"role": "user", "content": "x"}]}
        answer = httpx.post(url, headers=headers, json=body, trust_env=False, timeout=30)
        ids.append(str(people.gateway.usage_of(answer.headers["x-request-id"])["id"]))
    return ids[::-1]


def exported(client: httpx.Client, form: str, **query: str) -> httpx.Response:
    answer = client.get("usage/export/", params={"format": form, **query})
    assert answer.status_code == 200, answer.text
    return answer


def unmarked(text: str) -> str:
    return text.replace("'", "")


def rows(answer: httpx.Response) -> list[dict[str, Any]]:
    """As a reader of lines has it, which knows more ends of lines than JSON does."""
    return [json.loads(line) for line in answer.text.splitlines()]


def test_it_exports_what_the_list_has(people: Cast, called: list[str], upstream: ScriptedUpstream) -> None:
    answer = exported(people.owner, "jsonl")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"] == 'attachment; filename="usage-exported.jsonl"'
    assert rows(answer) == results(people.owner.get("usage/", params={"limit": 200}))
    assert [row["id"] for row in rows(answer)] == called
    assert [row["model"] for row in rows(answer)] == list(ODD[::-1])


def test_it_exports_text_that_no_spreadsheet_computes(people: Cast, called: list[str]) -> None:
    answer = exported(people.owner, "csv")
    heading, *lines = csv.reader(io.StringIO(answer.text, newline=""))
    assert tuple(heading) == COLUMNS
    told = [dict(zip(heading, line, strict=True)) for line in lines]
    assert [row["id"] for row in told] == called
    shown = results(people.owner.get("usage/", params={"limit": 200}))
    for row, record in zip(told, shown, strict=True):
        assert unmarked(row["model"]) == unmarked(record["model"])
        assert row["model"][0] not in "=+-@\t\r\n"
        assert int(row["input_tokens"]) == record["input_tokens"]
        assert (row["cost_usd"], row["user"]) == ("", "member@exported.test")
        assert (row["started_at"], row["stream"]) == (record["started_at"], "false")
        assert json.loads(row["attempts"]) == record["attempts"]
    # Nor one that takes a semicolon for the end of a cell.
    assert not [line for line in answer.text.split(";") if line.startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_it_writes_one_line_for_each_record(db: None, form: Form) -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    known = {"tenant_id": uuid4(), "stream": False, "estimated": False, "duration_milliseconds": 1}
    with operator_scope():
        for model in (*ODD, *ODDER):
            UsageRecord.objects.create(id=uuid7(), model=model, started_at=now, ended_at=now, **known)
    question = Question(UsageRecord.objects.all(), {}, BY_ARRIVAL)
    text = b"".join(pieces(question, form, operator_scope)).decode()
    if form.suffix == "csv":
        read = [row["model"] for row in csv.DictReader(io.StringIO(text, newline=""))]
        assert not [model for model in read if model[0] in "=+-@\t\r\n"]
    else:
        read = [json.loads(line)["model"] for line in text.splitlines()]
    assert sorted(map(unmarked, read)) == sorted(map(unmarked, (*ODD, *ODDER)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@A1", "'@A1"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("a;=1", "a;'=1"),
        ('",=1', "\",'=1"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("a=b", "a=b"),
        ("", ""),
        (None, None),
        (-5, -5),
        (True, "true"),
        ([{"upstream": "a"}], '[{"upstream":"a"}]'),
    ],
)
def test_it_marks_what_could_be_a_formula_and_leaves_numbers(value: object, shown: object) -> None:
    assert cell("model", value) == shown


def test_it_exports_what_was_asked_for(people: Cast, called: list[str]) -> None:
    assert [row["id"] for row in rows(exported(people.owner, "jsonl", model=ODD[1]))] == [called[-2]]
    before = people.owner.get(f"usage/{called[3]}/").json()["started_at"]
    older = rows(exported(people.owner, "jsonl", started_before=before, status="completed"))
    assert called[4] in [row["id"] for row in older]
    assert called[3] not in [row["id"] for row in older]
    assert exported(people.owner, "csv", status="lost").text == ",".join(COLUMNS) + "\r\n"


@pytest.mark.parametrize(
    ("query", "param"),
    [({"format": "xls"}, "format"), ({"colour": "red"}, "colour"), ({"limit": "3"}, "limit")],
)
def test_it_refuses_what_cannot_be_meant(people: Cast, query: dict[str, str], param: str) -> None:
    assert error(people.owner.get("usage/export/", params=query), 400)["param"] == param


def test_it_exports_to_each_what_they_may_see(people: Cast, called: list[str]) -> None:
    assert [row["id"] for row in rows(exported(people.member, "jsonl"))] == called
    assert rows(exported(people.member, "jsonl", user="owner@exported.test")) == []
    assert rows(exported(people.outsider, "jsonl")) == []
    assert error(people.outsider.get("usage/export/", params={"tenant": "exported"}), 404)
    everybodys = [row["id"] for row in rows(exported(people.operator, "jsonl"))]
    assert set(called) <= set(everybodys)
    assert len(everybodys) == len(set(everybodys))


def test_it_writes_down_who_exported(people: Cast) -> None:
    exported(people.viewer, "csv")
    exported(people.operator, "csv", model="none")
    for reader, who, name in (
        (people.owner, "viewer@exported.test", "exported"),
        (people.operator, "", "all"),
    ):
        entry = results(reader.get("audit/", params={"resource": "usage", "limit": 1}))[0]
        assert (entry["action"], entry["object_name"]) == ("export", name)
        assert entry["actor"].startswith(who)
