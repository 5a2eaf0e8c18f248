"""A stand-in for Ollama that behaves as the recorded traces say: right by default, dying on demand.

`python ollama_server.py serve` takes Ollama's own environment; `Ollama(…)` in a test starts that as a process, or the
real program. The file needs aiohttp and `ollama_pull.py` beside it: the two run in a pod, from one folder.

A model is what `model_bytes` of `ollama_registry.py` makes: it says its sentence, word by word. Two ways in are ours
alone: `POST /test/kill-runner`, and `POST /test/room?bytes=5`, after which the disk is full.
"""

import asyncio
import ipaddress
import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from aiohttp import web

try:
    from tests.support.ollama_pull import VERSION, Folder, Model, Name, Puller, PullError, dumps, go_error
except ImportError:  # in a pod
    from ollama_pull import (  # type: ignore[import-not-found, no-redef]
        VERSION,
        Folder,
        Model,
        Name,
        Puller,
        PullError,
        dumps,
        go_error,
    )

MAGIC = b"CHATBOT-TEST-MODEL\n"
BUSY = "server busy, please try again.  maximum pending requests exceeded"
DIED = "an error was encountered while running the model: unexpected EOF"
FOREVER = 2**63 / 1e9
"""Seconds; what a negative keep_alive comes to."""
CONTEXT = 4096
DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "35K",
    "quantization_level": "F32",
}
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
DURATION = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h))+")
LOG = logging.getLogger("ollama")


