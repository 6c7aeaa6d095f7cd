"""The gateway as an ASGI application, with WebSockets that last for a second."""

from gateway import asgi
from proxy.responses_socket import ResponsesSocket

asgi.sockets = ResponsesSocket.as_asgi(lifetime_seconds=1)
application = asgi.application
