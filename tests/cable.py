"""A cable that a test can pull: forwards connections to a PostgreSQL until it is cut."""

from __future__ import annotations

import socket
import threading
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
        parts = psycopg.conninfo.conninfo_to_dict(url)
        self._host, self._port = str(parts["host"]), int(parts.get("port") or 5432)
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None

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
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}", query=""))

    def plug(self) -> None:
        """From now on connections go through."""
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

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = self._connect()
            except OSError:
                return
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return connection

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # The cable was cut, or one end left.
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
