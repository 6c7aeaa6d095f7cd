"""A real OpenID Connect provider (server.mjs), and the way through it that a browser goes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.machine import node
from tests.upstreams.programs import served

HERE = Path(__file__).parent
CLIENT_ID = "tollgate"
CLIENT_SECRET = "a secret of the tests"
CALLBACK = "/accounts/oidc/callback/"
_MOST_HOPS = 10


@dataclass(frozen=True)
class IdentityProvider:
    """The running one. Whoever signs in there is the person that it was told of last."""

    issuer: str

    def is_at_the_desk(self, **claims: Any) -> None:
        httpx.put(f"{self.issuer}/person", json=claims, trust_env=False).raise_for_status()

    def leads_back(self, page: bytes) -> str:
        """From the page that leads there to the address here that it leads back to."""
        found = re.search(rb'content="0; url=([^"]+)"', page)
        assert found, page
        there = html.unescape(found[1].decode())
        with httpx.Client(trust_env=False) as browser:
            for _ in range(_MOST_HOPS):
                answer = browser.get(there)
                assert answer.is_redirect, answer.text
                there = urljoin(there, answer.headers["location"])
                if CALLBACK in there:
                    return there
        raise AssertionError(f"It leads nowhere: {there}")


@contextmanager
def identity_provider(log: Path) -> Iterator[IdentityProvider]:
    """Skips the test where there is no Node.js, or where its packages are not there and cannot be had."""
    server = [str(node(HERE)), str(HERE / "server.mjs")]
    with served(lambda port: [*server, str(port)], log, "/.well-known/openid-configuration") as url:
        yield IdentityProvider(url)
