"""Memory stays bounded, whoever asks for what."""

import asyncio
from pathlib import Path

import pytest

from chatbot_runtime.config import Config
from tests.stress.conftest import WriteSettings, size
from tests.support.runtime_process import CHAT, RuntimeProcess, chat_bytes, question
from tests.support.swarm import open_stream, together, wait_for

ROOM = 64
"""MiB that many requests may add."""


def memory(process: RuntimeProcess, which: str) -> float:
    """Resident memory of the process in MiB: `VmRSS` now, `VmHWM` the most so far."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


async def test_five_thousand_tries_at_once_fit_into_little_memory(settings_file: WriteSettings) -> None:
    """As many as may run and wait do so; the others are refused, over the queue's limit or that of connections."""
    tries = 5000
    settings = settings_file(tokens=100_000, per_second=1)
    with RuntimeProcess(settings_file=settings, queue_seconds=120) as process:
        process.ask(max_tokens=1)
        before = memory(process, "VmRSS")
        streams = await together(tries, lambda: open_stream(process))
        limits = Config()

        def value(name: str) -> float:
            return process.metric(f"chatbot_runtime_{name}")

        def refused() -> float:
            return value("refusals_total") + value("connections_ended_total")

        too_many = tries - limits.max_running - limits.max_queue
        await wait_for(lambda: refused() == too_many, "all that are too many are refused", 60)
        assert (value("running_requests"), value("queued_requests")) == (limits.max_running, limits.max_queue)
        assert memory(process, "VmHWM") - before <= ROOM
        for stream in streams:
            stream.leave(reset=True)
        await wait_for(lambda: value("connections") == 0, "all are gone", 30)


def filled(piece: str, *, size: int = 4_000_000) -> bytes:
    """A body of about `size` bytes that is a valid question, and repeats `piece` in a parameter nobody knows."""
    head, tail = b'{"stream":true,"messages":[{"role":"user","content":"x"}],"x":[', b"0]}"
    data = piece.encode()
    return head + (data + b",") * ((size - len(head)) // (len(data) + 1)) + tail


BODIES = {
    "lists": filled("[]"),
    "objects": filled('{"a":0}'),
    "numbers": filled("1.5"),
    "strings": filled('"ab"'),
    "wide text": filled(f'"{"a" * 900_000}\N{ROBOT FACE}"'),
    "escaped wide text": filled(f'"{"a" * 900_000}\\ud83e\\udd16"'),
    "nested": filled("[" * 1000 + "]" * 1000),
    "prose": filled('"' + "Some words, as people write them. " * 1000 + '"'),
}


@pytest.mark.parametrize("kind", BODIES)
async def test_large_bodies_at_once_fit_into_little_memory_whatever_they_hold(
    kind: str, settings_file: WriteSettings
) -> None:
    settings = settings_file(tokens=100_000, per_second=1)
    with RuntimeProcess(settings_file=settings) as process:
        process.ask(max_tokens=1)
        before = memory(process, "VmHWM")

        async def attack() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
            writer.write(chat_bytes(BODIES[kind]))
            status = await reader.readline()
            held.append(writer)
            return status.split()[1]

        held: list[asyncio.StreamWriter] = []
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(attack() for _ in range(size(8, 40))))
        assert set(answers) <= {b"200", b"413", b"503"}
        assert memory(process, "VmHWM") - before <= ROOM
        assert process.metric("chatbot_runtime_held_bytes") > 0 or b"200" not in answers
        for writer in held:
            writer.transport.abort()
        await wait_for(lambda: process.metric("chatbot_runtime_held_bytes") == 0, "what was held is free", 5)
        assert process.request("POST", CHAT, question(max_tokens=1)).status == 200
