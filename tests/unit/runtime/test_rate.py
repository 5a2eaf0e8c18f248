"""How often a provider is asked by all pods together."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from chatbot_runtime.app import build
from chatbot_runtime.chat_request import ChatRequest
from chatbot_runtime.config import Config
from chatbot_runtime.network import Peers
from chatbot_runtime.providers.base import ProviderError
from chatbot_runtime.rate import SharedRate
from tests.support.router import GOOD, Router


class Names(AbstractResolver):
    """A name server: the addresses of the one name, or none if it fails."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = asyncio.Event()

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - aiohttp's signature
    ) -> list[ResolveResult]:
        self.asked.set()
        if not self.addresses:
            raise OSError("no such name")
        families = {a: socket.AF_INET6 if ":" in a else socket.AF_INET for a in self.addresses}
        return [
            ResolveResult(hostname=host, host=a, port=port, family=kind, proto=0, flags=0)
            for a, kind in families.items()
        ]

    async def close(self) -> None:
        """Holds nothing."""


def rate(per_minute: int, peers: Callable[[], int], clock: Callable[[], float], wait: float = 0) -> SharedRate:
    return SharedRate(lambda: per_minute, peers, wait_seconds=wait, clock=clock)


async def taken(limit: SharedRate, tries: int) -> int:
    """How many of so many requests are let through at once."""
    through = 0
    for _ in range(tries):
        with suppress(ProviderError):
            await limit.take()
            through += 1
    return through


async def known(pods: list[Peers], count: int) -> None:
    """Waits until every pod has counted so many."""
    async with asyncio.timeout(5):
        while any(pod.count != count for pod in pods):  # noqa: ASYNC110 - what is tested tells nobody
            await asyncio.sleep(0.001)


async def asked_again(names: Names) -> None:
    """Waits until an answer of the name server has been taken in."""
    for _ in range(2):
        names.asked.clear()
        await asyncio.wait_for(names.asked.wait(), 5)


async def test_two_pods_share_the_limit_as_soon_as_they_know_of_each_other() -> None:
    names = Names("10.0.0.1", "10.0.0.2")
    pods = [Peers("chatbot-peers", names) for _ in range(2)]
    limits = [rate(20, lambda pod=pod: pod.count, lambda: 1000.0) for pod in pods]  # type: ignore[misc]
    tasks = [asyncio.create_task(pod.follow(0.01)) for pod in pods]
    await known(pods, 2)
    assert [await taken(limit, 50) for limit in limits] == [10, 10]
    for task in tasks:
        task.cancel()


async def test_the_number_of_pods_is_1_until_it_is_known_and_stays_when_names_cannot_be_resolved() -> None:
    names = Names()
    pod = Peers("chatbot-peers", names)
    task = asyncio.create_task(pod.follow(0.001))
    await asked_again(names)
    assert pod.count == 1
    names.addresses = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
    await known([pod], 3)
    names.addresses = ()
    await asked_again(names)
    assert pod.count == 3
    names.addresses = ("10.0.0.1", "fd00::1")  # one pod with an address of each family
    await known([pod], 1)
    task.cancel()


async def test_the_moments_of_a_minute_are_kept_so_that_no_minute_has_more() -> None:
    now = 0.0
    limit = rate(6, lambda: 1, lambda: now)
    assert await taken(limit, 3) == 3
    now = 59.0
    assert await taken(limit, 10) == 3
    now = 60.5
    assert await taken(limit, 10) == 3
    now = 119.5
    assert await taken(limit, 10) == 3


async def test_a_part_below_one_a_minute_is_one_in_more_than_a_minute() -> None:
    now = 0.0
    limit = rate(1, lambda: 3, lambda: now)
    assert await taken(limit, 5) == 1
    now = 179.0
    assert await taken(limit, 5) == 0
    now = 180.0
    assert await taken(limit, 5) == 1


async def test_a_request_that_is_refused_says_when_to_come_back_and_nothing_about_the_provider() -> None:
    limit = rate(1, lambda: 1, lambda: 0.0, wait=59)
    await limit.take()
    with pytest.raises(ProviderError, match="at most 1 requests a minute") as caught:
        await limit.take()
    assert (caught.value.reason, caught.value.counts, caught.value.retry_after) == ("RateLimited", False, 60)


async def test_a_request_waits_for_its_turn_if_that_is_near() -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time() - 59.8
    moments = iter([begin])
    limit = rate(1, lambda: 1, lambda: next(moments, None) or loop.time(), wait=0.5)
    await limit.take()
    await limit.take()
    assert 60 <= loop.time() - begin < 60.5


async def test_one_who_stops_waiting_leaves_its_turn_to_others() -> None:
    now = 0.0
    limit = rate(1, lambda: 1, lambda: now, wait=100)
    await limit.take()
    waiting = asyncio.create_task(limit.take())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    now = 60.0
    assert await taken(rate(1, lambda: 1, lambda: now), 1) == 1
    assert list(limit._turns) == [0.0]


async def test_two_whole_runtimes_share_what_is_set(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"hf": {"requestsPerMinute": 8}, "fallback": {"to": "none"}}')
    (tmp_path / "token").write_text(GOOD)
    names = Names("10.0.0.1", "10.0.0.2")
    with Router() as router:
        config = Config(
            phase="hf",
            models=("org/tiny",),
            base_url=router.url,
            server="router",
            allowed_hosts=("127.0.0.1",),
            token_file=tmp_path / "token",
            settings_file=settings,
            peers="chatbot-peers",
        )
        runtimes = [build(config, clock=lambda: 1000.0, resolver=names) for _ in range(2)]
        tasks = [asyncio.create_task(runtime.count_peers()) for runtime in runtimes]
        await known([runtime.hosted.peers for runtime in runtimes if runtime.hosted], 2)
        question = ChatRequest("org/tiny", ({"role": "user", "content": "hi"},))
        for runtime in runtimes:
            for _ in range(10):
                with suppress(ProviderError):
                    answer = await runtime.provider.answer(question)
                    assert [chunk.finish_reason async for chunk in answer.chunks] == ["stop"]
            await runtime.provider.close()
        assert len(list(router.chats())) == 8
    for task in tasks:
        task.cancel()


@given(
    per_minute=st.integers(1, 50),
    peers=st.integers(1, 12),
    waits=st.lists(st.floats(0, 40, allow_nan=False), min_size=1, max_size=80),
)
def test_in_no_minute_are_there_more_requests_than_allowed_but_for_one_of_each_pod(
    per_minute: int, peers: int, waits: list[float]
) -> None:
    now = 0.0

    async def run() -> None:
        nonlocal now
        pods = [rate(per_minute, lambda: peers, lambda: now) for _ in range(peers)]
        through: list[float] = []
        for wait in waits:
            now += wait
            for pod in pods:
                through += [now] * await taken(pod, 3)
        for start in through:
            most = per_minute + (peers if per_minute % peers else 0)
            assert sum(start <= moment < start + 60 for moment in through) <= most

    asyncio.run(run())
