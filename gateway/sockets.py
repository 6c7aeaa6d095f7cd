"""How uvicorn speaks WebSocket here: its own protocol, held to the gateway's rules.

It tells the application that the server is to stop, and leaves it to the application when an open socket is
closed; it logs nothing of a handshake, whose query may hold a key.
"""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# "Service Restart" (IANA, WebSocket Close Code Number Registry): connect again, now or shortly.
RESTART = 1012


class SocketProtocol(WebSocketsSansIOProtocol):
    """One connection that became a WebSocket, or asks to."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Both would log paths with their queries, and frames, at the level that the server logs at.
        self.logger = self.conn.logger = logging.getLogger("gateway.sockets")
        self.conn.debug = False

    def shutdown(self) -> None:
        """The server stops: what an open socket is in the middle of may end first, within DRAIN_SECONDS."""
        if self.handshake_complete and not (self.close_sent or self.disconnected):
            self.queue.put_nowait({"type": "websocket.disconnect", "code": RESTART})
        else:
            super().shutdown()
