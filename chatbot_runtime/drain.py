"""How long a request may last, and how the process ends without cutting one. It must not know HTTP or signals."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chatbot_runtime.errors import ApiError


class Drain:
    """Knows every running request of one event loop.

    `draining` becomes true when the process is told to stop: it is no longer ready, and every connection is closed
    after its next answer. `ended` becomes true when the time for that is over.
    """

    def __init__(self) -> None:
        self.draining = False
        self.ended = False
        self._running: set[asyncio.Timeout] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def running(self) -> int:
        """How many requests run."""
        return len(self._running)

    @asynccontextmanager
    async def deadline(self, seconds: float) -> AsyncIterator[None]:
        """Bounds one request. Raises ApiError 503 when its time, or the process's, is over."""
        if self.ended:
            raise self._shutting_down()
        try:
            async with asyncio.timeout(seconds) as timeout:
                self._running.add(timeout)
                self._empty.clear()
                try:
                    yield
                finally:
                    self._running.discard(timeout)
                    if not self._running:
                        self._empty.set()
        except TimeoutError:
            if not timeout.expired():
                raise
            if self.ended:
                raise self._shutting_down() from None
            message = f"The answer was not complete within {seconds:g} s. Ask for a shorter one, or stream it."
            raise ApiError(503, "timeout", message) from None

    def begin(self) -> None:
        """From now on: not ready."""
        self.draining = True

    async def finish(self, seconds: float) -> int:
        """Waits until no request runs; those that still do after `seconds` are ended. Returns how many that were."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            pass
        return self.end()

    def end(self) -> int:
        """Ends every running request with an error, now. Returns how many."""
        self.ended = True
        now = asyncio.get_running_loop().time()
        cut = [timeout for timeout in self._running if not timeout.expired()]
        for timeout in cut:
            timeout.reschedule(now)
        return len(cut)

    @staticmethod
    def _shutting_down() -> ApiError:
        return ApiError(503, "shutting_down", "This server is shutting down: try again, another one will answer.")
