"""What is let in, what waits and what is refused."""

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest

from chatbot_runtime.admission import Admission
from chatbot_runtime.errors import ApiError


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def admission(**limits: Any) -> Admission:
    defaults: dict[str, Any] = {
        "max_running": 1, "max_queue": 1, "queue_seconds": 5, "max_clients": 100, "max_held_bytes": 1000,
        "clock": Clock(),
    }  # fmt: skip
    return Admission(**(defaults | limits))


def ask(gate: Admission, client: str = "a", per_minute: int = 2, concurrent: int = 10) -> None:
    with gate.client(client, per_minute=per_minute, concurrent=concurrent):
        pass


def test_a_client_over_its_rate_is_told_when_to_come_back_and_may_then() -> None:
    clock = Clock()
    gate = admission(clock=clock)
    ask(gate)
    ask(gate)
    with pytest.raises(ApiError) as caught:
        ask(gate)
    assert (caught.value.status, caught.value.body.code) == (429, "rate_limit_exceeded")
    assert caught.value.retry_after == 30
    clock.now += 29
    with pytest.raises(ApiError):
        ask(gate)
    clock.now += 1
    ask(gate)


def test_one_client_does_not_use_up_another_ones_rate() -> None:
    gate = admission()
    for client in ("a", "a", "b", "b"):
        ask(gate, client)


def test_a_client_saves_up_no_more_than_a_minute() -> None:
    clock = Clock()
    gate = admission(clock=clock)
    ask(gate)
    clock.now += 3600
    ask(gate)
    ask(gate)
    with pytest.raises(ApiError):
        ask(gate)


def test_a_client_has_no_more_requests_at_once_than_allowed_and_a_refused_one_costs_no_rate() -> None:
    gate = admission()
    with gate.client("a", per_minute=3, concurrent=1):
        with pytest.raises(ApiError) as caught:
            ask(gate, per_minute=3, concurrent=1)
        assert (caught.value.status, caught.value.body.code) == (429, "concurrency_limit_exceeded")
    ask(gate, per_minute=3, concurrent=1)
    ask(gate, per_minute=3, concurrent=1)


def test_a_failed_request_frees_its_clients_place() -> None:
    gate = admission()
    with pytest.raises(RuntimeError), gate.client("a", per_minute=9, concurrent=1):
        raise RuntimeError
    ask(gate, per_minute=9, concurrent=1)


def test_the_table_of_clients_is_bounded_and_forgets_no_one_who_is_being_answered() -> None:
    gate = admission(max_clients=3)
    with ExitStack() as running:
        running.enter_context(gate.client("busy", per_minute=1, concurrent=9))
        for number in range(50):
            ask(gate, f"client-{number}", per_minute=1)
        assert len(gate._clients) <= 3
        with pytest.raises(ApiError):
            ask(gate, "busy", per_minute=1)
        with pytest.raises(ApiError):
            ask(gate, "client-49", per_minute=1)
        ask(gate, "client-0", per_minute=1)


def test_memory_is_held_while_a_request_lasts_and_no_more_than_there_is() -> None:
    gate = admission()
    with gate.room() as first:
        first(300)
        first(300)
        with gate.room() as second:
            second(400)
            with pytest.raises(ApiError) as caught:
                second(1)
            assert (caught.value.status, caught.value.body.code, caught.value.closes) == (503, "overloaded", True)
            with pytest.raises(ApiError) as caught:
                second(601)
            assert (caught.value.status, caught.value.body.code) == (413, "request_too_large")
        assert gate.held_bytes == 600
    assert gate.held_bytes == 0


class Holder:
    """A task that takes a slot and keeps it until it is told to let go."""

    def __init__(self, gate: Admission) -> None:
        self.has_it = asyncio.Event()
        self.let_go = asyncio.Event()
        self.task = asyncio.create_task(self._hold(gate))

    async def _hold(self, gate: Admission) -> None:
        async with gate.slot():
            self.has_it.set()
            await self.let_go.wait()


async def settle() -> None:
    """Lets every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_slots_are_handed_on_in_the_order_of_the_queue() -> None:
    gate = admission(max_queue=3)
    holders = [Holder(gate) for _ in range(4)]
    await settle()
    assert (gate.running, gate.queued) == (1, 3)
    for index, holder in enumerate(holders):
        assert [other.has_it.is_set() for other in holders] == [other <= index for other in range(4)]
        holder.let_go.set()
        await settle()
    assert (gate.running, gate.queued) == (0, 0)


async def test_a_full_queue_refuses_at_once() -> None:
    gate = admission()
    holders = [Holder(gate) for _ in range(2)]
    await settle()
    with pytest.raises(ApiError) as caught:
        async with gate.slot():
            pass
    assert (caught.value.status, caught.value.body.code) == (503, "overloaded")
    for holder in holders:
        holder.let_go.set()


async def test_who_waits_too_long_is_refused_and_leaves_the_queue() -> None:
    gate = admission(queue_seconds=0.05)
    holder = Holder(gate)
    await settle()
    with pytest.raises(ApiError) as caught:
        async with gate.slot():
            pass
    assert caught.value.status == 503
    assert gate.queued == 0
    holder.let_go.set()
    await holder.task
    assert gate.running == 0


async def test_who_goes_away_while_waiting_leaves_the_queue() -> None:
    gate = admission()
    holder, waiter = Holder(gate), Holder(gate)
    await settle()
    waiter.task.cancel()
    await settle()
    assert gate.queued == 0
    holder.let_go.set()
    await holder.task
    assert gate.running == 0


async def test_a_slot_handed_to_one_who_goes_away_in_that_moment_is_not_lost() -> None:
    gate = admission(max_queue=2)
    slot = gate.slot()
    await slot.__aenter__()
    leaver, heir = Holder(gate), Holder(gate)
    await settle()
    await slot.__aexit__(None, None, None)  # the slot is the leaver's now, but it has not run since
    assert (gate.running, gate.queued) == (1, 1)
    leaver.task.cancel()
    await settle()
    assert not leaver.has_it.is_set()
    assert heir.has_it.is_set()
    heir.let_go.set()
    await heir.task
    assert (gate.running, gate.queued) == (0, 0)
