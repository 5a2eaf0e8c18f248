"""What is let in, what waits and what is refused. It must not know HTTP, keys or providers.

Three gates: `client` bounds what one client may do (429), `room` what the bodies of all requests take in memory and
`slot` what the whole process does at once (503).
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from chatbot_runtime.errors import ApiError

# The blocks of a request are classes and not generators: they are entered for every one, and cost a third.


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
        self.max_held_bytes = max_held_bytes
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

    def client(self, name: str, *, per_minute: int, concurrent: int) -> "_Share":
        """Counts one request of a client while the block lasts. Entering it raises ApiError 429."""
        return _Share(self._known(name, per_minute), per_minute, concurrent)

    def room(self) -> "_Room":
        """Holds memory for one request while the block lasts: what it gives is called with each number of bytes.

        That raises ApiError: 413 for what can never fit, else 503. The rest of a refused body is not read.
        """
        return _Room(self)

    def slot(self) -> "_Slot":
        """Holds one of the process's slots while the block lasts, after a wait in the queue if all are taken.

        Entering it raises ApiError 503.
        """
        return _Slot(self)

    async def take_slot(self) -> None:
        """Waits for a slot, if all are taken; `slot` gives it back by itself."""
        if self.running < self._max_running:
            self.running += 1
        else:
            await self._wait()

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
            self.release_slot()
        elif turn in self._waiting:
            self._waiting.remove(turn)

    def release_slot(self) -> None:
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


@dataclass(slots=True)
class _Share:
    client: _Client
    per_minute: int
    concurrent: int

    def __enter__(self) -> None:
        client = self.client
        if client.running >= self.concurrent:
            running, allowed = client.running, self.concurrent
            message = f"You have {running} requests running, and {allowed} are allowed: wait for one to end."
            raise ApiError(429, "concurrency_limit_exceeded", message, retry_after=1)
        if client.tokens < 1:
            wait = (1 - client.tokens) * 60 / self.per_minute
            message = f"You have sent more than {self.per_minute} requests a minute: slow down and try again."
            raise ApiError(429, "rate_limit_exceeded", message, retry_after=wait)
        client.tokens -= 1
        client.running += 1

    def __exit__(self, *_: object) -> None:
        self.client.running -= 1


@dataclass(slots=True)
class _Room:
    gate: Admission
    mine: int = 0

    def __enter__(self) -> Callable[[int], None]:
        return self.take

    def take(self, count: int) -> None:
        gate = self.gate
        if self.mine + count > gate.max_held_bytes:
            message = "The body holds more text, lists and objects than fit here: send less."
            raise ApiError(413, "request_too_large", message, param="body", closes=True)
        if gate.held_bytes + count > gate.max_held_bytes:
            message = "The chatbot holds as many long requests as it can: try again in a moment."
            raise ApiError(503, "overloaded", message, closes=True)
        self.mine += count
        gate.held_bytes += count

    def __exit__(self, *_: object) -> None:
        self.gate.held_bytes -= self.mine


@dataclass(slots=True)
class _Slot:
    gate: Admission

    async def __aenter__(self) -> None:
        await self.gate.take_slot()

    async def __aexit__(self, *_: object) -> None:
        self.gate.release_slot()
