"""Server-sent events over one HTTP response. It must not know what the events say."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from aiohttp import web

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"


class EventStream:
    """A response that begins with its first event, or with a comment after `heartbeat_seconds` of silence.

    As long as nothing was sent an error can still be a proper status; `started` says whether that time is over.
    """

    def __init__(self, request: web.Request, heartbeat_seconds: float) -> None:
        self._request = request
        self._seconds = heartbeat_seconds
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._ping: asyncio.Task[None] | None = None
        self.response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",  # else nginx collects the events
            }
        )

    @property
    def started(self) -> bool:
        """Whether status and headers are on their way."""
        return self.response.prepared

    async def __aenter__(self) -> Self:
        self._timer = self._loop.call_later(self._seconds, self._beat)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._ping is not None:
            self._ping.cancel()

    async def send(self, events: bytes) -> None:
        """Writes complete events. Raises ConnectionError if the client is gone."""
        if not self.response.prepared:
            await self.response.prepare(self._request)
        await self.response.write(events)
        self._last = self._loop.time()

    def _beat(self) -> None:
        """A timer and not a task: nearly every stream ends without having needed one."""
        silence = self._loop.time() - self._last
        if silence >= self._seconds:
            self._ping = self._loop.create_task(self._send_ping())
            silence = 0
        self._timer = self._loop.call_later(self._seconds - silence, self._beat)

    async def _send_ping(self) -> None:
        with suppress(ConnectionError):  # the answer's own writes meet it too
            await self.send(PING)
