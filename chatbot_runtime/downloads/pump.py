"""Bytes from an event loop to what blocks, in order, with a bounded backlog. It must not know what is done with them.

Each taker has a thread of its own, so that bytes are written while the same bytes are hashed and the next ones come. A
hop there and back for each piece would cost more than the work itself.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Self

BACKLOG_BYTES = 8 * 1024 * 1024

Take = Callable[[bytes], object]


class Pump:
    """Gives every piece to every taker; a context manager, whose end waits until all is taken."""

    def __init__(self, *takers: Take, backlog_bytes: int = BACKLOG_BYTES) -> None:
        self._backlog_bytes = backlog_bytes
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._given = 0
        self._lines = [_Line(take, self._nudge) for take in takers]

    @property
    def taken(self) -> int:
        """Bytes that all takers have taken."""
        return min(line.taken for line in self._lines)

    async def put(self, piece: bytes) -> None:
        """Hands on a piece; waits while the backlog is too long. Raises what a taker raised."""
        for line in self._lines:
            line.pieces.put(piece)
        self._given += len(piece)
        if self._given - self.taken > self._backlog_bytes:
            await self._wait(self._given - self._backlog_bytes // 2)
        self._raise()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for line in self._lines:
            line.pieces.put(None)
        await self._until(lambda: all(line.ended for line in self._lines))
        if kind is None:
            self._raise()

    async def _wait(self, count: int) -> None:
        """Comes back when all have taken so many bytes, or one takes no more."""
        for line in self._lines:
            line.awaited = count
        await self._until(lambda: self.taken >= count or any(line.ended for line in self._lines))

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            self._changed.clear()
            if not true():  # it may have changed before the event was cleared
                await self._changed.wait()

    def _raise(self) -> None:
        for line in self._lines:
            if line.failed is not None:
                raise line.failed

    def _nudge(self) -> None:
        self._loop.call_soon_threadsafe(self._changed.set)


class _Line:
    """A taker, its thread, and what waits for it. `awaited`: the loop waits for so many bytes."""

    def __init__(self, take: Take, nudge: Callable[[], None]) -> None:
        self._take = take
        self._nudge = nudge
        self.pieces: SimpleQueue[bytes | None] = SimpleQueue()
        self.taken = 0
        self.awaited = 0
        self.failed: Exception | None = None
        self.ended = False
        threading.Thread(target=self._run, name="download-pump", daemon=True).start()

    def _run(self) -> None:
        try:
            while (piece := self.pieces.get()) is not None:
                self._take(piece)
                self.taken += len(piece)
                if self.taken >= self.awaited > self.taken - len(piece):
                    self._nudge()
        except Exception as error:
            self.failed = error
        finally:
            self.ended = True
            self._nudge()
