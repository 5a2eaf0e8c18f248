"""A stand-in for the Hugging Face router, and for what `check` asks of the Hub: right by default, wrong on demand.

`python router.py --port 9000`, or `Router()` in a test. It needs only aiohttp and is one file, however long: so it also
runs in a pod by itself.

    POST   /ctl           {"behaviour": "status", "status": 429, "times": 3}: how the next answers go; see `BEHAVIOURS`
    GET    /ctl/requests  what was asked: method, path, headers, body; DELETE forgets it
"""

import argparse
import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

GOOD = "hf_good"
ANSWER = "Hello there."
PIECES = ("Hello", " there.")
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
MANY = 100 * 1024 * 1024
"""Bytes of a huge answer."""
# Bodies as recorded; those of 402 and above are the recorder's own.
ERRORS: dict[int, object] = {
    400: {
        "error": {
            "message": "The requested model 'x/y' does not exist",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    },
    401: {"error": "Invalid username or password."},
    402: {"error": "You have depleted your monthly included credits."},
    429: {"error": "Too many requests"},
    500: {"error": "Internal error"},
    503: {"error": "Service unavailable"},
}
BEHAVIOURS = {
    "ok": "answers; `delay` seconds before each piece",
    "status": "answers with `status`, `headers`, and `body` in place of the usual one",
    "html": "a page of a proxy, with `status`",
    "text": "plain text that is no JSON, with `status`",
    "stall": "says nothing any more, `at` headers, body or middle",
    "cut": "ends the connection, `at` headers, body or middle",
    "redirect": "leads to `location`",
    "huge": "100 MB of text",
    "huge_line": "an event that never ends",
    "content_type": "the right body under another `type`",
    "doubled": "each data line twice within its event",
    "crlf": "lines end in CR LF",
    "bytes": "each byte by itself",
    "split": "pieces that end in the middle of a word",
    "comments": "comments, names and ids between the events",
    "no_space": "no space after `data:`",
    "after_done": "garbage after [DONE]",
    "no_done": "ends without [DONE]",
    "no_finish": "ends without a finish_reason",
    "no_usage": "says nothing of usage",
    "bad_usage": "usage that is none",
    "not_json": "an event that is no JSON",
    "odd_shape": "JSON that is no answer",
    "error_first": "an error in place of the first piece",
    "error_later": "an error after the first piece",
    "empty": "nothing at all",
    "compressed": "compressed, though that was not asked for",
    "tools": "calls a tool",
    "other_model": "says that another model answers",
    "echo": "an error that repeats headers and body of the request",
    "late_end": "the end of the response comes some time after [DONE]",
    "once": "answers one request on each connection, and ends it when the next one comes",
    "forgets": "closes each connection after its answer without saying so",
}


@dataclass
class Behaviour:
    """How chats are answered. `times`: for so many requests, then as usual; 0: until changed."""

    name: str = "ok"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    at: str = "headers"
    location: str = ""
    type: str = ""
    delay: float = 0.0
    repeat: int = 1
    """A stream says its pieces so many times."""
    times: int = 0


@dataclass
class Model:
    """A model of the Hub: who serves it, and whether one must have asked for access."""

    providers: dict[str, str] = field(default_factory=lambda: {"together": "live"})
    gated: str | bool = False
    open_to: tuple[str, ...] = (GOOD,)


@dataclass
class World:
    """What there is. `tokens`: each with its role and permissions; none: nobody needs one."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    requests: list[dict[str, Any]] = field(default_factory=list)
    tokens: dict[str, dict[str, Any]] = field(default_factory=lambda: {GOOD: {"role": "read", "permissions": []}})
    models: dict[str, Model] = field(default_factory=lambda: {"org/tiny": Model(), "org/small": Model()})
    hub_status: int = 0
    hub_redirect: str = ""
    hub_stalls: bool = False
    lacks: tuple[str, ...] = ()
    """Paths that this server does not have."""

    def token_of(self, request: web.Request) -> str | None:
        """The known token in a request, or that none is needed; None: refused."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return given if given in self.tokens or not self.tokens else None


def application(world: World) -> web.Application:
    """Router and Hub on one address."""
    app = web.Application(middlewares=[_record(world)], client_max_size=16 * 1024 * 1024)
    app.router.add_post("/ctl", _Control(world).behave)
    app.router.add_get("/ctl/requests", _Control(world).requests)
    app.router.add_delete("/ctl/requests", _Control(world).forget)
    chats, hub = _Chats(world), _Hub(world)
    app.router.add_post("/v1/chat/completions", chats.chat)
    app.router.add_post("/v1/{path:completions|embeddings|responses}", chats.other)
    app.router.add_get("/v1/models", chats.models)
    app.router.add_get("/api/whoami-v2", hub.whoami)
    app.router.add_get("/api/models/{owner}/{name}", hub.model)
    app.router.add_get("/api/models/{owner}/{name}/auth-check", hub.auth_check)
    return app


def _record(world: World) -> Any:
    @web.middleware
    async def record(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not request.path.startswith("/ctl"):
            text = (await request.read()).decode(errors="replace")
            headers = dict(request.headers)
            seen = {"method": request.method, "path": request.path_qs, "headers": headers, "body": text}
            peer = request.transport.get_extra_info("peername") if request.transport else None
            world.requests.append({**seen, "peer": peer and tuple(peer)})
        return await handler(request)

    return record


class _Control:
    def __init__(self, world: World) -> None:
        self._world = world

    async def behave(self, request: web.Request) -> web.Response:
        given = await request.json()
        if given.get("behaviour", "ok") not in BEHAVIOURS:
            return web.json_response({"error": f"known are {', '.join(BEHAVIOURS)}"}, status=400)
        given["name"] = given.pop("behaviour", "ok")
        self._world.behaviour = Behaviour(**given)
        return web.json_response(asdict(self._world.behaviour))

    async def requests(self, _: web.Request) -> web.Response:
        return web.json_response(self._world.requests)

    async def forget(self, _: web.Request) -> web.Response:
        self._world.requests.clear()
        return web.Response(status=204)


class _Chats:
    def __init__(self, world: World) -> None:
        self._world = world

    async def chat(self, request: web.Request) -> web.StreamResponse:
        world, how = self._world, self._next()
        if world.token_of(request) is None:
            return web.json_response(ERRORS[401], status=401)
        asked = await request.json()
        if how.at == "headers" and how.name in ("stall", "cut"):
            return await _stop(request, how, None)
        if how.name == "once" and self._is_used(request):
            return await _stop(request, Behaviour("cut"), None)
        if (plain := await _plain(request, how)) is not None:
            return plain
        kind = "text/event-stream" if asked.get("stream") else "application/json"
        response = web.StreamResponse(headers={"Content-Type": how.type or kind, **how.headers})
        if how.name == "compressed":
            response.headers["Content-Encoding"] = "gzip"
        await response.prepare(request)
        pieces = _stream(asked, how) if asked.get("stream") else _whole(asked, how)
        if how.name == "empty":
            return response
        if how.at == "body" and how.name in ("stall", "cut"):
            return await _stop(request, how, response)
        number = 0
        async for piece in _dressed(pieces, how):
            await asyncio.sleep(how.delay)
            await response.write(piece)
            number += 1
            if number == 2 and how.at == "middle" and how.name in ("stall", "cut"):
                return await _stop(request, how, response)
        if how.name == "late_end":
            await asyncio.sleep(0.05)
        await response.write_eof()
        if how.name == "forgets" and request.transport is not None:
            request.transport.close()
        return response

    async def other(self, request: web.Request) -> web.StreamResponse:
        """OpenAI's other endpoints, in short."""
        path, asked = request.match_info["path"], await request.json()
        if self._world.token_of(request) is None:
            return web.json_response(ERRORS[401], status=401)
        if path in self._world.lacks:
            return web.json_response({"error": "Not Found"}, status=404)
        if (plain := await _plain(request, self._next())) is not None:
            return plain
        if asked.get("stream"):
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for piece in PIECES:
                await response.write(b"data: " + json.dumps({"object": path, "text": piece}).encode() + b"\n\n")
            await response.write(b"data: [DONE]\n\n")
            return response
        return web.json_response({"object": path, "model": asked.get("model"), "usage": USAGE})

    async def models(self, request: web.Request) -> web.Response:
        if self._world.token_of(request) is None:
            return web.json_response(ERRORS[401], status=401)
        if (plain := await _plain(request, self._world.behaviour)) is not None:
            return plain
        return web.json_response({"object": "list", "data": [{"id": name} for name in self._world.models]})

    def _is_used(self, request: web.Request) -> bool:
        """Whether this connection has brought a request before."""
        assert request.transport is not None
        peer = tuple(request.transport.get_extra_info("peername"))
        return len([seen for seen in self._world.requests if seen["peer"] == peer]) > 1

    def _next(self) -> Behaviour:
        how = self._world.behaviour
        if how.times:
            how.times -= 1
            if not how.times:
                self._world.behaviour = Behaviour()
        return how


async def _stop(request: web.Request, how: Behaviour, response: web.StreamResponse | None) -> web.StreamResponse:
    if how.name == "stall":
        await asyncio.Event().wait()  # until the client leaves
    assert request.transport is not None
    request.transport.abort()
    return response or web.Response()


async def _plain(request: web.Request, how: Behaviour) -> web.Response | None:
    """Answers that are no chat."""
    if how.name == "status":
        body = how.body or ERRORS.get(how.status, {"error": "made up"})
        return web.json_response(body, status=how.status, headers=how.headers)
    if how.name in ("html", "text"):
        kind = "text/html" if how.name == "html" else "text/plain"
        return web.Response(status=how.status, text="<html><h1>Bad Gateway</h1></html>", content_type=kind)
    if how.name == "redirect":
        return web.Response(status=302, headers={"Location": how.location})
    if how.name == "echo":
        text = f"{dict(request.headers)} {await request.text()}"
        return web.json_response({"error": {"message": text, "code": text, "param": text}}, status=how.status)
    return None


async def _whole(asked: dict[str, Any], how: Behaviour) -> AsyncIterator[bytes]:
    base = {"id": "chatcmpl-1", "created": 1, "model": asked["model"], "system_fingerprint": "none"}
    message: dict[str, Any] = {"role": "assistant", "content": ANSWER}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": message}
    body: dict[str, Any] = {**base, "object": "chat.completion", "choices": [choice], "usage": USAGE}
    if how.name == "tools":
        message |= {"content": None, "tool_calls": [_CALL]}
        choice["finish_reason"] = "tool_calls"
    if asked.get("logprobs"):
        choice["logprobs"] = _LOGPROBS
    match how.name:
        case "no_finish":
            choice["finish_reason"] = None
        case "no_usage":
            del body["usage"]
        case "bad_usage":
            body["usage"] = {"prompt_tokens": -1, "completion_tokens": "many"}
        case "odd_shape":
            body["choices"] = [{"index": 0, "finish_reason": "stop", "message": {"content": [1, 2], "role": 7}}]
        case "error_first" | "error_later":
            body = {"error": {"message": "the engine died", "code": 503}}
        case "other_model":
            body["model"] = "org/large"
        case "huge" | "huge_line":
            async for piece in _many():
                yield piece
            return
    data = b"}{" if how.name == "not_json" else json.dumps(body).encode()
    half = len(data) // 2
    for piece in (data[:half], data[half:-1], data[-1:]):
        yield piece


_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
_LOGPROBS = {"content": [{"token": "Hello", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}


async def _many() -> AsyncIterator[bytes]:
    yield b'data: {"choices": [{"index": 0, "delta": {"content": "'
    for _ in range(MANY // 65_536):
        yield b"x" * 65_536


async def _stream(asked: dict[str, Any], how: Behaviour) -> AsyncIterator[bytes]:
    """Events, each complete."""
    model = "org/large" if how.name == "other_model" else asked["model"]
    base = {"id": "chatcmpl-1", "created": 1, "model": model, "object": "chat.completion.chunk"}

    def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": reason}
        if asked.get("logprobs") and "content" in delta:
            choice["logprobs"] = _LOGPROBS
        return _event({**base, "choices": [choice]})

    yield event({"role": "assistant", "content": ""})
    if how.name in ("error_first", "huge", "huge_line"):
        async for wrong in _wrong(event, how):
            yield wrong
    for number, delta in enumerate(_deltas(how)):
        yield event(delta)
        if number == 0 and how.name in _IN_THE_MIDDLE:
            yield _IN_THE_MIDDLE[how.name]
    if how.name in ("no_finish", "error_first", "error_later"):
        return
    yield event({}, "tool_calls" if how.name == "tools" else "stop")
    usage = {"prompt_tokens": -1, "completion_tokens": "many"} if how.name == "bad_usage" else USAGE
    if (asked.get("stream_options") or {}).get("include_usage") and how.name != "no_usage":
        yield _event({**base, "choices": [], "usage": usage})
    if how.name != "no_done":
        yield b"data: [DONE]\n\n"
    if how.name == "after_done":
        yield b"data: {]\n\n\xff\xfe\0garbage" * 10


def _deltas(how: Behaviour) -> list[dict[str, Any]]:
    if how.name == "tools":
        return [{"tool_calls": [{**_CALL, "index": 0}]}]
    return [] if how.name == "error_first" else [{"content": piece} for piece in PIECES * how.repeat]


async def _wrong(event: Callable[[dict[str, Any]], bytes], how: Behaviour) -> AsyncIterator[bytes]:
    if how.name == "error_first":
        yield _IN_THE_MIDDLE["error_later"]
    elif how.name == "huge":
        for _ in range(MANY // 65_536):
            yield event({"content": "x" * 65_536})
    else:
        async for piece in _many():
            yield piece


def _event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


_IN_THE_MIDDLE = {
    "not_json": b"data: }{\n\n",
    "odd_shape": b'data: {"choices": [{"index": 0, "delta": {"content": [1, 2]}}]}\n\n',
    "error_later": _event({"error": {"message": "the engine died", "code": 503}}),
}


async def _dressed(pieces: AsyncIterator[bytes], how: Behaviour) -> AsyncIterator[bytes]:
    """The same, on the wire in another way."""
    async for piece in pieces:
        match how.name:
            case "doubled" if piece.startswith(b"data:"):
                yield piece[:-1] + piece[:-1] + b"\n"
            case "crlf":
                yield piece.replace(b"\n", b"\r\n")
            case "bytes":
                for byte in piece:
                    yield bytes((byte,))
            case "split":
                for part in (piece[:11], piece[11:-1], piece[11:][-1:]):
                    yield part
            case "comments" if piece.startswith(b"data:"):
                yield b": keep alive\n\nevent: message\nid: 7\nretry: 10\n" + piece
            case "no_space":
                yield piece.replace(b"data: ", b"data:")
            case "compressed":
                yield gzip.compress(piece)
            case _:
                yield piece


class _Hub:
    def __init__(self, world: World) -> None:
        self._world = world

    async def whoami(self, request: web.Request) -> web.Response:
        if self._world.hub_stalls:
            await asyncio.Event().wait()
        if (failed := self._failed()) is not None:
            return failed
        token = self._world.tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if token is None:
            return _hub_error(401, None, "Invalid credentials in Authorization header")
        access: dict[str, Any] = {
            "displayName": "chatbot",
            "role": token["role"],
            "createdAt": "2026-01-01T00:00:00.000Z",
        }
        if token["role"] == "fineGrained":
            access["fineGrained"] = {"global": token["permissions"], "scoped": [], "canReadGatedRepos": False}
        return web.json_response(
            {"type": "user", "name": "someone", "auth": {"type": "access_token", "accessToken": access}}
        )

    async def model(self, request: web.Request) -> web.Response:
        if (failed := self._failed() or self._missing(request)) is not None:
            return failed
        model = self._world.models[_name(request)]
        body = {
            "_id": "000000000000000000000000",
            "id": _name(request),
            "modelId": _name(request),
            "gated": model.gated,
        }
        mapping = {
            provider: {"status": status, "providerId": f"{provider}/x", "task": "conversational"}
            for provider, status in model.providers.items()
        }
        return web.json_response({**body, "inferenceProviderMapping": mapping})

    async def auth_check(self, request: web.Request) -> web.Response:
        if (failed := self._failed() or self._missing(request)) is not None:
            return failed
        model = self._world.models[_name(request)]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if model.gated and token not in model.open_to:
            return _hub_error(403 if token else 401, "GatedRepo", f"Access to model {_name(request)} is restricted.")
        return web.json_response({})

    def _failed(self) -> web.Response | None:
        if self._world.hub_redirect:
            return web.Response(status=302, headers={"Location": self._world.hub_redirect})
        if self._world.hub_status:
            return _hub_error(self._world.hub_status, None, "made up")
        return None

    def _missing(self, request: web.Request) -> web.Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self._world.tokens:
            return _hub_error(401, None, "Invalid credentials in Authorization header")
        if _name(request) in self._world.models:
            return None
        return _hub_error(404 if token else 401, "RepoNotFound", "Repository not found")


def _name(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['name']}"


def _hub_error(status: int, code: str | None, message: str) -> web.Response:
    headers = {"X-Error-Message": message, "X-Request-Id": "Root=1-made-up"}
    if code:
        headers["X-Error-Code"] = code
    return web.json_response({"error": message}, status=status, headers=headers)


class Router(World):
    """The stand-in on a free port of loopback, in a thread; a context manager."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        self.hub = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.hub}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> int:
        self._runner = web.AppRunner(application(self), handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    def behave(self, name: str = "ok", **how: Any) -> None:
        """How chats are answered from now on."""
        assert name in BEHAVIOURS, name
        self.behaviour = Behaviour(name, **how)

    def chats(self) -> Iterator[dict[str, Any]]:
        """The chats that were asked, newest last: the body's fields."""
        for request in tuple(self.requests):
            if request["path"].startswith("/v1/") and request["method"] == "POST":
                yield json.loads(request["body"])


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description="A stand-in for the Hugging Face router and Hub.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--token", action="append", default=[], help="a token that is known; none: nobody needs one")
    arguments = parser.parse_args()
    world = World(tokens={token: {"role": "read", "permissions": []} for token in arguments.token})
    web.run_app(application(world), host=arguments.host, port=arguments.port, print=None, handler_cancellation=True)


if __name__ == "__main__":
    main()
