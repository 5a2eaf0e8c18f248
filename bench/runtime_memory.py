"""Memory of a runtime while it streams or lets wait. It must not know which phase it is in."""

import asyncio

from bench.runtime_figures import resident
from tests.support.runtime_process import RuntimeProcess, chat_bytes, question


async def highest(process: RuntimeProcess, count: int, until_queued: int = 0) -> float:
    """The highest resident memory while `count` streams are asked for, to their end or until so many wait."""
    most = resident(process.pid)

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, resident(process.pid))
            await asyncio.sleep(0.1)  # between two looks at the memory

    watching = asyncio.create_task(watch())
    readers = [asyncio.create_task(_read_stream(process.port)) for _ in range(count)]
    if until_queued:
        name = "chatbot_runtime_queued_requests"
        while await asyncio.to_thread(process.metric, name) < until_queued:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)  # two more looks at the memory, now that all of them wait
        for reader in readers:
            reader.cancel()
    ends = await asyncio.gather(*readers, return_exceptions=True)
    watching.cancel()
    if not until_queued and ends != [True] * count:
        raise SystemExit(f"error: {count - ends.count(True)} of {count} streams did not end with [DONE]")
    return most


async def _read_stream(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(chat_bytes(question(stream=True), "Connection: close"))
        end = b""
        while piece := await reader.read(65536):
            end = (end + piece)[-64:]
        return b"data: [DONE]" in end
    finally:
        writer.close()
