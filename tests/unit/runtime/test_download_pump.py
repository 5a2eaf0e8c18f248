"""Bytes on their way to what blocks: in order, held up, and never lost without a word."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterable

import pytest

from chatbot_runtime.downloads.pump import Pump


async def put_all(pump: Pump, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        await pump.put(piece)


async def test_what_blocks_gets_all_bytes_in_order_and_holds_up_who_brings_them() -> None:
    taken: list[list[bytes]] = [[], []]
    go = threading.Event()

    def slow(piece: bytes) -> None:
        go.wait(10)
        taken[1].append(piece)

    pieces = [bytes([number]) * 100 for number in range(50)]
    given = iter(pieces)
    async with Pump(taken[0].append, slow, backlog_bytes=1000) as pump:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(put_all(pump, given), 0.2)
        assert pump.taken == 0
        go.set()
        left = list(given)
        await put_all(pump, left)
    assert len(left) == 50 - 11
    assert taken == [pieces, pieces]
    assert pump.taken == 5000


async def pumped(pieces: Iterable[bytes], *takers: Callable[[bytes], object]) -> None:
    async with Pump(*takers, backlog_bytes=1000) as pump:
        await put_all(pump, pieces)


async def test_what_fails_to_take_bytes_ends_who_brings_them_at_the_latest_at_the_end() -> None:
    taken: list[bytes] = []
    for pieces in (itertools.repeat(b"x" * 100), [b"1", b"2", b"x"]):
        with pytest.raises(ValueError, match="invalid literal"):
            await asyncio.wait_for(pumped(pieces, taken.append, int), 10)
        assert taken
