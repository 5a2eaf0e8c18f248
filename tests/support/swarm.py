"""Many clients of one runtime at once, on one event loop. It must not know what is measured or asserted."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.runtime_process import CHAT, Reply, RuntimeProcess, chat_bytes, events, question


@dataclass
class Tally:
    """What came of many requests: finished answers, refusals by status and code, and anything else."""

    done: int = 0
    refused: Counter[tuple[int, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, reply: Reply) -> None:
        """Counts one complete reply to a streamed question; a refusal must have OpenAI's shape."""
        if reply.status == 200:
            if events(reply.body)[-1:] == ["[DONE]"]:
                self.done += 1
            else:
                self.wrong.append(f"cut: {reply.body[-200:]!r}")
            return
        try:
            self.refused[reply.status, reply.error["code"]] += 1
        except (AssertionError, ValueError) as error:
            self.wrong.append(f"{reply.status}: {error}: {reply.body[:200]!r}")


class Swarm:
    """Clients of one process; each request on a connection of the common pool."""

    def __init__(self, process: RuntimeProcess, session: aiohttp.ClientSession) -> None:
        self._url = process.url + CHAT
        self._session = session

    async def ask(self, tally: Tally, headers: Mapping[str, str] | None = None, **fields: Any) -> None:
        """One streamed question."""
        body = question(stream=True, **fields)
        try:
            async with self._session.post(self._url, json=body, headers=headers) as response:
                tally.add(Reply(response.status, list(response.headers.items()), await response.read()))
        except (aiohttp.ClientError, OSError) as error:
            tally.wrong.append(repr(error))

    async def closed_loop(
        self, tally: Tally, clients: int, end: float, headers: Mapping[str, str] | None = None
    ) -> None:
        """Each client asks its next question when it has its answer, until the loop's time `end`."""
        clock = asyncio.get_running_loop().time

        async def client() -> None:
            while clock() < end:
                await self.ask(tally, headers)

        await asyncio.gather(*(client() for _ in range(clients)))

    async def open_loop(
        self, tally: Tally, per_second: float, end: float, headers: Mapping[str, str] | None = None
    ) -> None:
        """Questions come at this rate whatever becomes of them, until the loop's time `end`."""
        clock = asyncio.get_running_loop().time
        begin, sent = clock(), 0
        async with asyncio.TaskGroup() as tasks:
            while clock() < end:
                due = int((clock() - begin) * per_second) - sent
                for _ in range(due):
                    tasks.create_task(self.ask(tally, headers))
                sent += due
                await asyncio.sleep(0.5 / per_second)


@asynccontextmanager
async def swarm(process: RuntimeProcess) -> AsyncIterator[Swarm]:
    """Clients without a limit of their own."""
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        yield Swarm(process, session)


async def wait_for(find: Callable[[], bool], what: str, seconds: float) -> float:
    """Waits until `find`, asked in a thread so that the clients go on; returns the seconds that took."""
    begin = time.monotonic()
    while not await asyncio.to_thread(find):
        assert time.monotonic() - begin < seconds, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.02)
    return time.monotonic() - begin


@dataclass
class Stream:
    """A streamed answer on a bare connection of its own."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytes = b""

    async def until(self, mark: bytes) -> None:
        """Reads up to `mark`."""
        while mark not in self.received:
            piece = await self.reader.read(65536)
            assert piece, f"closed before {mark!r}: {self.received[-200:]!r}"
            self.received += piece

    async def to_its_end(self) -> bytes:
        """Everything until the server closes."""
        with suppress(ConnectionError):
            while piece := await self.reader.read(65536):
                self.received += piece
        self.writer.close()
        return self.received

    def leave(self, *, reset: bool) -> None:
        """The client goes away, in an orderly way or as a killed one."""
        if reset:
            self.writer.transport.abort()
        else:
            self.writer.close()


async def open_stream(process: RuntimeProcess, *headers: str) -> Stream:
    """Sends a streamed question on a new connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    writer.write(chat_bytes(question(stream=True), *headers))
    return Stream(reader, writer)


async def together(count: int, make: Callable[[], Awaitable[Stream]]) -> list[Stream]:
    """That many at once, but not more at a time than a listener's backlog takes."""
    gate = asyncio.Semaphore(200)

    async def one() -> Stream:
        async with gate:
            return await make()

    return list(await asyncio.gather(*(one() for _ in range(count))))
