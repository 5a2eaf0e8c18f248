"""Workers: one poisoned Chatbot, however it fails, neither ends them nor delays the others."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from chatbot_operator.api.reasons import Reason
from chatbot_operator.cluster import ClusterError, Throttled, Transient
from chatbot_operator.kinds import Key
from chatbot_operator.leader import NotLeader
from chatbot_operator.metrics import Metrics
from chatbot_operator.queue import Queue
from chatbot_operator.reconciler import Outcome, Reconciler
from chatbot_operator.worker import work

POISONED, HEALTHY = Key("ns", "poisoned"), Key("ns", "healthy")


class Scripted:
    """A reconciler whose outcome for a key is a function of the turn."""

    def __init__(self, outcome: Callable[[Key, int], Outcome]) -> None:
        self.turns: Counter[Key] = Counter()
        self.reports: list[tuple[Key, Reason, str]] = []
        self._outcome = outcome

    async def reconcile(self, key: Key) -> Outcome:
        self.turns[key] += 1
        return self._outcome(key, self.turns[key])

    async def report(self, key: Key, reason: Reason, message: str) -> None:
        self.reports.append((key, reason, message))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def working(scripted: Scripted, clock: Clock) -> AsyncIterator[tuple[Queue, Metrics, asyncio.Task[None]]]:
    queue, metrics = Queue(clock=clock, first_delay=10, longest_delay=10), Metrics()
    task = asyncio.create_task(work(queue, cast("Reconciler", scripted), metrics))
    yield queue, metrics, task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is a count of the test's own
            await asyncio.sleep(0)


def poison(error: Exception) -> Callable[[Key, int], Outcome]:
    def outcome(key: Key, _: int) -> Outcome:
        if key == POISONED:
            raise error
        return Outcome()

    return outcome


@pytest.mark.parametrize("error", [ValueError("secret-value"), KeyError("x"), Transient("down"), RecursionError()])
async def test_a_poisoned_chatbot_does_not_keep_the_others_waiting(error: Exception) -> None:
    scripted, clock = Scripted(poison(error)), Clock()
    async with working(scripted, clock) as (queue, metrics, task):
        for _ in range(20):
            queue.add(POISONED)
            queue.add(HEALTHY)
            before = scripted.turns[HEALTHY]
            await until(lambda before=before: scripted.turns[HEALTHY] > before)  # type: ignore[misc]
        assert scripted.turns[POISONED] == 1  # in back-off, though events keep coming
        clock.now = 11
        queue.add(HEALTHY)
        await until(lambda: scripted.turns[POISONED] == 2)
        assert not task.done()
        assert f'errors_total{{error="{type(error).__name__}"}} 2.0' in metrics.text().decode()


async def test_a_bug_becomes_the_reason_without_what_it_says() -> None:
    scripted = Scripted(poison(ValueError("secret-value")))
    async with working(scripted, Clock()) as (queue, _, _task):
        queue.add(POISONED)
        await until(lambda: bool(scripted.reports))
    key, reason, message = scripted.reports[0]
    assert (key, reason) == (POISONED, Reason.RECONCILE_FAILED)
    assert "ValueError" in message
    assert "secret-value" not in message


async def test_trouble_of_the_infrastructure_is_no_reason_and_a_throttle_waits_as_told() -> None:
    error: ClusterError = Throttled("slow down", retry_after=40)
    scripted, clock = Scripted(poison(error)), Clock()
    async with working(scripted, clock) as (queue, _, _task):
        queue.add(POISONED)
        await until(lambda: scripted.turns[POISONED] == 1)
        for now, turns in ((39.0, 1), (41.0, 2)):
            clock.now = now
            queue.add(HEALTHY)
            before = scripted.turns[HEALTHY]
            await until(lambda before=before: scripted.turns[HEALTHY] > before)  # type: ignore[misc]
            await until(lambda turns=turns: scripted.turns[POISONED] == turns)  # type: ignore[misc]
    assert scripted.reports == []


async def test_without_the_lease_a_key_is_dropped_and_whoever_gains_it_adds_all() -> None:
    scripted = Scripted(poison(NotLeader("not us")))
    async with working(scripted, Clock()) as (queue, _, _task):
        queue.add(POISONED)
        await until(lambda: scripted.turns[POISONED] == 1)
        await until(queue.idle)
        queue.add(POISONED)  # not in back-off
        await until(lambda: scripted.turns[POISONED] == 2)


async def test_an_outcome_says_when_to_come_again() -> None:
    scripted, clock = Scripted(lambda _, turn: Outcome(requeue_after=5 if turn == 1 else None)), Clock()
    async with working(scripted, clock) as (queue, _, _task):
        queue.add(HEALTHY)
        await until(lambda: scripted.turns[HEALTHY] == 1)
        await until(queue.idle)
        clock.now = 6
        queue.add(POISONED)
        await until(lambda: scripted.turns[HEALTHY] == 2)