class ApiError(Exception):
    """Refused. `body`: the body makes no sense; on /v1 the Content-Type of only these errors has a charset."""

    def __init__(self, status: int, message: str, body: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class RunnerDied(Exception):
    """The process that answers is gone."""


@dataclass(frozen=True)
class Settings:
    """From the environment, as Ollama takes it."""

    host: str
    port: int
    models: Path
    keep_alive: float
    parallel: int
    max_queue: int
    context: int
    prune: bool

    @staticmethod
    def of(environ: Mapping[str, str]) -> "Settings":
        """Ends the process where Ollama does."""
        home = environ.get("HOME") or sys.exit("Error: $HOME is not defined")
        given = re.fullmatch(r"(?:https?://)?(\[[^]]*\]|[^:/]*)(?::(\d+))?/?", environ.get("OLLAMA_HOST", ""))
        host, port = given.groups() if given else ("", None)
        return Settings(
            host=host.strip("[]") or ("0.0.0.0" if port else "127.0.0.1"),
            port=int(port or 11434),
            models=Path(environ.get("OLLAMA_MODELS") or f"{home}/.ollama/models"),
            keep_alive=seconds_of(environ.get("OLLAMA_KEEP_ALIVE") or "5m"),
            parallel=int(environ.get("OLLAMA_NUM_PARALLEL") or 1),
            max_queue=int(environ.get("OLLAMA_MAX_QUEUE") or 512),
            context=int(environ.get("OLLAMA_CONTEXT_LENGTH") or 0),
            prune=environ.get("OLLAMA_NOPRUNE", "") in ("", "0", "false"),
        )


@dataclass
class Runner:
    """A model in memory."""

    model: Model
    sentence: str
    pace: float
    context: int
    keep: float
    slots: asyncio.Semaphore
    users: int = 0
    expires: float = 0
    dead: asyncio.Event = field(default_factory=asyncio.Event)


class Runners:
    """What is in memory, and who waits for it."""

    def __init__(self, settings: Settings, folder: Folder) -> None:
        self._settings = settings
        self._folder = folder
        self._loading: dict[str, asyncio.Lock] = {}
        self._waiting = 0
        self._running: dict[str, Runner] = {}

    def running(self) -> dict[str, Runner]:
        """By full name."""
        self._running = {name: one for name, one in self._running.items() if one.users or one.expires > time.time()}
        return self._running

    @asynccontextmanager
    async def use(self, asked: str, model: Model, keep: float | None) -> AsyncIterator[Runner]:
        """A slot of a model that is in memory. While it comes there, nothing is said."""
        name = model.name.full
        loading = self._loading.setdefault(name, asyncio.Lock())
        waits = loading.locked() or (name in self.running() and self._running[name].slots.locked())
        if waits and self._waiting >= self._settings.max_queue:
            raise ApiError(503, BUSY)
        self._waiting += waits
        try:
            async with loading:
                runner = await self._loaded(asked, model, keep)
            await runner.slots.acquire()
        finally:
            self._waiting -= waits
        runner.users += 1
        try:
            yield runner
        finally:
            runner.users -= 1
            runner.slots.release()
            runner.expires = time.time() + runner.keep

    async def _loaded(self, asked: str, model: Model, keep: float | None) -> Runner:
        runner = self.running().get(model.name.full)
        if runner is None:
            about = self._about(model)
            if about is None:
                raise ApiError(400, f'"{asked}" does not support chat')
            await asyncio.sleep(about.get("load_seconds", 0))
            runner = Runner(
                model,
                about["sentence"],
                about.get("tokens_per_second", 1000),
                about.get("num_ctx") or self._settings.context or CONTEXT,
                self._settings.keep_alive,
                asyncio.Semaphore(self._settings.parallel),
            )
            self._running[model.name.full] = runner
        runner.keep = runner.keep if keep is None else keep
        runner.expires = time.time() + max(runner.keep, 1)
        return runner

    def _about(self, model: Model) -> dict[str, Any] | None:
        """What a model's file says, with its parameters; None: it is damaged or gone."""
        weights = next((layer for layer in model.layers if layer["mediaType"].endswith("image.model")), None)
        try:
            path = self._folder.blob(weights["digest"]) if weights else Path()
            with path.open("rb") as file:
                if not weights or path.stat().st_size != weights["size"] or file.readline() != MAGIC:
                    return None
                about: dict[str, Any] = json.loads(file.readline())
            for digest in model.digests("image.params"):
                about = json.loads(self._folder.blob(digest).read_bytes()) | about
        except (OSError, ValueError):
            return None
        return about

    def unload(self, name: Name) -> None:
        """Takes it out of memory."""
        self._running.pop(name.full, None)

    def kill(self) -> None:
        """All of them die."""
        for runner in self._running.values():
            runner.dead.set()
        self._running.clear()


class Answer:
    """One answer, word by word; `finish` and `count` are known at its end."""

    def __init__(self, runner: Runner, messages: list[Any], limit: object, stops: list[str]) -> None:
        self._runner = runner
        self._limit = limit if type(limit) is int and limit > 0 else 0
        self._stops = stops
        asked = "".join(f"{message.get('role')}: {text_of(message)}\n" for message in messages) + "assistant:"
        tokens = len(asked) + 2
        self.prompt = tokens if tokens <= runner.context else runner.context // 2  # cut, and nobody is told
        self.began = time.time()
        self.finish = "stop"
        self.count = 0

    async def words(self) -> AsyncIterator[str]:
        """Raises RunnerDied."""
        said = ""
        for word in re.findall(r"\s*\S+", self._runner.sentence):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._runner.dead.wait(), 1 / self._runner.pace)
                raise RunnerDied
            self.count += 1
            places = [place for stop in self._stops if (place := (said + word).find(stop)) >= 0]
            if places:
                if rest := (said + word)[len(said) : min(places)]:
                    yield rest
                return
            said += word
            yield word
            if self.count == self._limit:
                self.finish = "length"
                return
        self.count += 1

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.count,
            "total_tokens": self.prompt + self.count,
        }

    @property
    def durations(self) -> dict[str, int]:
        """As Ollama's own API ends an answer."""
        took = int((time.time() - self.began) * 1e9)
        return {
            "total_duration": took,
            "load_duration": took // 5,
            "prompt_eval_count": self.prompt,
            "prompt_eval_duration": took // 5,
            "eval_count": self.count,
            "eval_duration": took // 2,
        }


