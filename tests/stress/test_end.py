"""SIGTERM in the middle of everything: whoever was let in is answered to the end."""

import asyncio
import random
import signal

from tests.stress.conftest import WriteSettings, size
from tests.support.runtime_process import RuntimeProcess, events
from tests.support.swarm import open_stream


def last_event(stream: bytes) -> object:
    """The last event of a chunked stream, or its status line if it is none."""
    head, _, body = stream.partition(b"\r\n\r\n")
    data = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
    return events(data[-1] + b"\n\n")[0] if data else head[:100]


async def test_every_stream_that_began_before_the_last_moment_finishes(settings_file: WriteSettings) -> None:
    """Streams begin at random times before SIGTERM and in the wait after it; some wait for a slot meanwhile."""
    count, lasts, pre_stop = size(150, 500), 1.5, 3.0
    settings = settings_file(tokens=30, per_second=30 / lasts)
    dice = random.Random(7)
    with RuntimeProcess(
        settings_file=settings, max_running=count // 3, queue_seconds=30, pre_stop_seconds=pre_stop
    ) as process:

        async def one(after: float) -> bytes:
            await asyncio.sleep(after)
            stream = await open_stream(process, "Connection: close")
            return await stream.to_its_end()

        told_at = 1.5
        begins = [dice.uniform(0, told_at + 1) for _ in range(count)]
        streams = [asyncio.create_task(one(begin)) for begin in begins]
        await asyncio.sleep(told_at)
        process.signal(signal.SIGTERM)
        ends = [last_event(stream) for stream in await asyncio.gather(*streams)]
        assert ends == ["[DONE]"] * count
        assert await asyncio.to_thread(process.wait) == 0
    assert not process.logged("answers ended: the time to finish them is over")
    statuses = [record["status"] for record in process.logged("request")]
    assert statuses == [200] * count
    assert max(record["queue_ms"] for record in process.logged("request")) > 50, "nobody had to wait: too easy"
