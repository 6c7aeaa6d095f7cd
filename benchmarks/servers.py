"""What is measured: the gateway as its users run it, and nginx, both in front of the same fake upstream."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Client
from benchmarks.processes import free_port, started, wait_until_serving
from benchmarks.stores import Store

PROJECT = Path(__file__).resolve().parent.parent
NGINX_MISSING = "nginx is not installed: apt install nginx-light. Absolute figures only."
NGINX_CONF = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    upstream bench {{
        server 127.0.0.1:{upstream_port};
        keepalive 512;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A process under measurement, and the client that calls it."""

    title: str
    pid: int
    client: Client
    limited: Client | None = None  # calls as a tenant that every kind of limit applies to

    @property
    def calls_made(self) -> int:
        return self.client.calls_made + (self.limited.calls_made if self.limited else 0)


@contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """The fake upstream, in a process of its own; the port it serves on."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.upstream", str(port)]
    log = folder / "upstream.log"
    with started(command, {**plain_environment(), "PYTHONPATH": str(PROJECT)}, log) as process:
        wait_until_serving(process, f"http://127.0.0.1:{port}/v1/models", log)
        yield port


def nginx_program() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(program: str, folder: Path, upstream_port: int) -> Iterator[Server]:
    """nginx forwarding everything, master and one worker."""
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(NGINX_CONF.format(folder=folder, port=port, upstream_port=upstream_port))
    log = folder / "nginx.log"
    command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(conf)]
    with started(command, plain_environment(), log) as process:
        wait_until_serving(process, f"http://127.0.0.1:{port}/v1/models", log)
        yield Server("nginx proxy_pass", process.pid, Client(port, "none"))


@contextmanager
def gateway(store: Store, folder: Path, upstream_port: int) -> Iterator[Server]:
    """The gateway, started as `make run` starts it: authentication, ledger and logging on."""
    port = free_port()
    api_key = f"sk-bench-{secrets.token_hex(16)}"
    own = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "BOOTSTRAP_API_KEY": api_key,
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream_port}/v1",
        "OPENAI_API_KEY": "sk-of-the-fake-upstream",
        "CONFIG_FILE": str(folder / "limited.json"),
    }
    limited_key = f"sk-bench-{secrets.token_hex(16)}"
    (folder / "limited.json").write_text(json.dumps(limited_tenant(limited_key)))  # JSON is YAML
    log = folder / f"gateway-{store.title.split()[0].lower()}.log"
    command = [sys.executable, str(PROJECT / "manage.py"), "quickstart"]
    with started(command, {**plain_environment(), **own, **store.environment}, log) as process:
        wait_until_serving(process, f"http://127.0.0.1:{port}/readyz", log)
        clients = Client(port, api_key), Client(port, limited_key)
        yield Server(f"Tollgate, {store.title}", process.pid, *clients)


def limited_tenant(api_key: str) -> Mapping[str, object]:
    """A tenant with a limit of every kind and a budget, none of which is ever reached."""
    plenty = 10**9
    counts = dict.fromkeys(("requests_per_second", "requests_per_minute", "tokens_per_minute"), plenty)
    scopes = ("tenant", "user", "key", "ip", "model")
    tenant = {
        "slug": "limited",
        "name": "Limited",
        "members": [{"email": "bench@limited.test", "role": "owner"}],
        "api_keys": [{"name": "bench", "user": "bench@limited.test", "secret": api_key}],
        "limits": [{"scope": scope, "concurrent": plenty, **counts} for scope in scopes],
        "budgets": [{"scope": "tenant", "amount_usd": "1000000", "period": "total"}],
    }
    return {"tenants": [tenant]}


def plain_environment() -> Mapping[str, str]:
    """Nothing of the developer's own settings reaches a server under measurement."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
