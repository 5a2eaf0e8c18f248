"""Connections of the public port, each with a deadline for whatever it is waiting for. It must not know the API.

aiohttp bounds the idle time of a connection, but neither the time for a request's head, nor how long a client may
refuse to read, nor how many connections there are.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from aiohttp import StreamReader, web

from chatbot_runtime.errors import ApiError

_RESET = struct.pack("ii", 1, 0)
BUFFER_BYTES = 65_536
"""What the kernel may hold of a connection in each direction; Linux takes twice as much for itself (socket(7))."""
LINGER_SECONDS = 2.0
"""How long the rest of a refused body is read and thrown away, so that the client gets to see the answer."""


@dataclass(slots=True)
class Limits:
    """Seconds as in Config, and the most connections at once."""

    header_seconds: float
    idle_seconds: float
    write_seconds: float
    max_connections: int


@dataclass(slots=True)
class Connections:
    """All open connections, and the factory of new ones."""

    limits: Limits
    count: Callable[[str], None]
    """Told why a connection is refused or ended before its client wanted that."""
    open: set["Connection"] = field(default_factory=set)
    came_at: float = 0.0
    """When the last one was opened, by the loop's clock."""

    def factory(self, server: web.Server) -> Callable[[], "Connection"]:
        """What `loop.create_server` calls for each new connection."""
        loop = asyncio.get_running_loop()

        def opened() -> Connection:
            self.came_at = loop.time()
            return Connection(self, server, loop)

        return opened

    def close_idle(self) -> None:
        """Closes those between two requests; a request that is being sent or answered goes on."""
        for connection in tuple(self.open):
            if connection.idle:
                connection.force_close()  # close() would leave the socket open until aiohttp's own shutdown


class Connection(web.RequestHandler):
    """One connection. The application tells it when a request begins and ends."""

    __slots__ = ("_all", "_body", "_deadline", "_write_deadline", "idle")

    def __init__(self, connections: Connections, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        limits = connections.limits
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.idle_seconds,
            lingering_time=LINGER_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # None means none, also by the documentation
        )
        self._all = connections
        self._body: StreamReader | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self.idle = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self._all.open) >= self._all.limits.max_connections:
            self._all.count("too_many_connections")
            transport = cast("asyncio.Transport", transport)
            transport.write(_raw(ApiError(503, "too_many_connections", "Too many connections: try again.")))
            transport.close()
            return
        self._all.open.add(self)
        super().connection_made(transport)
        self._close_in(self._all.limits.header_seconds)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._all.open.discard(self)
        self._cancel_deadline()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.idle and data:
            self.idle = False
            self._close_in(self._all.limits.header_seconds)
        super().data_received(data)
        self._fail_broken_body()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_deadline = self._loop.call_later(self._all.limits.write_seconds, self._abort, "write_timeout")

    def resume_writing(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        super().resume_writing()

    def request_began(self, body: StreamReader) -> None:
        """A request's head is complete: the request has its own deadlines from here."""
        self.idle = False
        self._body = body
        self._cancel_deadline()
        self._fail_broken_body()

    def request_ended(self) -> None:
        """A request is answered: aiohttp closes the connection if no other one begins in time."""
        self._body = None
        self.idle = True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - aiohttp's signature
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answers what is not HTTP at all, without a word of what was sent: it may hold a key."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun, an error cannot be sent any more")
        self._all.count("invalid_http")
        error = ApiError(
            400 if status < 500 else 503,
            "invalid_http",
            "This is not a valid HTTP/1.1 request: check line and headers.",
        )
        response = web.Response(
            status=error.status, body=error.body.dump(), headers=error.headers(), content_type="application/json"
        )
        response.force_close()
        return response

    def _fail_broken_body(self) -> None:
        """Tells the reader of a body that the rest cannot come, as after a malformed chunk.

        aiohttp queues its parser's error as if it were the next request, and lets the one before wait for ever.
        """
        body, queued = self._body, self._messages
        if body is not None and queued and not body.is_eof() and hasattr(queued[-1][0], "exc"):
            body.set_exception(web.RequestPayloadError("the body is not HTTP"))

    def _close_in(self, seconds: float) -> None:
        self._cancel_deadline()
        self._deadline = self._loop.call_later(seconds, self._abort, "header_timeout")

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abort(self, cause: str) -> None:
        """Ends the connection with a reset: else the kernel would go on offering what is in its buffers."""
        if self.transport is not None:
            self._all.count(cause)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()


def bound_buffers(listener: socket.socket) -> None:
    """Bounds what the kernel holds of one connection; inherited by accepted sockets.

    Received: all connections with news are read before the first of them is handled, each by as much as its socket
    holds. Sent: else Linux takes 4 MB of an answer that nobody reads, on the pod's memory, and we never see it wait.
    """
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        listener.setsockopt(socket.SOL_SOCKET, buffer, BUFFER_BYTES)


def bound_unacknowledged(listener: socket.socket, seconds: float) -> None:
    """Lets the kernel end connections whose peer takes nothing for so long; inherited by accepted sockets."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    if option is not None:
        listener.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1000))


def _raw(error: ApiError) -> bytes:
    body = error.body.dump()
    return (
        f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Retry-After: {error.retry_after}\r\nConnection: close\r\n\r\n"
    ).encode() + body
