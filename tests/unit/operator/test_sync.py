"""Full lists: nothing is decided before every kind was listed once, and what is not well gets its turn with each."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from chatbot_operator.cluster import NotFound
from chatbot_operator.kinds import CHATBOT, HTTP_ROUTE, JOB, Key, Kind, Ref
from chatbot_operator.queue import Queue
from chatbot_operator.settings import Settings
from chatbot_operator.store import Store
from chatbot_operator.sync import KindAppeared, Sync
from tests.support.simulated_api import SimulatedApi

KEY = Key("ns", "demo")


class World:
    def __init__(self, **settings: object) -> None:
        self.api, self.store, self.settled = SimulatedApi(), Store(), set[Key]()
        self.queue = Queue(clock=lambda: 0.0)
        self.lists = 0
        self.sync = Sync(
            self.store,
            self.queue,
            self.api,
            Settings.model_validate({"resync_seconds": 0.01} | settings),
            settled=self.settled,
            clock=lambda: 0.0,
            took=self._took,
        )
        self.chatbot("ns")

    def _took(self, _: float) -> None:
        self.lists += 1

    def chatbot(self, namespace: str) -> None:
        metadata = {"name": "demo", "namespace": namespace, "uid": namespace}
        raw = {"apiVersion": CHATBOT.api_version, "kind": "Chatbot", "metadata": metadata, "spec": {"phase": "mock"}}
        self.api.store(raw)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    task = asyncio.create_task(world.sync.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is a count of the test's own
            await asyncio.sleep(0.001)


async def test_every_chatbot_has_its_turn_once_every_kind_was_listed() -> None:
    world = World(resync_seconds=60)
    async with running(world):
        await asyncio.wait_for(world.sync.ready.wait(), 5)
        assert world.queue.depth == 1
        assert await world.queue.get() == KEY


async def test_a_kind_that_cannot_be_listed_keeps_the_barrier_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatbot_operator.sync.FIRST_RETRY_SECONDS", 0.01)
    world, refused = World(), 0

    def before(verb: str, ref: Ref, _: object) -> None:
        nonlocal refused
        if verb == "list" and ref.kind == JOB:
            refused += 1
            raise NotFound("the server could not find the requested resource")

    world.api.before = before
    async with running(world):
        await until(lambda: refused >= 3)
        assert not world.sync.ready.is_set()
        assert world.queue.depth == 0
        world.api.before = lambda *_: None
        await asyncio.wait_for(world.sync.ready.wait(), 5)
        assert world.queue.depth == 1


async def test_one_that_is_not_well_has_its_turn_with_every_list_and_a_settled_one_has_not() -> None:
    world = World()
    async with running(world):
        for _ in range(3):
            assert await asyncio.wait_for(world.queue.get(), 5) == KEY
            world.queue.done(KEY)
        world.settled.add(KEY)
        lists = world.lists
        await until(lambda: world.lists >= lists + 2)
        while world.queue.depth:
            world.queue.done(await world.queue.get())
        lists = world.lists
        await until(lambda: world.lists >= lists + 3)
        assert world.queue.depth == 0


async def test_a_change_that_no_watch_has_told_of_is_found() -> None:
    world = World()
    world.settled.add(KEY)
    async with running(world):
        await until(lambda: world.lists >= 2)
        while world.queue.depth:
            world.queue.done(await world.queue.get())
        world.api.change(Ref(CHATBOT, *KEY), {"spec": {"suspend": True}})
        assert await asyncio.wait_for(world.queue.get(), 5) == KEY
        raw = world.store.snapshot(KEY).chatbot
        assert raw is not None
        assert raw["spec"]["suspend"] is True


async def test_a_second_list_soon_follows_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatbot_operator.sync.SECOND_LIST_SECONDS", 0.01)
    world = World(resync_seconds=60)
    async with running(world):
        await asyncio.wait_for(world.sync.ready.wait(), 5)
        world.api.drop(Ref(CHATBOT, *KEY))  # before the watches have begun: nobody is told
        await until(lambda: world.store.snapshot(KEY).chatbot is None)


async def test_only_the_namespaces_that_are_ours_are_listed() -> None:
    world = World(watch_namespaces=("ours",), resync_seconds=60)
    world.chatbot("ours")
    async with running(world):
        await asyncio.wait_for(world.sync.ready.wait(), 5)
        assert list(world.store.known()) == [Key("ours", "demo")]


async def test_a_change_has_its_turn_only_when_every_kind_was_listed_anew() -> None:
    world = World()
    world.settled.add(KEY)
    async with running(world):
        await until(lambda: world.lists >= 2)
        while world.queue.depth:
            world.queue.done(await world.queue.get())
        depths: list[int] = []
        world.api.before = lambda _, ref, __: depths.append(world.queue.depth) if ref.kind == JOB else None
        world.api.change(Ref(CHATBOT, *KEY), {"spec": {"suspend": True}})
        assert await asyncio.wait_for(world.queue.get(), 5) == KEY
    assert depths
    assert not any(depths)


async def test_lists_that_fail_come_more_and_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatbot_operator.sync.FIRST_RETRY_SECONDS", 0.01)
    world, begun = World(resync_seconds=0.04), list[float]()

    def before(_: str, ref: Ref, __: object) -> None:
        if ref.kind == CHATBOT:
            begun.append(asyncio.get_running_loop().time())
        raise NotFound("the server could not find the requested resource")

    world.api.before = before
    async with running(world):
        await until(lambda: len(begun) >= 6)
    pauses = [b - a for a, b in itertools.pairwise(begun)]
    assert all(pause >= least for pause, least in zip(pauses, (0.01, 0.02, 0.04, 0.04, 0.04), strict=False))


def lacks(world: World, kind: Kind) -> None:
    """The cluster does not know the kind."""

    def before(verb: str, ref: Ref, _: object) -> None:
        if verb == "list" and ref.kind == kind:
            raise NotFound("the server could not find the requested resource")

    world.api.before = before


async def test_a_cluster_may_lack_an_optional_kind() -> None:
    world = World(resync_seconds=60)
    lacks(world, HTTP_ROUTE)
    async with running(world):
        await asyncio.wait_for(world.sync.ready.wait(), 5)
        assert world.sync.absent == {HTTP_ROUTE}
        assert world.queue.depth == 1


async def test_an_optional_kind_that_comes_later_ends_the_process_so_that_the_next_one_watches_it() -> None:
    world = World()
    lacks(world, HTTP_ROUTE)
    task = asyncio.create_task(world.sync.run())
    await asyncio.wait_for(world.sync.ready.wait(), 5)
    world.api.before = lambda *_: None
    with pytest.raises(KindAppeared, match="httproutes"):
        await asyncio.wait_for(task, 5)
