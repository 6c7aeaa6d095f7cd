"""What browsers are told that pages may do, and that Django finds nothing to say against the settings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from django.conf import settings
from django.test import Client

from tests.server import PROJECT, Gateway, plain_environment

BROWSER = "text/html"
PAGES = ("/", "/nowhere", "/v1/nowhere", "/api/docs/", "/api/schema/")
INLINE = re.compile(rb"<script(?![^>]*\b(?:src=|type=\"application/json\"))|<style|\sstyle=|\son\w+=")


def policy(client: Client, path: str) -> dict[str, str]:
    header = client.get(path, headers={"accept": BROWSER})["content-security-policy"]
    return dict(directive.split(" ", 1) for directive in header.split("; "))


@pytest.mark.parametrize("path", PAGES)
def test_it_runs_no_script_but_its_own_files(client: Client, path: str) -> None:
    told = policy(client, path)
    assert (told["default-src"], told["script-src"], told["style-src"]) == ("'none'", "'self'", "'self'")
    assert (told["object-src"], told["base-uri"], told["frame-ancestors"]) == ("'none'",) * 3
    assert told["form-action"] == told["connect-src"] == "'self'"


@pytest.mark.django_db
def test_it_lets_the_theme_of_the_admin_evaluate_and_style(client: Client) -> None:
    told = policy(client, "/admin/")
    assert told["script-src"] == "'self' 'unsafe-eval'"
    assert told["style-src"] == "'self' 'unsafe-inline'"
    assert told["frame-ancestors"] == "'none'"


@pytest.mark.parametrize("path", ["/", "/nowhere", "/api/docs/"])
def test_it_has_nothing_in_its_pages_that_the_policy_stops(client: Client, path: str) -> None:
    assert not INLINE.search(client.get(path, headers={"accept": BROWSER}).content)


@pytest.mark.parametrize(
    "path",
    [*PAGES, "/playground", "/metrics", "/admin/", "/accounts/login/", "/static/gateway/icon.svg"],
)
def test_every_answer_bears_an_id_of_its_own(gateway: Gateway, path: str) -> None:
    ids = [httpx.get(gateway.url + path, trust_env=False).headers.get_list("x-request-id") for _ in range(2)]
    assert [len(each) for each in ids] == [1, 1]
    assert UUID(ids[0][0]) != UUID(ids[1][0])


def test_it_keeps_to_itself_where_people_come_from_and_what_they_have(client: Client) -> None:
    answer = client.get("/", headers={"accept": BROWSER})
    assert answer["referrer-policy"] == "same-origin"
    assert answer["cross-origin-opener-policy"] == "same-origin"
    assert answer["x-content-type-options"] == "nosniff"
    assert answer["x-frame-options"] == "DENY"
    assert {"camera=()", "microphone=()", "geolocation=()"} <= set(answer["permissions-policy"].split(", "))
    assert "strict-transport-security" not in answer


def test_it_keeps_cookies_from_scripts_and_other_sites() -> None:
    assert settings.SESSION_COOKIE_HTTPONLY
    assert settings.CSRF_COOKIE_HTTPONLY
    assert settings.SESSION_COOKIE_SAMESITE == settings.CSRF_COOKIE_SAMESITE == "Lax"
    assert settings.SESSION_COOKIE_AGE <= 7 * 24 * 3600


ASKED = """
from django.conf import settings
from django.test import Client
client = Client(headers={"accept": "text/html", "x-forwarded-proto": "https"})
print(client.get("/")["strict-transport-security"])
print(settings.SESSION_COOKIE_SECURE, settings.CSRF_COOKIE_SECURE, settings.SESSION_COOKIE_NAME)
"""


def test_it_is_fit_to_stand_behind_tls(tmp_path: Path) -> None:
    environment = plain_environment() | {"BEHIND_TLS": "true", "DATA_DIR": str(tmp_path)}
    checked = manage("check", "--deploy", "--fail-level", "WARNING", environment=environment)
    assert checked.returncode == 0, checked.stderr
    told = manage("shell", "--no-imports", "-c", ASKED, environment=environment).stdout.splitlines()
    assert told == ["max-age=31536000", "True True __Host-sessionid"]


def manage(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "manage.py", *words]
    return subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
