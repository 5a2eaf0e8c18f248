"""Answers from an OpenAI-compatible server: the Hugging Face router, or any other. It must not know clients or limits.

One provider for all of them; what differs is a row of data (`chatbot_runtime.providers.servers`). The token goes to the
one endpoint and nowhere else: only if its host is allowed, and redirects are never followed.
"""

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import orjson

from chatbot_runtime.chat_request import ChatRequest
from chatbot_runtime.contract import HfSettings
from chatbot_runtime.errors import ApiError
from chatbot_runtime.network import open_session
from chatbot_runtime.providers import failures
from chatbot_runtime.providers.base import Answer, Chunk, Forwarded, ProviderError
from chatbot_runtime.providers.servers import Route, Server
from chatbot_runtime.providers.upstream_reading import (
    EVENTS,
    JSON,
    Held,
    Reading,
    chunk_of,
    is_done,
    parsed,
    unavailable,
    usage_of,
    whole_of,
)
from chatbot_runtime.token_file import TokenFile

LAST_SECONDS = 2.0
"""How long the usage is waited for once an answer is complete."""
ERROR_SECONDS = 5.0
"""How long the body of a refusal is waited for."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: to connect, and of silence within an answer."""

    connect: float
    chunk: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer that has begun. `deadline`: loop time by which its first byte must be there."""

    response: aiohttp.ClientResponse
    deadline: float
    token: str = field(repr=False)


class Upstream:
    """Asks one server. `settings` gives those in use now."""

    text_only = False

    def __init__(
        self,
        route: Route,
        models: tuple[str, ...],
        token: TokenFile,
        settings: Callable[[], HfSettings],
        times: Times,
    ) -> None:
        self._route = route
        self._models = models
        self._token = token
        self._settings = settings
        self._times = times
        self._session: aiohttp.ClientSession | None = None
        self._held = Held()

    @property
    def route(self) -> Route:
        """The way to the server; whether it may be taken can change at any time."""
        self._route = self._route.under(self._settings())
        return self._route

    @property
    def models(self) -> tuple[str, ...]:
        return self._models

    async def answer(self, request: ChatRequest) -> Answer:
        body = orjson.dumps(chat_body(request, self.route.server))
        exchange = await self.post("chat/completions", body, request.model)
        response, chunks = exchange.response, None
        try:
            if response.content_type == EVENTS and request.stream:
                chunks = self._streamed(exchange, request.model)
                model, first = await anext(chunks)
            elif response.content_type == JSON:
                model, first = await self._whole(exchange, request.model)
            else:
                kind = failures.scrubbed(response.content_type, exchange.token)[:80]
                raise unavailable(self.route.host, f"answered with {kind} in place of an answer")
        except BaseException:
            response.close()
            raise
        return Answer(model, _after(first, chunks))

    async def forward(self, path: str, fields: Mapping[str, Any]) -> Forwarded:
        """Another of OpenAI's endpoints. Raises ProviderError or ApiError, 404 if the server does not have it."""
        try:
            exchange = await self.post(path, orjson.dumps(fields), fields["model"])
        except ProviderError as error:
            if error.reason != "ModelNotFound":
                raise
            raise ApiError(404, "not_found", f"/v1/{path} cannot be answered here: {error}") from None
        kind = exchange.response.content_type
        if kind != (EVENTS if fields.get("stream") else JSON):
            exchange.response.close()
            raise unavailable(self.route.host, f"answered with {failures.scrubbed(kind, exchange.token)[:80]}")
        pieces = self._forwarded(exchange, kind)
        try:
            first = await anext(pieces, b"")
        except BaseException:
            exchange.response.close()
            raise
        return Forwarded(kind, _joined(first, pieces))

    async def _forwarded(self, exchange: Exchange, kind: str) -> AsyncGenerator[bytes, None]:
        with self._held.reading() as hold:
            reading = self._reading(exchange, hold)
            try:
                if kind == JSON:
                    body = await reading.whole()
                    parsed(body, self.route.host)
                    yield bytes(body)
                else:
                    async for piece in reading.pieces():
                        yield piece
            finally:
                reading.finish()

    async def post(self, path: str, body: bytes, model: str) -> Exchange:
        """Sends one request; its answer has begun, with status 200. Raises ProviderError or ApiError."""
        self.route.check()
        token = self._usable_token()
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        seconds = self._settings().timeout_seconds
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._send(path, body, headers)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(error, seconds) from None
        exchange = Exchange(response, deadline, token)
        if response.status == 200 and response.headers.get("Content-Encoding", "identity") == "identity":
            return exchange
        raise await self._refusal(exchange, model)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _usable_token(self) -> str:
        token = self._token
        if token.state == "ok" or (token.state in ("missing", "empty") and not self.route.server.needs_token):
            return token.value
        raise ProviderError("TokenRejected", f"{self.route.host} needs a token, and {token.problem}.")

    async def _send(self, path: str, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Tries once more if nobody can have read the first try."""
        if self._session is None:
            self._session = self._open()
        tries = 2
        while True:
            tries -= 1
            trace = _Trace()
            try:
                return await self._session.post(
                    self.route.url / path,
                    data=body,
                    headers=headers,
                    proxy=self.route.proxy,
                    allow_redirects=False,
                    trace_request_ctx=trace,
                )
            except (aiohttp.ClientConnectorDNSError, aiohttp.ClientSSLError):
                raise
            except aiohttp.ClientConnectorError:
                if not tries:
                    raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # A kept connection that the server closed while it was idle; on a new one it may have read the request.
                if not tries or not trace.reused:
                    raise

    def _open(self) -> aiohttp.ClientSession:
        config = aiohttp.TraceConfig()
        config.on_connection_reuseconn.append(_note_reuse)
        return open_session(
            context=self.route.context,
            resolver=self.route.resolver,
            connect_seconds=self._times.connect,
            traces=[config],
        )

    def _unreachable(self, error: Exception, seconds: float) -> ProviderError:
        # What the library says may hold addresses of proxies, and so passwords.
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            what = f"cannot be reached: no connection within {self._times.connect:g} s"
        elif isinstance(error, TimeoutError):
            what = f"has not begun to answer within {seconds:g} s"
        elif isinstance(error, aiohttp.ClientConnectorDNSError):
            what = f"cannot be reached: {error.os_error.strerror or 'its name leads nowhere'}"
        elif isinstance(error, aiohttp.ClientSSLError):
            what = "cannot be trusted: its certificate is not valid here"
        elif isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
            what = "cannot be reached: the proxy on the way there refuses"
        elif isinstance(error, aiohttp.ClientConnectorError):
            # Loops word the same error differently, some with the address in it.
            what = f"cannot be reached: {os.strerror(error.os_error.errno or errno.ECONNREFUSED)}"
        elif isinstance(error, aiohttp.ServerDisconnectedError | OSError):
            what = "ended the connection without an answer"
        else:
            what = "did not answer as an HTTP server does"
        if isinstance(error, OSError | aiohttp.ServerDisconnectedError) and not isinstance(error, TimeoutError):
            return ProviderError(self.route.server.down, f"{self.route.host} {what}.")
        return unavailable(self.route.host, what)

    async def _refusal(self, exchange: Exchange, model: str) -> Exception:
        response, body = exchange.response, bytearray()
        with suppress(TimeoutError, aiohttp.ClientError, OSError, ValueError):
            async with asyncio.timeout(ERROR_SECONDS):
                while len(body) < failures.MAX_BODY and (piece := await response.content.readany()):
                    body += piece
        if response.content.at_eof():
            response.release()
        else:
            response.close()
        if response.status == 200:
            return unavailable(self.route.host, "compressed its answer, which was not asked for")
        return failures.failure(
            response.status,
            body[: failures.MAX_BODY],
            response.headers,
            host=self.route.host,
            token=exchange.token,
            model=model,
            missing=self.route.server.missing_model_codes,
            telling=self.route.server.telling,
            too_long=self.route.server.too_long,
        )

    async def _whole(self, exchange: Exchange, asked: str) -> tuple[str, Chunk]:
        with self._held.reading() as hold:
            value = parsed(await self._reading(exchange, hold).whole(), self.route.host)
            self._raise_error(value, exchange)
            return self._model(value, asked), whole_of(value, self.route.host)

    async def _streamed(self, exchange: Exchange, asked: str) -> AsyncGenerator[tuple[str, Chunk], None]:
        """The chunks of a stream, each with who answers. Ends the request when it ends, however that is."""
        with self._held.reading() as hold:
            reading = self._reading(exchange, hold)
            last, usage = None, None
            try:
                try:
                    while (data := await reading.event()) is not None and not is_done(data):
                        value = parsed(data, self.route.host)
                        self._raise_error(value, exchange)
                        usage = usage_of(value) or usage
                        chunk = None if last else chunk_of(value, self.route.host)
                        if chunk is None:
                            continue
                        if chunk.finish_reason is None:
                            yield self._model(value, asked), chunk
                        else:
                            last = self._model(value, asked), chunk
                            reading.silence = min(self._times.chunk, LAST_SECONDS)
                except ProviderError:
                    if last is None:  # else the answer is complete, whatever comes after it
                        raise
                if last is None:
                    raise unavailable(self.route.host, "ended its answer before it was complete")
                yield last[0], replace(last[1], usage=usage)
                await reading.last()
            finally:
                reading.finish()

    def _reading(self, exchange: Exchange, hold: Callable[[int], bool]) -> Reading:
        return Reading(exchange.response, self.route.host, exchange.deadline, self._times.chunk, hold)

    def _raise_error(self, value: Mapping[str, Any], exchange: Exchange) -> None:
        if error := value.get("error"):
            raise failures.failure_in_stream(error, host=self.route.host, token=exchange.token)

    def _model(self, value: Mapping[str, Any], asked: str) -> str:
        """Who answers: what the server says of itself, where that is a name."""
        named = value.get("model")
        if self.route.server.answers_as_asked or not isinstance(named, str) or not 0 < len(named) <= 253:
            return asked
        return named if named.isprintable() else asked


def chat_body(request: ChatRequest, server: Server) -> dict[str, Any]:
    """What the server is sent: the client's own parameters, with the chatbot's model and system prompt."""
    body = dict(request.parameters or {})
    if request.parameters is None and request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    body |= {"model": request.model, "messages": request.messages, "stream": request.stream}
    for given, known in server.renames:
        if given in body:
            body.setdefault(known, body.pop(given))
    if request.stream and server.tells_usage:
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return body


@dataclass(slots=True)
class _Trace:
    reused: bool = False


async def _note_reuse(_: object, context: Any, __: object) -> None:
    context.trace_request_ctx.reused = True


async def _after(first: Chunk, rest: AsyncGenerator[tuple[str, Chunk], None] | None) -> AsyncGenerator[Chunk, None]:
    """All chunks. Closing it closes `rest`."""
    try:
        yield first
        if rest is not None:
            async for _, chunk in rest:
                yield chunk
    finally:
        if rest is not None:
            await rest.aclose()


async def _joined(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """All pieces. Closing it closes `rest`."""
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
