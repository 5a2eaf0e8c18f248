"""Load on a chat server: closed loops of whole answers, paced streams, floods. It must not know which server."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from tests.support.runtime_process import chat_bytes, question

JSON = "Content-Type: application/json"


@dataclass
class Whole:
    """What came of a closed loop: answers in `seconds`, and each one's latency in seconds."""

    seconds: float = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds


class _WholeClient(asyncio.Protocol):
    """Sends its next question when the answer is complete, until `end`."""

    def __init__(self, request: bytes, end: float, found: Whole, done: asyncio.Future[None]) -> None:
        self._request, self._end, self._found, self._done = request, end, found, done
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        self._begun = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length: ") + 16
        if len(body) < int(lower[at : lower.find(b"\r\n", at) if b"\r\n" in lower[at:] else None]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._fail(f"an answer is {head[:60]!r} {body[:200]!r}")
            return
        self._buffer = b""
        now = time.perf_counter()
        self._found.latencies.append(now - self._begun)
        if now < self._end:
            self._send()
        else:
            self._transport.close()

    def _fail(self, why: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(why))
        self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def whole(port: int, clients: int, seconds: float) -> Whole:
    """Whole answers to that many clients at once."""
    loop = asyncio.get_running_loop()
    found, request = Whole(), chat_bytes(question("What can you do?", model="mock", temperature=0.5), JSON)
    begun = time.perf_counter()
    waits = [loop.create_future() for _ in range(clients)]
    for wait in waits:
        await loop.create_connection(partial(_WholeClient, request, begun + seconds, found, wait), "127.0.0.1", port)
    await asyncio.gather(*waits)
    found.seconds = time.perf_counter() - begun
    return found


@dataclass
class Streams:
    """What came of paced streams; times in seconds. `late`: of each chunk, behind its due time after the first.

    `arrivals`: when each chunk came, after the start of the first stream.
    """

    first: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    chunks: int = 0
    complete: int = 0
    begun: float = field(default_factory=time.perf_counter)

    def between(self, begin: float, end: float) -> int:
        """How many chunks came between two times."""
        return sum(begin <= arrival < end for arrival in self.arrivals)


class _StreamClient(asyncio.Protocol):
    def __init__(self, request: bytes, per_second: float, found: Streams, done: asyncio.Future[None]) -> None:
        self._request, self._per_second, self._found, self._done = request, per_second, found, done
        self._count = 0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._begun = time.perf_counter()
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        text = data.count(b'"content":"') - data.count(b'"content":""')
        for _ in range(text):
            if self._count == 0:
                self._first = now
                self._found.first.append(now - self._begun)
            else:
                self._found.late.append(now - self._first - self._count / self._per_second)
            self._count += 1
            self._found.arrivals.append(now - self._found.begun)
        self._tail = (self._tail + data)[-40:]

    def connection_lost(self, _: Exception | None) -> None:
        self._found.chunks += self._count
        self._found.complete += b"data: [DONE]" in self._tail
        self._done.set_result(None)


async def streams(port: int, count: int, per_second: float, spread: float, within: float = 120) -> Streams:
    """Paced streams that begin evenly over `spread` seconds; what has not ended `within` seconds is lost."""
    loop = asyncio.get_running_loop()
    request = chat_bytes(question("Tell me more.", stream=True, model="mock"), JSON, "Connection: close")
    found, begun, waits, transports = Streams(), loop.time(), [], []
    for number in range(count):
        await asyncio.sleep(max(0.0, begun + spread * number / count - loop.time()))
        wait = loop.create_future()
        client = partial(_StreamClient, request, per_second, found, wait)
        transport, _ = await loop.create_connection(client, "127.0.0.1", port)
        waits.append(wait)
        transports.append(transport)
    await asyncio.wait(waits, timeout=begun + within - loop.time())
    for transport in transports:
        transport.abort()
    await asyncio.gather(*waits)
    return found


@dataclass
class Overload:
    """Latencies of refusals in seconds, how many of them were complete, and answers that were given."""

    refusals: list[float] = field(default_factory=list)
    answers: int = 0


async def overload(port: int, per_second: float, seconds: float) -> Overload:
    """Streamed questions at a fixed rate, each on a connection of its own."""
    found, request = Overload(), chat_bytes(question("And now?", stream=True), "Connection: close")

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        begun = time.perf_counter()
        writer.write(request)
        status = await reader.readline()
        if b" 503 " in status:
            found.refusals.append(time.perf_counter() - begun)
        elif b"data: [DONE]" in await reader.read():
            found.answers += 1
        writer.close()

    clock: Callable[[], float] = asyncio.get_running_loop().time
    begin, sent = clock(), 0
    async with asyncio.TaskGroup() as tasks:
        while clock() < begin + seconds:
            due = int((clock() - begin) * per_second) - sent
            for _ in range(due):
                tasks.create_task(one())
            sent += due
            await asyncio.sleep(0.005)
    return found
