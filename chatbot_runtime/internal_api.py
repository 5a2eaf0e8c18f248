"""The internal port: health, `/status`, `/metrics`. It must not know the public API.

It has a thread and an event loop of its own, so that it answers, and can say so, when the other loop is blocked.
"""

import asyncio
import socket
import threading

from aiohttp import web

from chatbot_runtime.app import Runtime

STOP_SECONDS = 5.0


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
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/status", self._status),
                web.get("/metrics", self._metrics),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=75, shutdown_timeout=1)
        await runner.setup()
        await web.SockSite(runner, self._listener).start()
        await self._stopping.wait()
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
