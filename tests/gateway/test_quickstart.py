"""`manage.py quickstart`, run as a newcomer runs it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time

import httpx

from tests.conftest import StartGateway
from tests.machine import need
from tests.server import PROJECT, Gateway


def printed_key(gateway: Gateway) -> str:
    (key,) = set(re.findall(r"sk-\w+", gateway.output()))
    return str(key)


def test_it_prints_a_curl_that_streams(start_gateway: StartGateway) -> None:
    need("curl", "apt-get install curl")
    gateway = start_gateway(empty=True, BOOTSTRAP_API_KEY="")
    (line,) = (line for line in gateway.output().splitlines() if line.strip().startswith("curl "))
    ended = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True, timeout=30)
    events = [event for event in ended.stdout.split("\n\n") if event]
    assert len(events) > 10
    assert events[-1] == "data: [DONE]"


def test_it_prints_an_administrator_who_can_sign_in(start_gateway: StartGateway) -> None:
    gateway = start_gateway(empty=True, ADMIN_USERNAME="root")
    found = re.search(r"user (\S+), password (\S+)", gateway.output())
    assert found is not None
    with httpx.Client(base_url=gateway.url, trust_env=False) as browser:
        browser.get("/accounts/login/")
        form = {
            "login": found[1],
            "password": found[2],
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        answer = browser.post("/accounts/login/?next=/admin/", data=form)
        assert (answer.status_code, answer.headers["location"]) == (302, "/admin/")
        assert browser.get("/admin/proxy/upstream/").status_code == 200
        assert browser.get("/static/admin/css/base.css").status_code == 200


def test_it_starts_again_quickly_with_the_same_key_and_prints_it_no_more(start_gateway: StartGateway) -> None:
    gateway = start_gateway(empty=True, BOOTSTRAP_API_KEY="")
    key = printed_key(gateway)
    began = time.monotonic()
    gateway.restart()
    assert time.monotonic() - began < 5
    assert gateway.output().count(f"API key     {key}") == 1
    assert gateway.output().count("shown this once") == 2  # the password and the key, on the first start
    assert len(gateway.query("SELECT id FROM accounts_tenant WHERE slug = 'default'")) == 1
    headers = {"authorization": f"Bearer {key}"}
    assert httpx.get(f"{gateway.url}/v1/models", headers=headers, trust_env=False).status_code == 200


def test_it_sets_up_and_does_not_serve(gateway: Gateway) -> None:
    assert "Tollgate is set up." in gateway.manage("quickstart", "--no-serve")


def test_it_stops_at_a_mistake_in_the_file(gateway: Gateway) -> None:
    file = gateway.folder / "mistaken.yaml"
    file.write_text("tenants:\n  - slug: acme\n    limts: []\n")
    ended = subprocess.run(
        [sys.executable, "manage.py", "quickstart", "--no-serve"],
        cwd=PROJECT,
        env=gateway.environment | {"CONFIG_FILE": str(file)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode != 0
    assert "mistaken.yaml:3: tenants[0].limts: unknown key" in ended.stderr
