"""A stand-in for Ollama that behaves as the recorded traces say: right by default, dying on demand.

`python ollama_server.py serve` takes Ollama's own environment; `Ollama(…)` of `ollama_process.py` starts that as a
process. It needs aiohttp and the `ollama_*.py` beside it: all of them run in a pod, as plain files from one folder.

A model is what `model_bytes` of `ollama_registry.py` makes: it says its sentence, word by word. Two ways in are ours
alone: `POST /test/kill-runner`, and `POST /test/room?bytes=5`, after which the disk is full.
"""

import asyncio
import ipaddress
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING or __package__:
    from tests.support.ollama_chats import Chats
    from tests.support.ollama_library import Library
    from tests.support.ollama_pull import VERSION, Folder, Puller
    from tests.support.ollama_runners import Runners
    from tests.support.ollama_settings import Settings, prepare
    from tests.support.ollama_wire import ApiError, empty, json_response, plain
else:  # in a pod
    from ollama_chats import Chats
    from ollama_library import Library
    from ollama_pull import VERSION, Folder, Puller
    from ollama_runners import Runners
    from ollama_settings import Settings, prepare
    from ollama_wire import ApiError, empty, json_response, plain

LOG = logging.getLogger("ollama")


def application(settings: Settings) -> web.Application:
    """Ollama's API."""
    folder = Folder(settings.models)
    runners, puller = Runners(settings, folder), Puller(folder)
    chats, library = Chats(folder, runners), Library(folder, runners, puller)

    async def root(_: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def version(_: web.Request) -> web.Response:
        return json_response({"version": VERSION})

    async def kill(_: web.Request) -> web.Response:
        runners.kill()
        return empty(204)

    async def room(request: web.Request) -> web.Response:
        folder.room = int(request.query["bytes"]) if "bytes" in request.query else None
        return empty(204)

    app = web.Application(middlewares=[_as_ollama(settings.host)], client_max_size=64 * 1024 * 1024)
    app.on_response_prepare.append(_without_server)
    app[PULLER] = puller
    app.add_routes(
        [
            web.get("/", root),
            web.get("/api/version", version),
            web.get("/api/tags", library.tags),
            web.get("/v1/models", library.openai),
            web.get("/api/ps", library.loaded),
            web.post("/api/show", library.show),
            web.post("/api/pull", library.pull),
            web.delete("/api/delete", library.delete),
            web.post("/api/generate", chats.generate),
            web.post("/api/chat", chats.chat),
            web.post("/v1/chat/completions", chats.openai),
            web.post("/test/kill-runner", kill),
            web.post("/test/room", room),
        ]
    )
    return app


PULLER = web.AppKey("puller", Puller)


def _as_ollama(host: str) -> Any:
    @web.middleware
    async def middleware(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if is_loopback(host) and not is_own(request.host):
            return empty(403)
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return plain(404, "404 page not found")
        except web.HTTPMethodNotAllowed as error:
            return plain(405, "405 method not allowed", Allow=", ".join(sorted(error.allowed_methods - {"HEAD"})))
        except ApiError as error:
            if not request.path.startswith("/v1/"):
                return json_response({"error": str(error)}, error.status)
            kind = {400: "invalid_request_error", 404: "not_found_error"}.get(error.status, "api_error")
            shown = {"message": str(error), "type": kind, "param": None, "code": None}
            return json_response({"error": shown}, error.status, charset=error.body)

    return middleware


async def _without_server(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def is_own(host: str) -> bool:
    """Whether a server on loopback lets this Host header pass."""
    name = re.sub(r":\d+$", "", host).strip("[]").lower()
    with suppress(ValueError):
        address = ipaddress.ip_address(name)
        return address.is_loopback or address.is_private
    return name in ("", "localhost", socket.gethostname().lower()) or name.endswith(
        (".localhost", ".local", ".internal")
    )


async def serve(settings: Settings) -> None:
    """Until it is told to end: then everything is cut, and only how far pulls came is written."""
    runner = web.AppRunner(application(settings), handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, settings.host, settings.port).start()
    LOG.info("Listening on %s:%d (version %s)", settings.host, settings.port, VERSION)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await runner.app[PULLER].close()
    os._exit(0)


def main() -> None:
    """`serve` is the one command."""
    if sys.argv[1:] != ["serve"]:
        sys.exit(f"usage: {sys.argv[0]} serve")
    logging.basicConfig(level=logging.INFO, format='time=%(asctime)s level=%(levelname)s msg="%(message)s"')
    settings = Settings.of(os.environ)
    prepare(settings, Path(os.environ["HOME"]))
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
