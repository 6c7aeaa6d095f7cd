"""A cable that a test can pull: forwards connections to a PostgreSQL or a Redis until it is cut or so."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tests.services import free_port


class Cable:
    """Listens on a port of 127.0.0.1 and forwards to the server of `url`, by threads: it needs no loop."""

    def __init__(self, url: str) -> None:
        self.port = free_port()
        self._far_end = _far_end(url)
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._answering = threading.Event()
        self._delay_seconds = 0.0

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def through(self, url: str) -> str:
        """The same database, by way of this cable."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}", query=""))

    def plug(self) -> None:
        """From now on connections go through."""
        self._answering.set()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Ends every connection, and refuses new ones."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for connection in self._open:
            with suppress(OSError):  # It may have ended by itself.
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()
        self._answering.set()

    def mute(self) -> None:
        """From now on no answer comes back, on old connections and new ones; what is asked gets through."""
        self._answering.clear()

    def unmute(self) -> None:
        """Answers come again, and first those that were held back."""
        self._answering.set()

    def slow(self, seconds: float) -> None:
        """From now on every answer comes so much later."""
        self._delay_seconds = seconds

    def lead_to(self, url: str) -> None:
        """Ends at another server, for connections that are made from now on."""
        self._far_end = _far_end(url)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # The cable was cut.
                return
            try:
                far = self._connect()
            except OSError:  # The server is gone.
                near.close()
                continue
            self._open += [near, far]
            for forward, source, sink in ((self._forward, near, far), (self._answer, far, near)):
                threading.Thread(target=forward, args=(source, sink), daemon=True).start()

    def _connect(self) -> socket.socket:
        if isinstance(self._far_end, tuple):
            return socket.create_connection(self._far_end)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._far_end)
        return connection

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # The cable was cut, or one end left.
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def _answer(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                time.sleep(self._delay_seconds)
                self._answering.wait()
                sink.sendall(piece)
            self._answering.wait()
            sink.shutdown(socket.SHUT_WR)


def _far_end(url: str) -> tuple[str, int] | str:
    """Where the server listens: a host and a port, or the path of a socket."""
    parts = urlsplit(url)
    if parts.scheme == "redis":
        return str(parts.hostname), parts.port or 6379
    given = psycopg.conninfo.conninfo_to_dict(url)
    host, port = str(given["host"]), int(given.get("port") or 5432)
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
