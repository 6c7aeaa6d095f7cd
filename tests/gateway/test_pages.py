"""What Django answers outside of the relay: people get pages, programs get OpenAI's JSON."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.test import Client, RequestFactory

from gateway import pages

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def test_it_greets_a_browser_with_a_page(client: Client) -> None:
    answer = client.get("/", headers={"accept": BROWSER})
    assert answer.status_code == 200
    assert b"http://testserver/v1/chat/completions" in answer.content


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
def test_it_tells_a_program_where_the_api_is(client: Client, accept: str) -> None:
    answer = client.get("/", headers={"accept": accept})
    document = answer.json()
    assert (document["success"], document["status"], document["api"]) == (True, "ok", "/v1")
    assert {"/v1/chat/completions", "/v1/responses", "/openai"} <= set(document["endpoints"])
    assert document.keys() >= {"message", "endpoints", "website", "repo"}


@pytest.mark.parametrize("path", ["/nowhere", "/v1/nowhere", "/v1/nowhere/", "/readyz/more"])
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_it_answers_404_in_openais_shape(client: Client, path: str, method: str) -> None:
    answer = client.generic(method.upper(), path)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert answer["x-request-id"]
    assert answer["access-control-allow-origin"] == "*"


UNKNOWN = ("/v1/images/generations", "/v1/moderations", "/v1/files/file_1", "/api/nothing", "/nowhere")


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_it_takes_no_call_for_a_form(path: str, method: str) -> None:
    """Programs have no token of a form; a client that is held to it gets the 404 all the same."""
    answer = Client(enforce_csrf_checks=True).generic(method, path, "{}", "application/json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_it_names_the_methods_to_who_has_no_token_of_a_form() -> None:
    assert Client(enforce_csrf_checks=True).post("/").status_code == 405


def test_it_answers_a_browser_with_a_page_outside_of_the_api(client: Client) -> None:
    assert client.get("/nowhere", headers={"accept": BROWSER})["content-type"].startswith("text/html")
    assert client.get("/v1/nowhere", headers={"accept": BROWSER})["content-type"] == "application/json"


def test_it_names_the_methods_that_are_allowed(client: Client) -> None:
    answer = client.post("/")
    assert (answer.status_code, answer["allow"]) == (405, "GET, HEAD")
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("status", "type_"), [(400, "invalid_request_error"), (403, "permission_error"), (500, "server_error")]
)
def test_it_has_openais_shape_for_every_failure(rf: RequestFactory, status: int, type_: str) -> None:
    request = rf.get("/v1/x")
    request.user = AnonymousUser()
    answers = {
        400: lambda: pages.bad_request(request, SuspiciousOperation("not repeated")),
        403: lambda: pages.forbidden(request, PermissionDenied("not repeated")),
        500: lambda: pages.server_error(request),
    }
    answer = answers[status]()
    assert answer.status_code == status
    assert f'"type":"{type_}"'.encode() in answer.content
    assert b"not repeated" not in answer.content
