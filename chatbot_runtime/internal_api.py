"""The internal port: health, `/status`, `/metrics`. It must not know the public API.

It has a thread and an event loop of its own, so that it answers, and can say so, when the other loop is blocked.
"""

import asyncio
import socket
import threading
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler

from chatbot_runtime.app import Runtime
from chatbot_runtime.connections import Connection, Connections, Limits, bound_unacknowledged

STOP_SECONDS = 5.0
MAX_CONNECTIONS = 64
"""For probes, the operator and a scraper or two."""
IDLE_SECONDS = 75.0
"""Longer than most intervals of scraping, so that a scraper keeps its connection."""


class InternalServer:
    """Serves on a bound socket from `start` to `stop`. Only reads what the other thread writes."""

    def __init__(self, runtime: Runtime, listener: socket.socket) -> None:
        self._runtime = runtime
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="internal-api", daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; waits for the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        app = web.Application(middlewares=[_watched])
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/status", self._status),
                web.get("/metrics", self._metrics),
            ]
        )
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1)
        await runner.setup()
        assert runner.server is not None  # noqa: S101 - set by setup()
        config = self._runtime.config
        bound_unacknowledged(self._listener, config.write_seconds)
        limits = Limits(config.header_seconds, IDLE_SECONDS, config.write_seconds, MAX_CONNECTIONS)
        factory = Connections(limits, self._runtime.connections.count).factory(runner.server)
        server = await self._loop.create_server(factory, sock=self._listener)
        await self._stopping.wait()
        server.close()
        await runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        if self._runtime.alive():
            return web.Response(text="ok\n")
        seconds = self._runtime.config.live_seconds
        return web.Response(status=503, text=f"the event loop has not moved for more than {seconds:g} s\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        unready = self._runtime.unready
        return web.Response(status=503, text=unready + "\n") if unready else web.Response(text="ok\n")

    async def _status(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._runtime.status().model_dump_json(by_alias=True).encode(), content_type="application/json"
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._runtime.metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


@web.middleware
async def _watched(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tells the connection when a request begins and ends."""
    connection = cast("Connection", request.protocol)
    connection.request_began(request.content)
    try:
        return await handler(request)
    finally:
        connection.request_ended()