class Chats:
    """Everything that makes a model speak, by both APIs."""

    def __init__(self, folder: Folder, runners: Runners) -> None:
        self._folder = folder
        self._runners = runners

    async def openai(self, request: web.Request) -> web.StreamResponse:
        body = await body_of(request, "EOF")
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            raise ApiError(400, "[] is too short - 'messages'", body=True)
        if isinstance(body.get("max_tokens"), str):
            field = "ChatCompletionRequest.max_tokens of type int"
            raise ApiError(400, f"json: cannot unmarshal string into Go struct field {field}", body=True)
        model = self._model(body)
        if body.get("tools"):
            raise ApiError(400, f"{model.name.full} does not support tools")
        stops = body.get("stop") or []
        async with self._runners.use(body["model"], model, None) as runner:
            answer = Answer(
                runner, body["messages"], body.get("max_tokens"), [stops] if isinstance(stops, str) else stops
            )
            about = {
                "id": f"chatcmpl-{random.randrange(1000)}",
                "object": "chat.completion.chunk" if body.get("stream") else "chat.completion",
                "created": int(time.time()),
                "model": body["model"],
                "system_fingerprint": "fp_ollama",
            }
            if body.get("stream"):
                usage = (body.get("stream_options") or {}).get("include_usage", False)
                return await _sent(request, "text/event-stream", _events(answer, about, usage))
            message = {"role": "assistant", "content": await _whole(answer)}
            choices = [{"index": 0, "message": message, "finish_reason": answer.finish}]
            return json_response({**about, "choices": choices, "usage": answer.usage}, charset=False)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await body_of(request, "missing request body")
        return await self._own(request, body, body.get("messages"), lambda text: {"message": _message(text)})

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = await body_of(request, "missing request body")
        asked = [{"role": "user", "content": body["prompt"]}] if body.get("prompt") else []
        return await self._own(request, body, asked, lambda text: {"response": text})

    async def _own(
        self, request: web.Request, body: dict[str, Any], messages: Any, shown: Callable[[str], dict[str, Any]]
    ) -> web.StreamResponse:
        """Ollama's own API: without a question a model is loaded, or unloaded."""
        keep = None if body.get("keep_alive") is None else seconds_of(body["keep_alive"])
        model = self._model(body)

        def line(text: str, **more: Any) -> dict[str, Any]:
            return {"model": body["model"], "created_at": stamp(time.time()), **shown(text), **more}

        if not messages and keep == 0:
            self._runners.unload(model.name)
            return json_response(line("", done=True, done_reason="unload"))
        async with self._runners.use(body["model"], model, keep) as runner:
            if not messages:
                return json_response(line("", done=True, done_reason="load"))
            options = body.get("options") or {}
            answer = Answer(runner, messages, options.get("num_predict"), options.get("stop") or [])
            if body.get("stream", True):
                return await _sent(request, "application/x-ndjson", _lines(answer, line))
            text = await _whole(answer)
            return json_response(line(text, done=True, done_reason=answer.finish, **answer.durations))

    def _model(self, body: dict[str, Any]) -> Model:
        asked = body.get("model")
        if not asked:
            raise ApiError(400, "model is required")
        name = Name.of(asked)
        model = self._folder.model(name) if name else None
        if model is None:
            raise ApiError(404, f"model '{asked}' not found")
        return model


async def _whole(answer: Answer) -> str:
    try:
        return "".join([word async for word in answer.words()])
    except RunnerDied:
        raise ApiError(500, DIED) from None


