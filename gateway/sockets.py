"""How uvicorn speaks WebSocket here: its own protocol, held to the gateway's rules.

It tells the application that the server is to stop, and leaves it to the application when an open socket is
closed. It counts what has come of a message that is not whole yet. It logs no handshake: a query may hold a
key.
"""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from proxy.asgi import PLANE
from proxy.intake import Holding, TooMuchAtOnce

# IANA, WebSocket Close Code Number Registry: connect again, in the latter case not at once.
_SERVICE_RESTART, _TRY_AGAIN_LATER = 1012, 1013
# Not worth counting.
_SMALL_BYTES = 64 * 1024


class SocketProtocol(WebSocketsSansIOProtocol):
    """One connection that became a WebSocket, or asks to."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Both would log paths with their queries, and frames, at the level that the server logs at.
        self.logger = self.conn.logger = logging.getLogger("gateway.sockets")
        self.conn.debug = False
        self._arrived = 0
        self._holding: Holding | None = None

    def shutdown(self) -> None:
        """The server stops: what an open socket is in the middle of may end first, within DRAIN_SECONDS."""
        if self.handshake_complete and not (self.close_sent or self.disconnected):
            self.queue.put_nowait({"type": "websocket.disconnect", "code": _SERVICE_RESTART})
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """A part of a message counts as that of a body does; where all is taken, the connection is closed."""
        self._arrived += len(data)
        super().data_received(data)
        if self._arrived <= _SMALL_BYTES or self.close_sent:
            return
        self._holding = self._holding or Holding(PLANE.relay.held, "")
        try:
            self._holding.grow(self._arrived)
        except TooMuchAtOnce:
            self.conn.fail(_TRY_AGAIN_LATER)
            if self.conn.close_sent is not None:
                self.handle_parser_exception()
            else:
                self.transport.close()  # which is no WebSocket yet

    def send_receive_event_to_app(self) -> None:
        """The message is whole, and the application's to count."""
        super().send_receive_event_to_app()
        self._let_go()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._let_go()

    def _let_go(self) -> None:
        self._arrived = 0
        if self._holding is not None:
            self._holding.release()
