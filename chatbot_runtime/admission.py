"""What is let in, what waits and what is refused. It must not know HTTP, keys or providers.

Three gates: `client` bounds what one client may do (429), `room` what the bodies of all requests take in memory and
`slot` what the whole process does at once (503).
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from chatbot_runtime.errors import ApiError


@dataclass(slots=True)
class _Client:
    tokens: float
    """Requests it may still send at once; refilled evenly up to one minute's worth."""
    seen: float
    """Loop time of the last refill."""
    running: int = 0


class Admission:
    """Counts and queues of one process; `clock` gives seconds that never go back."""

    def __init__(
        self,
        *,
        max_running: int,
        max_queue: int,
        queue_seconds: float,
        max_clients: int,
        max_held_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self._max_running = max_running
        self._max_held_bytes = max_held_bytes
        self._max_queue = max_queue
        self._queue_seconds = queue_seconds
        self._max_clients = max_clients
        self._clock = clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.running = 0
        self.held_bytes = 0

    @property
    def queued(self) -> int:
        """How many requests wait for a slot."""
        return len(self._waiting)

    @contextmanager
    def client(self, name: str, *, per_minute: int, concurrent: int) -> Iterator[None]:
        """Counts one request of a client while it lasts. Raises ApiError 429."""
        client = self._known(name, per_minute)
        if client.running >= concurrent:
            message = f"You have {client.running} requests running, and {concurrent} are allowed: wait for one to end."
            raise ApiError(429, "concurrency_limit_exceeded", message, retry_after=1)
        if client.tokens < 1:
            wait = (1 - client.tokens) * 60 / per_minute
            message = f"You have sent more than {per_minute} requests a minute: slow down and try again."
            raise ApiError(429, "rate_limit_exceeded", message, retry_after=wait)
        client.tokens -= 1
        client.running += 1
        try:
            yield
        finally:
            client.running -= 1

    @contextmanager
    def room(self) -> Iterator[Callable[[int], None]]:
        """Holds memory for one request while it lasts: what it gives is called with each further number of bytes.

        That raises ApiError: 413 for what can never fit, else 503. The rest of a refused body is not read.
        """
        mine = 0

        def take(count: int) -> None:
            nonlocal mine
            if mine + count > self._max_held_bytes:
                message = "The body holds more text, lists and objects than fit here: send less."
                raise ApiError(413, "request_too_large", message, param="body", closes=True)
            if self.held_bytes + count > self._max_held_bytes:
                message = "The chatbot holds as many long requests as it can: try again in a moment."
                raise ApiError(503, "overloaded", message, closes=True)
            mine += count
            self.held_bytes += count

        try:
            yield take
        finally:
            self.held_bytes -= mine

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Holds one of the process's slots, after a wait in the queue if all are taken. Raises ApiError 503."""
        if self.running < self._max_running:
            self.running += 1
        else:
            await self._wait()
        try:
            yield
        finally:
            self._release()

    async def _wait(self) -> None:
        if len(self._waiting) >= self._max_queue:
            raise ApiError(503, "overloaded", "The chatbot is busy and its queue is full: try again in a moment.")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._queue_seconds):
                await turn
        except TimeoutError:
            self._give_up(turn)
            message = f"The chatbot is busy: no slot became free within {self._queue_seconds:g} s. Try again."
            raise ApiError(503, "overloaded", message, retry_after=self._queue_seconds) from None
        except asyncio.CancelledError:
            self._give_up(turn)
            raise

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        """Leaves the queue; a slot that was handed over in the same moment goes on to the next."""
        if turn.done() and not turn.cancelled():
            self._release()
        elif turn in self._waiting:
            self._waiting.remove(turn)

    def _release(self) -> None:
        """Hands the slot to the first who still waits, so that nobody overtakes the queue."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1

    def _known(self, name: str, per_minute: int) -> _Client:
        now = self._clock()
        client = self._clients.get(name)
        if client is None:
            self._forget()
            client = self._clients[name] = _Client(tokens=per_minute, seen=now)
        self._clients.move_to_end(name)
        client.tokens = min(per_minute, client.tokens + (now - client.seen) * per_minute / 60)
        client.seen = now
        return client

    def _forget(self) -> None:
        """Makes room for one more, at the cost of the client unseen for longest that has nothing running."""
        if len(self._clients) >= self._max_clients:
            idle = next((name for name, client in self._clients.items() if not client.running), None)
            if idle is not None:
                del self._clients[idle]