async def _events(answer: Answer, about: dict[str, Any], usage: bool) -> AsyncIterator[bytes]:
    def event(about: dict[str, Any], delta: dict[str, Any], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {dumps({**about, 'choices': [choice]})}\n\n".encode()

    role = {"role": "assistant"}
    try:
        async for word in answer.words():
            yield event(about, {**role, "content": word}, None)
            role = {}
    except RunnerDied:
        if role:
            raise
        yield event({**about, "model": ""}, {"content": ""}, None)
        return
    yield event(about, {}, answer.finish)
    if usage:
        yield f"data: {dumps({**about, 'choices': [], 'usage': answer.usage})}\n\n".encode()
    yield b"data: [DONE]\n\n"


async def _lines(answer: Answer, line: Callable[..., dict[str, Any]]) -> AsyncIterator[bytes]:
    try:
        async for word in answer.words():
            yield f"{dumps(line(word, done=False))}\n".encode()
    except RunnerDied:
        yield f"{dumps({'error': DIED})}\n".encode()
        return
    yield f"{dumps(line('', done=True, done_reason=answer.finish, **answer.durations))}\n".encode()


async def _sent(request: web.Request, kind: str, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    """The headers come with the first piece."""
    response = web.StreamResponse(headers={"Content-Type": kind})
    try:
        async for piece in pieces:
            if not response.prepared:
                await response.prepare(request)
            await response.write(piece)
    except RunnerDied:
        raise ApiError(500, DIED) from None
    return response


class Library:
    """The models that are there, and how they come and go."""

    def __init__(self, folder: Folder, runners: Runners, puller: Puller) -> None:
        self._folder = folder
        self._runners = runners
        self._puller = puller

    async def tags(self, _: web.Request) -> web.Response:
        details = {**DETAILS, "context_length": 8192, "embedding_length": 32}
        models = [
            {
                "name": model.name.short,
                "model": model.name.short,
                "modified_at": stamp(model.modified),
                "size": model.size,
                "digest": model.digest,
                "details": details,
                "capabilities": ["completion"],
            }
            for model in self._folder.models()
        ]
        return json_response({"models": models})

    async def openai(self, _: web.Request) -> web.Response:
        models = [
            {"id": m.name.short, "object": "model", "created": int(m.modified), "owned_by": m.name.space}
            for m in self._folder.models()
        ]
        return json_response({"object": "list", "data": models or None}, charset=False)

    async def loaded(self, _: web.Request) -> web.Response:
        models = [
            {
                "name": runner.model.name.short,
                "model": runner.model.name.short,
                "size": runner.model.size,
                "digest": runner.model.digest,
                "details": DETAILS,
                "expires_at": stamp(runner.expires),
                "size_vram": 0,
                "context_length": runner.context,
            }
            for runner in self._runners.running().values()
        ]
        return json_response({"models": models})

    async def show(self, request: web.Request) -> web.Response:
        body = await body_of(request, "missing request body")
        name = Name.of(body.get("model") or body.get("name"))
        model = self._folder.model(name) if name else None
        if name and (model is None or not all(self._folder.blob(d).exists() for d in model.digests("image.model"))):
            raise ApiError(404, f"model '{name.short}' not found")
        if model is None:
            raise ApiError(400, "model is required")
        facts = {"general.architecture": "llama", "llama.context_length": 8192, "llama.embedding_length": 32}
        shown = {"details": DETAILS, "model_info": facts, "capabilities": ["completion"]}
        return json_response({"modelfile": "", **shown, "modified_at": stamp(model.modified)})

    async def delete(self, request: web.Request) -> web.Response:
        body = await body_of(request, "missing request body")
        asked = body.get("model") or body.get("name")
        if not asked:
            raise ApiError(400, "model is required")
        name = Name.of(asked)
        model = self._folder.model(name) if name else None
        if model is None:
            raise ApiError(404, f"model '{asked}' not found")
        try:
            self._folder.delete(model)
        except OSError as error:
            raise ApiError(500, go_error("remove", error.filename or "", error)) from None
        return empty(200)

    async def pull(self, request: web.Request) -> web.StreamResponse:
        body = await body_of(request, "missing request body")
        name = Name.of(body.get("model") or body.get("name"))
        if name is None:
            raise ApiError(400, "invalid model name")
        async with aclosing(self._puller.pull(name, bool(body.get("insecure")))) as lines:
            if body.get("stream", True):
                response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
                await response.prepare(request)
                try:
                    async for line in lines:
                        await response.write(f"{dumps(line)}\n".encode())
                except PullError as error:
                    await response.write(f"{dumps({'error': str(error)})}\n".encode())
                return response
            try:
                last = [line async for line in lines][-1]
            except PullError as error:
                return json_response({"error": str(error)}, 500, charset=False)
            return json_response(last, charset=False)


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


async def body_of(request: web.Request, missing: str) -> dict[str, Any]:
    """The JSON object that was sent. Raises ApiError."""
    text = (await request.read()).decode(errors="replace")
    if not text:
        raise ApiError(400, missing, body=True)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        where = "object key string" if "property name" in error.msg else "value"
        raise ApiError(400, f"invalid character '{text[error.pos]}' looking for beginning of {where}", True) from None
    return found if isinstance(found, dict) else {}


def json_response(value: object, status: int = 200, charset: bool = True) -> web.Response:
    kind = "application/json; charset=utf-8" if charset else "application/json"
    return web.Response(body=dumps(value).encode(), status=status, headers={"Content-Type": kind})


def plain(status: int, text: str, **headers: str) -> web.Response:
    return web.Response(body=text.encode(), status=status, headers={"Content-Type": "text/plain", **headers})


def empty(status: int) -> web.Response:
    response = web.Response(status=status)
    response.headers["Content-Length"] = "0"
    return response


def _message(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def text_of(message: Any) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds_of(value: object) -> float:
    """A keep_alive: a number of seconds, or a duration such as 1h30m; below zero: for ever. Raises ApiError."""
    text = str(value)
    with suppress(ValueError):
        return float(text) if float(text) >= 0 else FOREVER
    if not DURATION.fullmatch(text):
        raise ApiError(400, f'time: invalid duration "{text}"')
    if text.startswith("-"):
        return FOREVER
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ns|us|µs|ms|s|m|h)", text))


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


def prepare(settings: Settings, home: Path) -> None:
    """What must be there or be made; ends the process where Ollama does."""
    key = home / ".ollama" / "id_ed25519"
    if not key.exists():
        print(f"Couldn't find '{key}'. Generating new private key.", file=sys.stderr)
        try:
            key.parent.mkdir(parents=True, exist_ok=True)
            key.write_text("made for tests\n")
        except OSError as error:
            sys.exit(f"Error: could not create directory {go_error('mkdir', key.parent, error)}")
    try:
        for name in ("blobs", "manifests"):
            (settings.models / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"Error: {go_error('mkdir', settings.models, error)}")
    if settings.prune:
        with suppress(OSError):
            Folder(settings.models).prune()


def main() -> None:
    """`serve` is the one command."""
    if sys.argv[1:] != ["serve"]:
        sys.exit(f"usage: {sys.argv[0]} serve")
    logging.basicConfig(level=logging.INFO, format='time=%(asctime)s level=%(levelname)s msg="%(message)s"')
    settings = Settings.of(os.environ)
    prepare(settings, Path(os.environ["HOME"]))
    asyncio.run(serve(settings))


ROOT = Path(__file__).parents[2]
STAND_IN = (sys.executable, "-m", "tests.support.ollama_server")


class Ollama:
    """`ollama serve` as a process on loopback: the stand-in, or another `program`. A context manager."""

    def __init__(
        self, folder: Path, program: tuple[str, ...] = STAND_IN, environ: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.models, self.home = folder / "models", folder / "home"
        self.home.mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [*program, "serve"]
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")},
            "HOME": str(self.home),
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self.models),
            "OLLAMA_NOPRUNE": "1",
            "OLLAMA_NO_CLOUD": "1",
            **environ,
        }

    def start(self, wait: bool = True) -> None:
        """Starts it, also again after it has ended."""
        self.process = subprocess.Popen(self._command, env=self._environ, cwd=ROOT, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while wait and not self._listens():
            assert self.process.poll() is None, "it has ended"
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.02)

    def _listens(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5):
                return True
        except OSError:
            return False

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal, and waits; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(10)

    def tell(self, path: str) -> None:
        """One of the ways in that the stand-in alone has."""
        urllib.request.urlopen(urllib.request.Request(self.url + path, method="POST"), timeout=5).close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)


if __name__ == "__main__":
    main()
