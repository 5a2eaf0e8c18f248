"""Whose turn it is: keys to reconcile, each by one worker at a time, with a back-off per key. It must not know what
reconciling means."""

import asyncio
import heapq
import random
from collections.abc import Callable
from itertools import count

from chatbot_operator.kinds import Key

MOMENT_SECONDS = 0.2
"""Children change in bursts, and one look at them costs as much as many: for so long news of them are gathered."""


class Queue:
    """A work queue with a dirty set, a busy set and delayed keys.

    A key that is added while it is handled comes again when it is done. A key in back-off waits for its time even if
    events keep coming for it, so that one poisoned Chatbot delays nobody; `urgent` (its own object changed) ends that.
    Times are seconds of `clock`, which must be monotonic.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        first_delay: float = 0.5,
        longest_delay: float = 60,
        rng: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._first, self._longest = first_delay, longest_delay
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._ready: dict[Key, None] = {}
        self._busy: set[Key] = set()
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._failures: dict[Key, int] = {}
        self._blocked: dict[Key, float] = {}
        self._order = count()
        self._wake = asyncio.Event()

    @property
    def depth(self) -> int:
        """Keys that wait for a worker now; those in a delay are not counted."""
        return len(self._ready)

    def idle(self) -> bool:
        """Nothing waits and nothing is being handled; keys in a delay may exist."""
        return not self._ready and not self._busy

    def add(self, key: Key, *, urgent: bool = False) -> None:
        """It is this key's turn, at once unless it is in back-off."""
        if urgent:
            self._blocked.pop(key, None)
        until = self._blocked.get(key)
        if until is not None and until > self._clock():
            self._schedule(key, until)
            return
        self._ready[key] = None
        self._wake.set()

    def add_soon(self, key: Key) -> None:
        """It is this key's turn in a moment, together with whatever else happens to it until then."""
        if key not in self._ready:
            self.add_later(key, MOMENT_SECONDS)

    def add_later(self, key: Key, seconds: float) -> None:
        """It is this key's turn in some seconds, but not before its back-off ends; the earliest wish counts."""
        self._schedule(key, max(self._clock() + seconds, self._blocked.get(key, 0.0)))

    async def get(self) -> Key:
        """The next key; it is busy until `done`, `failed` or `forget`."""
        while True:
            wait = self._release_due()
            key = next((k for k in self._ready if k not in self._busy), None)
            if key is not None:
                del self._ready[key]
                self._due.pop(key, None)  # this turn is what was wished for
                self._busy.add(key)
                return key
            self._wake.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """Handled without an error."""
        self._failures.pop(key, None)
        self._blocked.pop(key, None)
        self._free(key)

    def failed(self, key: Key, *, retry_after: float | None = None) -> float:
        """Handled with an error: it comes again after the returned seconds (doubling, with jitter)."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._first * 2.0 ** min(failures, 30), self._longest) * self._rng.uniform(0.75, 1)
        delay = max(delay, retry_after or 0)
        self._blocked[key] = self._clock() + delay
        self._due.pop(key, None)  # what was wished for meanwhile waits too
        self._schedule(key, self._blocked[key])
        self._ready.pop(key, None)
        self._free(key)
        return delay

    def forget(self, key: Key) -> None:
        """The Chatbot is gone."""
        self._failures.pop(key, None)
        self._blocked.pop(key, None)
        self._due.pop(key, None)
        self._free(key)

    def _free(self, key: Key) -> None:
        self._busy.discard(key)
        self._wake.set()

    def _schedule(self, key: Key, at: float) -> None:
        if key not in self._due or at < self._due[key]:
            self._due[key] = at
            heapq.heappush(self._heap, (at, next(self._order), key))
            self._wake.set()

    def _release_due(self) -> float | None:
        """Move what is due to the ready keys; returns the seconds until the next one is."""
        now = self._clock()
        while self._heap:
            at, _, key = self._heap[0]
            if self._due.get(key) != at:  # superseded by an earlier wish, or forgotten
                heapq.heappop(self._heap)
            elif at <= now:
                heapq.heappop(self._heap)
                del self._due[key]
                self._ready[key] = None
            else:
                return at - now
        return None
