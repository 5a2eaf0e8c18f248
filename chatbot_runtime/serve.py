"""The process of `serve`: sockets, signals, start and end. It must not know how a request is answered."""

import asyncio
import ctypes
import errno
import gc
import logging
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import uvloop
from aiohttp import web

from chatbot_runtime import log as logs
from chatbot_runtime.app import Runtime, build, create_app
from chatbot_runtime.config import Config, ConfigError
from chatbot_runtime.connections import bound_buffers, bound_unacknowledged
from chatbot_runtime.internal_api import MAX_CONNECTIONS, InternalServer
from chatbot_runtime.providers.base import Provider

log = logging.getLogger(__name__)

BACKLOG = 1024
SPARE_FILES = 64
"""File descriptors that a process needs besides its connections."""
_M_MMAP_THRESHOLD = -3  # malloc.h
_COLLECT_AFTER = (10_000, 20, 20)
"""Objects of containers made and not freed, and rounds of the younger generations: Python's own 700, 10, 10 stop every
stream for the whole heap as often as some hundred streams begin."""
_LARGE_BLOCK = 128 * 1024
"""Bytes; glibc's own value at the start."""
LAST_WORDS_SECONDS = 2.0
"""How long answers that are ended may take to say so."""
LAST_LOOK_SECONDS = 0.1
"""What has arrived by the end of `pre_stop_seconds` is taken in during this time: the process may have been without
processor time until then, and a door that closes turns away whoever stands before it."""
NOBODY_SECONDS = 1.0
"""The door closes once nobody has come through it for so long: a node that is busy may go on sending for longer than
`pre_stop_seconds`. It closes in any case after OVERDUE times as long as those."""
OVERDUE = 4

Announce = Callable[[int, int], None]
"""Called once with public and internal port when both listen."""


def serve(config: Config, announce: Announce | None = None, provider: Provider | None = None) -> None:
    """Serves until SIGTERM or SIGINT; `provider` in place of the phase's own. Raises ConfigError.

    SIGTERM drains: not ready, still open for `pre_stop_seconds`, then running answers finish up to `grace_seconds`.
    SIGINT, or a second SIGTERM, ends at once; running answers end with an error.
    """
    _give_memory_back()
    logs.set_up(config.log_format, config.log_level, chatbot=config.name, namespace=config.namespace)
    runtime = build(config, provider)
    _collect_rarely()
    _allow_files(config.max_connections + MAX_CONNECTIONS + SPARE_FILES)
    public = _listen(config.host, config.port, "CHATBOT_PORT")
    internal = _listen(config.host, config.internal_port, "CHATBOT_INTERNAL_PORT")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Process(runtime, public, internal, announce).run())


class _Process:
    """One run, from bound sockets to the end."""

    def __init__(
        self, runtime: Runtime, public: socket.socket, internal: socket.socket, announce: Announce | None
    ) -> None:
        self._runtime = runtime
        self._public = public
        self._internal = internal
        self._announce = announce
        self._stop = asyncio.Event()
        self._now = asyncio.Event()

    async def run(self) -> None:
        """Serves until told to stop, then drains."""
        runtime, loop = self._runtime, asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        loop.add_signal_handler(signal.SIGINT, self._at_once)
        web_runner = web.AppRunner(
            create_app(runtime), handle_signals=False, handler_cancellation=True, shutdown_timeout=LAST_WORDS_SECONDS
        )
        await web_runner.setup()
        assert web_runner.server is not None  # noqa: S101 - set by setup()
        bound_buffers(self._public)
        bound_unacknowledged(self._public, runtime.config.write_seconds)
        factory = runtime.connections.factory(web_runner.server)
        server = await loop.create_server(factory, sock=self._public, backlog=BACKLOG)
        internal_server = InternalServer(runtime, self._internal)
        internal_server.start()
        async with asyncio.TaskGroup() as group:
            works = (runtime.beat, runtime.follow_files, runtime.count_peers, runtime.verify)
            tasks = [group.create_task(work()) for work in works]
            ports = self._public.getsockname()[1], self._internal.getsockname()[1]
            log.info("listening", extra={"port": ports[0], "internal_port": ports[1], "phase": runtime.config.phase})
            if self._announce is not None:
                self._announce(*ports)
            await self._stop.wait()
            await self._drain(server)
            await web_runner.cleanup()
            for task in tasks:
                task.cancel()
        await runtime.close()
        internal_server.stop()
        log.info("stopped")

    async def _drain(self, server: asyncio.AbstractServer) -> None:
        """Not ready at once; new connections for a while, then none; the running answers to their end."""
        runtime, config, clock = self._runtime, self._runtime.config, asyncio.get_running_loop().time
        grace_over = clock() + config.grace_seconds
        runtime.drain.begin()
        log.info("stopping", extra={"running": runtime.drain.running})
        await self._stay_open(grace_over)
        server.close()
        runtime.connections.close_idle()
        if cut := await runtime.drain.finish(grace_over - clock()):
            log.warning("answers ended: the time to finish them is over", extra={"running": cut})

    async def _stay_open(self, grace_over: float) -> None:
        """Until it is known that this process ends, or it is to end at once."""
        runtime, clock = self._runtime, asyncio.get_running_loop().time
        pre_stop = runtime.config.pre_stop_seconds
        closes, latest = clock() + pre_stop, min(clock() + OVERDUE * pre_stop, grace_over)
        while not await self._told_within(closes - clock()):
            await asyncio.sleep(LAST_LOOK_SECONDS)
            closes = min(runtime.connections.came_at + NOBODY_SECONDS, latest)
            if closes <= clock():
                return

    async def _told_within(self, seconds: float) -> bool:
        """Whether the process is told to end at once in this time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._now.wait()
        return self._now.is_set()

    def _on_sigterm(self) -> None:
        if self._stop.is_set():
            self._at_once()
        self._stop.set()

    def _at_once(self) -> None:
        self._stop.set()
        self._now.set()
        self._runtime.drain.begin()
        self._runtime.drain.end()


def _listen(host: str, port: int, variable: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = f"port {port} is taken by another program: stop that one, or choose another port"
        else:
            why = f"cannot listen on {host} port {port}: {error.strerror or error}"
        raise ConfigError(f"{variable}: {why}") from None


def _give_memory_back() -> None:
    """Lets glibc return the memory of large bodies to the system as soon as they are freed.

    By itself it learns from the first large block to keep all later ones in its heap, which then only grows.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and does not need it
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def _collect_rarely() -> None:
    """Keeps the collector of cycles from looking at what lives as long as the process, and lets it look less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _allow_files(count: int) -> None:
    """Raises the soft limit of open files to what is needed, as far as the hard one lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
