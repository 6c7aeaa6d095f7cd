"""The panel's pages of upstreams and models: how upstreams do, and what is asked of them from there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from accounts.models import Tenant, User
from proxy.models import Model, Price, Route, Upstream, Worker
from tests.accounts.conftest import acme, alice, charlie, globex
from tests.gateway.test_admin import FORM

__all__ = ["acme", "alice", "charlie", "globex"]


@pytest.fixture
def openai(admin_client: Client) -> Upstream:
    made = admin_client.post("/admin/proxy/upstream/add/", FORM | {"api_key": "sk-hush"})
    upstream: Upstream = Upstream.objects.get(name="openai")
    assert made["location"] == f"/admin/proxy/upstream/{upstream.id}/change/"
    return upstream


def test_it_leads_to_asking_a_new_upstream(admin_client: Client, openai: Upstream) -> None:
    page = admin_client.get(f"/admin/proxy/upstream/{openai.id}/change/").content.decode()
    assert f'data-upstream="/api/upstreams/{openai.id}/"' in page
    assert "is there. Test the connection" in page
    assert "api key" in page
    assert "sk-hush" not in page
    assert "data-upstream" not in admin_client.get("/admin/proxy/upstream/add/").content.decode()


def test_it_says_how_each_has_been_doing(admin_client: Client, openai: Upstream) -> None:
    until = datetime.now(UTC) + timedelta(seconds=30)
    told = {
        "answered": 1200,
        "failed": 2,
        "last_failure": "503",
        "last_failure_at": datetime.now(UTC).isoformat(),
        "cooling": {"<b>gpt": until.isoformat()},
    }
    Worker.objects.create(health={str(openai.id): told})
    for page in ("", f"{openai.id}/change/"):
        shown = admin_client.get(f"/admin/proxy/upstream/{page}").content.decode()
        assert "cooling" in shown
        assert "1,200 answered, 2 failed (the last: 503" in shown
        assert "<b>gpt" not in shown
    assert f"&lt;b&gt;gpt until {until:%H:%M:%S} UTC" in shown


def test_it_shows_a_tenant_the_models_that_it_can_use_and_no_route(
    admin_client: Client, acme: Tenant, alice: User, charlie: User
) -> None:
    theirs = Upstream.objects.create(name="ours-alone", dialect="demo", tenant=acme)
    model = Model.objects.create(name="gpt-of-acme")
    Route.objects.create(model=model, upstream=theirs)
    Price.objects.create(
        model_name=model.name, input_nano_usd_per_million=150_000_000, output_nano_usd_per_million=600_000_000
    )
    operators = admin_client.get("/admin/proxy/model/").content.decode()
    assert "ours-alone" in operators
    assert "$0.15 / $0.6" in operators
    for user, sees in ((alice, True), (charlie, False)):
        client = Client()
        client.force_login(user)
        page = client.get("/admin/proxy/model/").content.decode()
        assert ("gpt-of-acme" in page) is sees
        assert "ours-alone" not in page
        assert client.get(f"/admin/proxy/model/{model.id}/change/").status_code == (200 if sees else 404)
        assert client.get("/admin/proxy/upstream/").status_code == 403
        assert client.get("/admin/proxy/price/").status_code == 200


def test_it_alters_a_model_and_its_routes(admin_client: Client, openai: Upstream) -> None:
    model = Model.objects.create(name="gpt-oss-20b")
    form = {
        "name": model.name,
        "reasoning_effort": "low",
        "routes-TOTAL_FORMS": "1",
        "routes-INITIAL_FORMS": "0",
        "routes-0-upstream": str(openai.id),
        "routes-0-upstream_model": "gpt-oss",
        "routes-0-priority": "1",
        "routes-0-weight": "1",
    }
    answer = admin_client.post(f"/admin/proxy/model/{model.id}/change/", form)
    assert answer.status_code == 302, answer.content.decode()
    model.refresh_from_db()
    [route] = model.routes.all()
    assert (model.reasoning_effort, route.upstream, route.upstream_model) == ("low", openai, "gpt-oss")
