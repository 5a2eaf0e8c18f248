"""The work queue on a clock that the test moves."""

import asyncio
import random
from collections.abc import Callable

import pytest

from chatbot_operator.kinds import Key
from chatbot_operator.queue import MOMENT_SECONDS, Queue

ONE, TWO = Key("chat", "one"), Key("chat", "two")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Callable[[], float]) -> Queue:
    return Queue(clock=clock, first_delay=1, longest_delay=60, rng=random.Random(1))


async def waits(queue: Queue) -> bool:
    """Whether nobody's turn has come."""
    task = asyncio.ensure_future(queue.get())
    for _ in range(5):
        await asyncio.sleep(0)
    if task.done():
        queue.add(task.result())
        queue.done(task.result())
        return False
    task.cancel()
    return True


async def test_a_key_that_is_handled_is_not_given_out_twice(queue: Queue) -> None:
    queue.add(ONE)
    assert await queue.get() == ONE
    queue.add(ONE)
    assert await waits(queue)
    queue.done(ONE)
    assert await queue.get() == ONE


async def test_many_events_are_one_turn(queue: Queue) -> None:
    for _ in range(5):
        queue.add(ONE)
    assert queue.depth == 1


async def test_failures_double_the_pause_up_to_the_longest(queue: Queue, clock: Clock) -> None:
    delays = []
    for _ in range(10):
        queue.add(ONE, urgent=True)
        await queue.get()
        delays.append(queue.failed(ONE))
    for number, delay in enumerate(delays):
        longest = min(2.0**number, 60)
        assert 0.75 * longest <= delay <= longest


async def test_events_do_not_shorten_a_back_off_but_an_edit_ends_it(queue: Queue, clock: Clock) -> None:
    queue.add(ONE)
    await queue.get()
    delay = queue.failed(ONE)
    queue.add(ONE)
    assert await waits(queue)
    clock.now = delay / 2
    queue.add(ONE, urgent=True)
    assert await queue.get() == ONE


async def test_a_key_comes_back_after_its_back_off(queue: Queue, clock: Clock) -> None:
    queue.add(ONE)
    await queue.get()
    clock.now += queue.failed(ONE)
    assert await queue.get() == ONE


async def test_a_poisoned_key_delays_nobody(queue: Queue, clock: Clock) -> None:
    queue.add(ONE)
    queue.add(TWO)
    await queue.get()
    queue.failed(ONE)
    assert await queue.get() == TWO
    queue.done(TWO)
    queue.add(TWO)
    assert await queue.get() == TWO


async def test_success_forgets_the_failures(queue: Queue, clock: Clock) -> None:
    for _ in range(4):
        queue.add(ONE, urgent=True)
        await queue.get()
        queue.failed(ONE)
    queue.add(ONE, urgent=True)
    await queue.get()
    queue.done(ONE)
    queue.add(ONE)
    await queue.get()
    assert queue.failed(ONE) <= 1


async def test_a_told_pause_is_kept(queue: Queue) -> None:
    queue.add(ONE)
    await queue.get()
    assert queue.failed(ONE, retry_after=7) == 7


async def test_news_of_children_are_one_turn_a_moment_after_the_first(queue: Queue, clock: Clock) -> None:
    queue.add_soon(ONE)
    assert await waits(queue)
    clock.now = MOMENT_SECONDS / 2
    queue.add_soon(ONE)
    clock.now = MOMENT_SECONDS
    assert await queue.get() == ONE
    queue.done(ONE)
    clock.now = 100
    assert await waits(queue)


async def test_news_of_children_do_not_delay_a_turn_that_has_come(queue: Queue, clock: Clock) -> None:
    queue.add(ONE)
    queue.add_soon(ONE)
    assert await queue.get() == ONE
    queue.done(ONE)
    clock.now = 100
    assert await waits(queue)


async def test_a_turn_that_comes_earlier_is_the_one_that_was_wished_for(queue: Queue, clock: Clock) -> None:
    queue.add_soon(ONE)
    queue.add(ONE, urgent=True)
    assert await queue.get() == ONE
    queue.done(ONE)
    clock.now = 100
    assert await waits(queue)


async def test_what_happens_while_a_key_is_handled_is_looked_at_afterwards(queue: Queue, clock: Clock) -> None:
    queue.add(ONE)
    await queue.get()
    queue.add_soon(ONE)
    clock.now = MOMENT_SECONDS
    assert await waits(queue)
    queue.done(ONE)
    assert await queue.get() == ONE


async def test_neither_news_nor_a_wish_end_a_back_off(queue: Queue, clock: Clock) -> None:
    queue.add(ONE)
    await queue.get()
    delay = queue.failed(ONE)
    queue.add_soon(ONE)
    queue.add_later(ONE, 0)
    clock.now = delay * 0.99
    assert await waits(queue)
    clock.now = delay
    assert await queue.get() == ONE


async def test_what_happens_during_a_turn_that_fails_waits_for_its_back_off_too(queue: Queue, clock: Clock) -> None:
    queue.add(ONE)
    await queue.get()
    queue.add_soon(ONE)  # the events of its own writes
    queue.failed(ONE, retry_after=5)
    clock.now = 2 * MOMENT_SECONDS
    assert await waits(queue)
    clock.now = 5
    assert await queue.get() == ONE


async def test_of_two_wishes_the_earlier_counts(queue: Queue, clock: Clock) -> None:
    queue.add_later(ONE, 50)
    queue.add_later(ONE, 5)
    queue.add_later(ONE, 30)
    clock.now = 5
    assert await queue.get() == ONE
    queue.done(ONE)
    clock.now = 100
    assert await waits(queue)


async def test_keys_are_given_out_in_the_order_in_which_they_came(queue: Queue) -> None:
    queue.add(TWO)
    queue.add(ONE)
    assert [await queue.get(), await queue.get()] == [TWO, ONE]


async def test_a_forgotten_key_does_not_come_back(queue: Queue, clock: Clock) -> None:
    queue.add(ONE)
    await queue.get()
    queue.add_later(ONE, 1)
    queue.forget(ONE)
    clock.now = 10
    assert await waits(queue)
