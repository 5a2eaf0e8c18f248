"""The operator's own port: /livez, /readyz and /metrics. It must not know what is served beside them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

LEASE_SILENCE_SECONDS = 90.0
"""A change of the Lease comes every few seconds; after this time the watches are deaf."""

RESYNC_SILENCE_SECONDS = 180.0


@dataclass
class Health:
    """What the probes are judged by; times in seconds of the same monotonic clock."""

    clock: Callable[[], float]
    started: float
    lease_seen: float | None = None
    resynced: Callable[[], float | None] = lambda: None
    synced: Callable[[], bool] = lambda: False
    refusal: Callable[[], str] = lambda: ""

    def unready(self) -> str:
        """Why nothing is served yet; empty if it is."""
        return self.refusal() or ("" if self.synced() else "not synced yet")

    def problem(self) -> str:
        """Why the process should be restarted; empty if it should not."""
        now = self.clock()
        if now - (self.lease_seen or self.started) > LEASE_SILENCE_SECONDS:
            return f"no change of the Lease was seen for {LEASE_SILENCE_SECONDS:.0f} s: watches do not deliver"
        if now - (self.resynced() or self.started) > RESYNC_SILENCE_SECONDS:
            return f"no full list has ended for {RESYNC_SILENCE_SECONDS:.0f} s"
        return ""


@asynccontextmanager
async def serving(host: str, port: int, health: Health, metrics: Callable[[], bytes]) -> AsyncIterator[int]:
    """Serve while the context is open; yields the port, which is a free one if 0 was asked for."""

    async def livez(_: web.Request) -> web.Response:
        problem = health.problem()
        return web.Response(text=problem or "ok", status=503 if problem else 200)

    async def readyz(_: web.Request) -> web.Response:
        unready = health.unready()
        return web.Response(text=unready or "ok", status=503 if unready else 200)

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
