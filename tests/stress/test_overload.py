"""Far more questions than can be answered: the answers go on, the rest is refused in a way that clients understand."""

import asyncio
import time

from tests.stress.conftest import WriteSettings, size
from tests.support.runtime_process import RuntimeProcess, until
from tests.support.swarm import Tally, open_stream, swarm, together, wait_for

SLOTS = 5
TOKENS, PER_SECOND = 10, 20
CAPACITY = SLOTS * PER_SECOND / TOKENS
"""Answers a second."""


async def test_at_ten_times_the_capacity_answers_go_on_and_every_refusal_says_when_to_come_back(
    settings_file: WriteSettings,
) -> None:
    settings = settings_file(tokens=TOKENS, per_second=PER_SECOND)
    seconds = size(3, 30)
    with RuntimeProcess(settings_file=settings, max_running=SLOTS, max_queue=SLOTS, queue_seconds=1) as process:
        clock = asyncio.get_running_loop().time
        async with swarm(process) as clients:
            alone = Tally()
            began = clock()
            await clients.ask(alone)
            usual = clock() - began
            peak, began = Tally(), clock()
            await clients.closed_loop(peak, SLOTS, began + seconds)
            best = peak.done / (clock() - began)
            flood, began = Tally(), clock()
            await clients.open_loop(flood, 10 * CAPACITY, began + seconds)
            goodput = flood.done / (clock() - began)
            again = Tally()

            async def as_before() -> bool:
                began = clock()
                await clients.ask(again)
                return clock() - began < 2 * usual

            begin = time.monotonic()
            while not await as_before():
                assert time.monotonic() - begin < 5, "answers still take longer than before the flood"
        assert (peak.wrong, flood.wrong, again.wrong, again.refused) == ([], [], [], {})
        assert not peak.refused
        assert set(flood.refused) == {(503, "overloaded")}
        assert flood.refused.total() > 5 * flood.done
        assert goodput >= 0.9 * best
        until(lambda: process.metric("chatbot_runtime_running_requests") == 0, "no slot is lost")
        assert process.metric("chatbot_runtime_refusals_total") == flood.refused.total()


async def test_one_greedy_client_takes_nothing_from_the_others(settings_file: WriteSettings) -> None:
    """Four clients use all of their share; the fifth asks for twenty times its own."""
    share = 2
    settings = settings_file(tokens=TOKENS, per_second=PER_SECOND, mode="APIKey", concurrentRequests=share)
    seconds = size(3, 30)
    keys = settings.parent / "keys"
    keys.mkdir()
    headers = {}
    for name in ("a", "b", "c", "d", "greedy"):
        (keys / name).write_text(f"canary-{name}")
        headers[name] = {"Authorization": f"Bearer canary-{name}"}
    greedy_headers = headers.pop("greedy")
    with RuntimeProcess(settings_file=settings, keys_dir=keys, max_running=5 * share, max_queue=4) as process:
        clock = asyncio.get_running_loop().time
        async with swarm(process) as clients:

            async def others() -> float:
                began = clock()
                await asyncio.gather(*(clients.closed_loop(good, share, began + seconds, h) for h in headers.values()))
                done, good.done = good.done, 0
                return done / (clock() - began)

            good = Tally()
            isolated = await others()
            greedy = Tally()
            flood = asyncio.create_task(
                clients.open_loop(greedy, 20 * share * PER_SECOND / TOKENS, clock() + seconds, greedy_headers)
            )
            beside = await others()
            await flood
        assert (good.wrong, good.refused, greedy.wrong) == ([], {}, [])
        assert set(greedy.refused) == {(429, "concurrency_limit_exceeded")}
        assert greedy.done > 0
        assert beside >= 0.95 * isolated


async def test_clients_that_leave_free_their_slots(settings_file: WriteSettings) -> None:
    slots = size(100, 500)
    settings = settings_file(tokens=100_000, per_second=20)
    with RuntimeProcess(settings_file=settings, max_running=slots, max_queue=slots, queue_seconds=60) as process:
        for reset in (False, True):
            running = await together(slots, lambda: open_stream(process))
            await asyncio.gather(*(stream.until(b"word") for stream in running))
            waiting = await together(slots, lambda: open_stream(process))

            def value(name: str) -> float:
                return process.metric(f"chatbot_runtime_{name}_requests")

            await wait_for(lambda: value("queued") == slots, "all wait", 10)
            for stream in waiting:
                stream.leave(reset=reset)
            await wait_for(lambda: value("queued") == 0, "those who waited are gone", 1)
            assert value("running") == slots
            for stream in running:
                stream.leave(reset=reset)
            await wait_for(lambda: value("running") == 0, "those who listened are gone", 2)
