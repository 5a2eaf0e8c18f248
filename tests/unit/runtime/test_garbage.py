"""What a request leaves behind in memory: nothing that only the garbage collector finds."""

import asyncio
import gc
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from chatbot_runtime.app import build, create_app
from chatbot_runtime.config import Config
from chatbot_runtime.errors import ApiError
from tests.support.runtime_process import CHAT, question


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The public application on this very event loop, where its garbage can be seen."""
    runtime = build(Config(max_body_bytes=10_000))
    runner = web.AppRunner(create_app(runtime), handler_cancellation=True)
    await runner.setup()
    assert runner.server is not None
    factory = runtime.connections.factory(runner.server)
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (question(), 200),
        (question(n=2), 400),
        (question(model="none"), 404),
        (question("x" * 20_000), 413),
    ],
    ids=["answered", "bad request", "unknown model", "too large"],
)
async def test_a_request_is_gone_when_it_is_answered(port: int, body: dict[str, object], status: int) -> None:
    async with aiohttp.ClientSession() as session:

        async def ask() -> None:
            async with session.post(f"http://127.0.0.1:{port}{CHAT}", json=body) as response:
                assert response.status == status
                await response.read()

        await ask()
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await ask()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = [type(thing).__name__ for thing in gc.garbage if isinstance(thing, ApiError | web.BaseRequest)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert left == []
