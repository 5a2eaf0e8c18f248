"""How often the provider is asked: a limit that all pods share. It must not know the provider, nor how peers are found.

Each pod takes its even part, by the moments of its last requests: in no minute are there more than allowed, but for one
of each pod where the parts are no whole numbers.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from math import ceil

from chatbot_runtime.providers.base import ProviderError


class SharedRate:
    """Lets `per_minute() / peers()` requests a minute through; one above it waits, for at most `wait_seconds`."""

    def __init__(
        self,
        per_minute: Callable[[], int],
        peers: Callable[[], int],
        *,
        wait_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._per_minute = per_minute
        self._peers = peers
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._turns: deque[float] = deque()
        """When requests were, or will be, let through; in order."""

    async def take(self) -> None:
        """Waits for its turn. Raises ProviderError if that is too far away; that says nothing about the provider."""
        now = self._clock()
        turn = self._next(now)
        if turn - now > self._wait_seconds:
            message = f"This chatbot sends at most {self._per_minute()} requests a minute to its provider: try again."
            raise ProviderError("RateLimited", message, turn - now, counts=False)
        self._turns.append(turn)
        if turn > now:
            try:
                await asyncio.sleep(turn - now)
            except asyncio.CancelledError:
                self._turns.remove(turn)
                raise

    def _next(self, now: float) -> float:
        share = self._per_minute() / max(1, self._peers())
        most = ceil(share)
        window = 60 * most / share  # a broken part is a whole one in more than a minute
        while self._turns and self._turns[0] <= now - window:
            self._turns.popleft()
        if len(self._turns) < most:
            return max(now, self._turns[-1]) if self._turns else now
        return max(now, self._turns[-most] + window, self._turns[-1])
