"""Clients that say nothing, say it slowly or do not listen: each is ended, and the others notice nothing."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.stress.conftest import FULL, WriteSettings, size
from tests.support.runtime_process import RuntimeProcess, chat_bytes, question
from tests.support.swarm import Swarm, Tally, swarm, wait_for

LASTS = size(8, 60)
"""Seconds."""
TIMES: dict[str, Any] = {} if FULL else {"header_seconds": 3, "body_seconds": 3, "idle_seconds": 5, "write_seconds": 2}
ENDED_WITHIN = 30
HEAD = chat_bytes(question("hello", stream=True))
CHUNKED = HEAD.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def connected(process: RuntimeProcess, room: int = 0) -> AsyncIterator[socket.socket]:
    """A bare connection; `room` is the size of the client's own buffer."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        if room:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", process.port))
        yield connection


async def ended(connection: socket.socket) -> None:
    """Returns when the server has closed, whatever it said before."""
    with suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(connection, 65536):
            pass


async def drip(connection: socket.socket, data: bytes) -> None:
    """A byte now and then."""
    with suppress(OSError):
        for byte in data * 1000:
            await asyncio.get_running_loop().sock_sendall(connection, bytes([byte]))
            await asyncio.sleep(0.25)


class Attack:
    """Keeps a number of bad connections open; one that is ended is opened again."""

    def __init__(self, process: RuntimeProcess) -> None:
        self.process = process
        self.ends: Counter[str] = Counter()

    async def silent(self) -> None:
        async with connected(self.process) as connection:
            await ended(connection)

    async def half_a_head(self) -> None:
        async with connected(self.process) as connection:
            await asyncio.get_running_loop().sock_sendall(connection, HEAD[:40])
            await ended(connection)

    async def half_a_body(self) -> None:
        async with connected(self.process) as connection:
            await asyncio.get_running_loop().sock_sendall(connection, HEAD[:-5])
            await ended(connection)

    async def dripping_head(self) -> None:
        await self._dripping(b"", b"GET / HTTP/1.1\r\n")

    async def dripping_body(self) -> None:
        await self._dripping(CHUNKED, b"1\r\n \r\n")

    async def _dripping(self, first: bytes, data: bytes) -> None:
        async with connected(self.process) as connection:
            await asyncio.get_running_loop().sock_sendall(connection, first)
            dripping = asyncio.create_task(drip(connection, data))
            await ended(connection)
            dripping.cancel()

    async def deaf(self) -> None:
        """Asks for much and reads nothing. Only by sending does it learn that the server has gone."""
        async with connected(self.process, 4096) as connection:
            await asyncio.get_running_loop().sock_sendall(connection, HEAD)
            while True:
                await asyncio.get_running_loop().sock_sendall(connection, b"\r\n")  # allowed before a request
                await asyncio.sleep(0.05)

    async def sipping(self) -> None:
        """Asks for much and reads a little now and then."""
        async with connected(self.process, 4096) as connection:
            await asyncio.get_running_loop().sock_sendall(connection, HEAD)
            while True:
                if not await asyncio.get_running_loop().sock_recv(connection, 16):
                    return
                await asyncio.sleep(0.05)

    async def keep(self, kind: str, end: float) -> None:
        """One bad connection after the other until the loop's time `end`; the last one is waited for."""
        clock = asyncio.get_running_loop().time
        while clock() < end:
            async with asyncio.timeout(ENDED_WITHIN):
                with suppress(ConnectionError):  # ended before this side knew that it was connected
                    await getattr(self, kind)()
            self.ends[kind] += 1


async def short_questions(clients: Swarm, tally: Tally, end: float) -> None:
    """One good client, with a rest between its questions, until the loop's time `end`."""
    while asyncio.get_running_loop().time() < end:
        await clients.ask(tally, max_tokens=5)
        await asyncio.sleep(0.05)


KINDS = ("silent", "half_a_head", "half_a_body", "dripping_head", "dripping_body", "deaf", "sipping")


async def test_each_bad_connection_is_ended_and_the_others_are_served(settings_file: WriteSettings) -> None:
    count = size(210, 1001)
    settings = settings_file(word=" " * 4000 + "word", tokens=900, per_second=1_000_000)
    with RuntimeProcess(settings_file=settings, **TIMES) as process:
        attack, good = Attack(process), Tally()
        end = asyncio.get_running_loop().time() + LASTS
        async with swarm(process) as clients, asyncio.TaskGroup() as tasks:
            for number in range(count):
                tasks.create_task(attack.keep(KINDS[number % len(KINDS)], end))
            for _ in range(4):
                tasks.create_task(short_questions(clients, good, end))
        assert set(attack.ends) == set(KINDS)
        assert good.done + len(good.wrong) > 5 * LASTS
        assert not good.refused
        assert len(good.wrong) <= 0.001 * good.done, good.wrong[:5]
        await wait_for(lambda: process.metric("chatbot_runtime_running_requests") == 0, "no slot is lost", 10)
        await wait_for(lambda: process.metric("chatbot_runtime_connections") == 0, "no connection is left", 25)
        assert b'connections_ended_total{cause="header_timeout"}' in process.internal("/metrics").body
