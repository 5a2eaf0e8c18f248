"""The internal port of a download: `/livez`, `/status`, `/metrics`. It must not know how anything is fetched.

It answers from the loop that the download runs on, which nothing blocks: all that could waits in a thread.
"""

import socket
from collections.abc import Callable, Iterator
from typing import get_args

from aiohttp import web
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from chatbot_runtime.contract import DownloadStatus
from chatbot_runtime.downloads.report import ProgressMeter

IDLE_SECONDS = 75.0
"""Longer than most intervals of scraping, so that a scraper keeps its connection."""
STATES = get_args(DownloadStatus.model_fields["state"].annotation)


class DownloadServer:
    """Serves on a bound socket from `start` to `stop`."""

    def __init__(self, meter: ProgressMeter, listener: socket.socket) -> None:
        self._meter = meter
        self._listener = listener
        self._registry = CollectorRegistry()
        self._registry.register(DownloadGauges(meter.status))
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/status", self._status),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, keepalive_timeout=IDLE_SECONDS, shutdown_timeout=0.1
        )

    async def start(self) -> None:
        """Begins to answer."""
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener).start()

    async def stop(self) -> None:
        """Ends."""
        await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _status(self, _: web.Request) -> web.Response:
        body = self._meter.status().model_dump_json(by_alias=True).encode()
        return web.Response(body=body, content_type="application/json")

    async def _metrics(self, _: web.Request) -> web.Response:
        kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=generate_latest(self._registry), headers=kind)


class DownloadGauges(Collector):
    """How far a download is, for Prometheus."""

    def __init__(self, status: Callable[[], DownloadStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        name = "chatbot_runtime_download"
        yield GaugeMetricFamily(f"{name}_bytes", "Bytes of the models that are on the volume.", status.completed_bytes)
        if status.total_bytes is not None:
            yield GaugeMetricFamily(f"{name}_total_bytes", "Bytes of the models in all.", status.total_bytes)
        yield GaugeMetricFamily(f"{name}_bytes_per_second", "How fast they come.", status.bytes_per_second)
        states = GaugeMetricFamily(f"{name}_state", "1 for the state that the download is in.", labels=("state",))
        for state in STATES:
            states.add_metric((state,), float(state == status.state))
        yield states
