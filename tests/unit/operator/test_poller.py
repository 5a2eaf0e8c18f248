"""Which pods are asked, and when; a report that differs makes it the Chatbot's turn."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from chatbot_operator import poller as module
from chatbot_operator.kinds import POD, Key, ref_of
from chatbot_operator.names import SETTINGS_NUDGE
from chatbot_operator.pods import PodClient
from chatbot_operator.poller import Poller
from chatbot_operator.queue import MOMENT_SECONDS, Queue
from chatbot_operator.reports import PodReport
from chatbot_operator.settings import Settings
from chatbot_operator.store import Store
from chatbot_runtime.contract import PodStatus
from tests.support.simulated_world import KEY, settled

OTHER = Key("chat", "other")


class Asked:
    """A client that notes whom it was asked about."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.report = PodReport(problem="nothing yet")

    async def ask(self, *, ip: str, namespace: str, name: str, read: object) -> PodReport:
        assert ip
        assert namespace
        self.names.append(name)
        self.read = read
        return self.report


class World:
    def __init__(self, store: Store) -> None:
        self.now, self.asked, self.settled, self.may_ask = 0.0, Asked(), set[Key](), True
        self.store = store
        self.queue = Queue(clock=lambda: self.now)
        self.poller = Poller(
            store,
            self.queue,
            cast("PodClient", self.asked),
            Settings(),
            settled=self.settled.__contains__,
            clock=lambda: self.now,
        )


@asynccontextmanager
async def polling(phase: str, monkeypatch: Any) -> AsyncIterator[tuple[World, list[str]]]:
    """A Chatbot of this phase that runs, and a poller that looks as often as it can."""
    monkeypatch.setattr(module, "TICK_SECONDS", 0)
    chatbot = await settled({"phase": phase})
    for pod in chatbot.api.of_kind(POD):
        chatbot.api.change(ref_of(pod), {"status": {"podIP": "127.0.0.1"}})
    chatbot.deliver()
    world = World(chatbot.store)
    task = asyncio.create_task(world.poller.run(lambda: world.may_ask))
    yield world, [p["metadata"]["name"] for p in chatbot.api.of_kind(POD)]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is a count of the test's own
            await asyncio.sleep(0)


async def asked(world: World, times: int) -> None:
    await until(lambda: len(world.asked.names) == times)


async def some_turns() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


async def test_every_pod_of_one_that_is_not_settled_is_asked_every_few_seconds(monkeypatch: Any) -> None:
    async with polling("mock", monkeypatch) as (world, names):
        await until(lambda: sorted(world.asked.names) == sorted(names))
        await some_turns()
        assert len(world.asked.names) == len(names)
        world.now += 3.1
        await until(lambda: len(world.asked.names) == 2 * len(names))


async def test_a_pod_that_says_the_same_again_is_asked_less_often_but_at_least_every_nine_seconds(
    monkeypatch: Any,
) -> None:
    async with polling("mock", monkeypatch) as (world, names):
        for turns, pause in enumerate((3.1, 6.1, 9.1, 9.1), start=1):
            await asked(world, turns * len(names))
            world.now += pause - 0.2
            await some_turns()
            assert len(world.asked.names) == turns * len(names)
            world.now += 0.2


async def test_a_pod_to_which_something_happens_is_asked_at_once_and_often_again(monkeypatch: Any) -> None:
    async with polling("mock", monkeypatch) as (world, names):
        for turns in (1, 2, 3):
            await asked(world, turns * len(names))
            world.now += 20
        await until(lambda: len(world.asked.names) == 4 * len(names))
        old = next(o for r, o in world.store.snapshot(KEY).children.items() if r.kind == POD)
        metadata = old["metadata"] | {"annotations": {SETTINGS_NUDGE: "new@then"}, "resourceVersion": "1000000"}
        world.asked.names.clear()
        world.store.put({**old, "metadata": metadata})
        await until(lambda: world.asked.names == [metadata["name"]])
        world.now += 3.1
        await until(lambda: world.asked.names == [metadata["name"]] * 2)


async def test_a_settled_mock_is_not_asked_and_a_settled_hf_is_now_and_then(monkeypatch: Any) -> None:
    for phase, again in (("mock", 0), ("hf", 1)):
        async with polling(phase, monkeypatch) as (world, names):
            await until(lambda: len(world.asked.names) >= len(names))
            world.settled.add(KEY)
            before = len(world.asked.names)
            world.now += 15.1
            await some_turns()
            assert len(world.asked.names) - before == again * len(names)


async def test_a_pod_that_comes_later_is_asked_too_and_one_that_is_gone_is_not(monkeypatch: Any) -> None:
    async with polling("mock", monkeypatch) as (world, names):
        await until(lambda: len(world.asked.names) == len(names))
        old = next(o for r, o in world.store.snapshot(KEY).children.items() if r.kind == POD)
        new = {**old, "metadata": {**old["metadata"], "name": "new", "uid": "new"}}
        world.store.remove(old)
        world.store.put(new)
        await until(lambda: world.asked.names[-1] == "new")
        world.asked.names.clear()
        world.now += 3.1
        await until(lambda: len(world.asked.names) == len(names))
        assert set(world.asked.names) == {*names, "new"} - {old["metadata"]["name"]}


async def test_a_standby_asks_nobody(monkeypatch: Any) -> None:
    async with polling("mock", monkeypatch) as (world, names):
        await until(lambda: len(world.asked.names) == len(names))
        world.may_ask = False
        world.now += 60
        await some_turns()
        assert len(world.asked.names) == len(names)


async def test_a_report_that_differs_makes_it_the_chatbots_turn_and_the_same_does_not(monkeypatch: Any) -> None:
    async with polling("mock", monkeypatch) as (world, names):
        await until(lambda: len(world.poller.reports) == len(names))
        world.now += MOMENT_SECONDS
        assert await asyncio.wait_for(world.queue.get(), 5) == KEY
        world.queue.done(KEY)
        world.now += 3.1
        await until(lambda: len(world.asked.names) == 2 * len(names))
        await some_turns()
        world.now += MOMENT_SECONDS
        turn = asyncio.create_task(world.queue.get())
        await some_turns()
        assert not turn.done()
        world.asked.report = PodReport(problem="something else")
        world.now += 6.1
        await until(lambda: len(world.asked.names) == 3 * len(names))
        await some_turns()
        world.now += MOMENT_SECONDS
        world.queue.add(OTHER)  # a real clock wakes it; this one does not
        assert {await asyncio.wait_for(turn, 5), await asyncio.wait_for(world.queue.get(), 5)} == {KEY, OTHER}


async def test_a_pod_that_has_answered_is_believed_until_it_is_silent_twice(monkeypatch: Any) -> None:
    async with polling("hf", monkeypatch) as (world, names):
        well = PodReport(PodStatus(chatbot="demo", phase="hf", revision="r", ready=True, settings_hash="h"))
        world.asked.report = well
        world.now += 3.1
        await until(lambda: set(world.poller.reports.values()) == {well})
        silent = world.asked.report = PodReport(problem="no answer")
        for expected in (well, silent):
            before = len(world.asked.names)
            world.now += 9.1
            await asked(world, before + len(names))
            await some_turns()
            assert set(world.poller.reports.values()) == {expected}
