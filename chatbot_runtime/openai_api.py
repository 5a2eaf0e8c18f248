"""`/v1/*`: OpenAI's API, answered whole or as a stream. It must not know which provider answers.

The rules of an answer: before its first byte a failure is a proper status; after it, it is an event `{"error": …}` and
the end of the stream without `[DONE]`. Nothing is ever glued together from two answers.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import hdrs, web

from chatbot_runtime import json_text
from chatbot_runtime.access import KeyRing, client_address
from chatbot_runtime.admission import Admission
from chatbot_runtime.chat_request import ChatRequest, json_object, memory_of, model_not_found, model_of, parse
from chatbot_runtime.config import Config
from chatbot_runtime.contract import AccessSettings, FallbackReason, RuntimeSettings
from chatbot_runtime.drain import Drain
from chatbot_runtime.errors import ApiError, internal_error, repeats
from chatbot_runtime.event_stream import DONE, EventStream
from chatbot_runtime.metrics import Metrics
from chatbot_runtime.providers.base import Answer, Chunk, Forwarded, Provider, ProviderError, Usage

log = logging.getLogger(__name__)

OTHERS = ("/v1/completions", "/v1/embeddings", "/v1/responses")


@dataclass(slots=True)
class Record:
    """What the request log says of one request: ids, sizes, times and codes; never what was said."""

    id: str
    begun: float
    client: str | None = None
    stream: bool | None = None
    model: str | None = None
    fallback: str | None = None
    error: str | None = None
    bytes: int | None = None
    tokens: int | None = None
    queue_ms: float | None = None
    first_ms: float | None = None


RECORD = web.RequestKey("record", Record)


@dataclass(slots=True)
class OpenAIApi:
    """The handlers. `settings` gives those in use now."""

    config: Config
    settings: Callable[[], RuntimeSettings]
    keys: KeyRing
    admission: Admission
    drain: Drain
    provider: Provider
    metrics: Metrics
    fallback: Callable[[], FallbackReason | None]
    """Why another than the chosen provider answers now, if so."""
    download: Callable[[], Awaitable[Mapping[str, Any] | None]]
    """How far a download of models is that runs for this chatbot."""
    forward: Callable[[str, Mapping[str, Any]], Awaitable[Forwarded]] | None
    """Asks the provider's server at another path; None if it has no server."""

    def routes(self) -> list[web.RouteDef]:
        """The public endpoints."""
        return [
            web.post("/v1/chat/completions", self.chat, expect_handler=_expect),
            web.get("/v1/models", self.models),
            web.get("/v1/models/{id}", self.model),
            web.get("/v1/status", self.status),
            *(web.post(path, self.other, expect_handler=_expect) for path in OTHERS),
        ]

    async def models(self, request: web.Request) -> web.Response:
        """The models, the default first."""
        self._client(request)
        return _json({"object": "list", "data": [self._model(model) for model in self.provider.models]})

    async def model(self, request: web.Request) -> web.Response:
        """One model."""
        self._client(request)
        model = request.match_info["id"]
        if model not in self.provider.models:
            raise model_not_found(model, self.provider.models)
        return _json(self._model(model))

    async def status(self, _: web.Request) -> web.Response:
        """What a chat page needs. Open to everyone, so it names no models."""
        state = {"phase": self.config.phase, "fallback": self.fallback(), "download": await self.download()}
        return _json({"chatbot": self.config.name, **state})

    async def other(self, request: web.Request) -> web.StreamResponse:
        """OpenAI's other endpoints, as the provider's server answers them; never by fallback."""
        if self.forward is None:
            self._client(request)
            message = f"{request.path} is not available in phase {self.config.phase}: use POST /v1/chat/completions."
            raise ApiError(404, "not_found", message)
        return await self._answered(request, self._forwarding(request.path.removeprefix("/v1/"), self.forward))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/chat/completions`."""
        return await self._answered(request, self._chatting)

    async def _answered(self, request: web.Request, prepare: "Prepare") -> web.StreamResponse:
        stream = EventStream(request, self.config.heartbeat_seconds)
        try:
            async with self.drain.deadline(self.config.request_seconds):
                return await self._admitted(request, stream, prepare)
        except (ApiError, ProviderError) as error:
            # In no variable of its own: what is raised would hold this frame, and so the request, and be held by it.
            if not stream.started:
                raise self._discreet(error) from None
            failure = self._discreet(error).body
        except (ConnectionError, web.HTTPException):
            raise
        except Exception:
            if not stream.started:
                raise
            log.exception("request failed", extra={"id": request[RECORD].id})
            failure = internal_error().body
        request[RECORD].error = failure.code
        await stream.send(b"data: " + failure.dump() + b"\n\n")
        stream.response.force_close()
        return stream.response

    def _discreet(self, error: ApiError | ProviderError) -> ApiError:
        """What the client is told, without a server's own words where they give the chatbot's system prompt away."""
        if isinstance(error, ProviderError):
            error = _api_error(error)
        body = error.body
        if not repeats(body.message, self.settings().system_prompt):
            return error
        message = "The model's server does not accept this request; why it says that is not shown here."
        return ApiError(error.status, body.code, message, param=body.param, retry_after=error.retry_after)

    async def _admitted(self, request: web.Request, stream: EventStream, prepare: "Prepare") -> web.StreamResponse:
        """Key and the client's own limits at the door; a slot only when there is something to answer."""
        record, access = request[RECORD], self.settings().access
        record.client, name = self._client(request)
        with self._share(name, access), self.admission.room() as take:
            answer = prepare(request, await self._body(request, take))
            before = time.monotonic()
            async with self.admission.slot():
                waited = time.monotonic() - before
                self.metrics.queue_seconds.observe(waited)
                record.queue_ms = round(waited * 1000, 1)
                return await answer(stream)

    def _chatting(self, request: web.Request, body: bytearray) -> "Answering":
        record = request[RECORD]
        accepts = request.headers.get("x-chatbot-fallback", "").strip().lower() != "none"
        chat = parse(
            body,
            models=self.provider.models,
            names=(self.config.name,),
            system_prompt=self.settings().system_prompt,
            max_messages=self.config.max_messages,
            text_only=self.provider.text_only,
            fallback=accepts,
        )
        record.stream = chat.stream
        if chat.stream:
            return lambda stream: self._stream(chat, stream, record)
        return lambda _: self._whole(chat, record)

    def _forwarding(self, path: str, forward: Callable[[str, Mapping[str, Any]], Awaitable[Forwarded]]) -> "Prepare":
        def prepare(_: web.Request, body: bytearray) -> Answering:
            fields = json_object(body)
            fields["model"] = model_of(fields.get("model"), self.provider.models, (self.config.name,))
            if path == "responses" and (prompt := self.settings().system_prompt):
                own = fields.get("instructions")
                fields["instructions"] = f"{prompt}\n\n{own}" if isinstance(own, str) and own else prompt

            async def answer(stream: EventStream) -> web.StreamResponse:
                forwarded = await forward(path, fields)
                async with aclosing(forwarded.pieces) as pieces:
                    if forwarded.content_type == "application/json":
                        body = b"".join([piece async for piece in pieces])
                        return web.Response(body=body, content_type=forwarded.content_type)
                    async for piece in pieces:
                        await stream.send(piece)
                await stream.response.write_eof()
                return stream.response

            return answer

        return prepare

    def _share(self, name: str | None, access: AccessSettings) -> AbstractContextManager[None]:
        """Counts a request on its client; not on one who cannot be told from others."""
        if name is None:
            return nullcontext()
        return self.admission.client(name, per_minute=access.requests_per_minute, concurrent=access.concurrent_requests)

    def _client(self, request: web.Request) -> tuple[str | None, str | None]:
        """The client's name for the log (an address is nobody's business there) and for counting."""
        access = self.settings().access
        if access.mode == "APIKey":
            client = self.keys.client_of(request.headers.get(hdrs.AUTHORIZATION))
            return client, f"key:{client}"
        if access.shared_addresses:
            return None, None
        forwarded = request.headers.getall(hdrs.X_FORWARDED_FOR, [])
        return None, client_address(request.remote, forwarded, access.trusted_hops)

    async def _body(self, request: web.Request, take: Callable[[int], None]) -> bytearray:
        """The body, as large as allowed and in time; memory is taken as it arrives, and for what it holds."""
        most, seconds = self.config.max_body_bytes, self.config.body_seconds
        if (request.content_length or 0) > most:
            raise _too_large(most)
        body = bytearray()
        try:
            # What has arrived with its head, as nearly all do, needs no time-out.
            async with nullcontext() if request.content.is_eof() else asyncio.timeout(seconds):
                while not request.content.at_eof():
                    piece = await request.content.readany()
                    if len(body) + len(piece) > most:
                        raise _too_large(most)
                    take(len(piece))
                    body += piece
        except TimeoutError:
            message = f"The body did not arrive within {seconds:g} s: send it faster."
            raise ApiError(408, "request_timeout", message, param="body", closes=True) from None
        except web.RequestPayloadError:
            request.content.feed_eof()  # else aiohttp reads on, and meets the same error
            message = "The body is broken: it does not fit its headers."
            raise ApiError(400, "invalid_body", message, param="body", closes=True) from None
        take(memory_of(body))
        request[RECORD].bytes = len(body)
        return body

    async def _whole(self, chat: ChatRequest, record: Record) -> web.Response:
        answer = await self.provider.answer(chat)
        message: dict[str, Any] = {"role": "assistant", "content": None}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": None}
        last = Chunk({})
        async with aclosing(answer.chunks) as chunks:
            async for last in chunks:
                said, content = message["content"], last.delta.get("content")
                message.update(last.delta, content=said if content is None else (said or "") + content)
                if last.logprobs is not None:
                    choice["logprobs"] = last.logprobs
        if last.finish_reason is None:
            raise _incomplete()
        choice["finish_reason"] = last.finish_reason
        self._account(record, answer, last.usage)
        response = _json(
            {
                "id": _answer_id(),
                "object": "chat.completion",
                "created": int(time.time()),
                "model": answer.model,
                "choices": [choice],
                "usage": last.usage.dump() if last.usage else None,
                "chatbot": self._chatbot(answer),
            }
        )
        response.headers.update(_fallback_header(answer))
        return response

    async def _stream(self, chat: ChatRequest, stream: EventStream, record: Record) -> web.StreamResponse:
        async with stream:
            answer = await self.provider.answer(chat)
            stream.response.headers.update(_fallback_header(answer))
            form = _ChunkForm(answer.model, chat.include_usage)
            last = None
            async with aclosing(answer.chunks) as chunks:
                async for last in chunks:
                    events = form.chunk(last)
                    if record.first_ms is None:
                        events = form.first(self._chatbot(answer)) + events
                        self._first(record)
                    if last.finish_reason is not None:
                        self._account(record, answer, last.usage)
                        events += form.end(last.usage)
                    await stream.send(events)
            if last is None or last.finish_reason is None:
                raise _incomplete()
        await stream.response.write_eof()
        return stream.response

    def _first(self, record: Record) -> None:
        seconds = time.monotonic() - record.begun
        record.first_ms = round(seconds * 1000, 1)
        self.metrics.first_chunk_seconds.observe(seconds)

    def _account(self, record: Record, answer: Answer, usage: Usage | None) -> None:
        record.model, record.fallback = answer.model, answer.fallback
        if answer.fallback:
            self.metrics.fallback_answers.labels(answer.fallback).inc()
        if usage is not None:
            record.tokens = usage.completion_tokens
            self.metrics.prompt_tokens.inc(usage.prompt_tokens)
            self.metrics.completion_tokens.inc(usage.completion_tokens)

    def _chatbot(self, answer: Answer) -> dict[str, Any]:
        return {"phase": self.config.phase, "fallback": answer.fallback}

    def _model(self, model: str) -> dict[str, Any]:
        return {"id": model, "object": "model", "created": 0, "owned_by": self.config.name}


Answering = Callable[[EventStream], Awaitable[web.StreamResponse]]
"""Answers a request; on the stream if it wants one."""
Prepare = Callable[[web.Request, bytearray], Answering]
"""Reads a body. Raises ApiError."""


class _ChunkForm:
    """The bytes of a stream's events; what is equal in all of them is made once."""

    def __init__(self, model: str, include_usage: bool) -> None:
        same = {"id": _answer_id(), "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._head = b"data: " + orjson.dumps(same)[:-1]
        self._choice = self._head + b',"choices":[{"index":0,"delta":'
        self._usage = b',"usage":null' if include_usage else b""
        self._end = b',"finish_reason":null}]' + self._usage + b"}\n\n"

    def first(self, chatbot: Mapping[str, Any]) -> bytes:
        """The role, and who answers."""
        role = b'{"role":"assistant","content":""},"finish_reason":null}],"chatbot":'
        return self._choice + role + orjson.dumps(chatbot) + self._usage + b"}\n\n"

    def chunk(self, chunk: Chunk) -> bytes:
        """A piece of the answer."""
        delta = orjson.dumps(chunk.delta)
        if chunk.logprobs is not None:
            delta += b',"logprobs":' + orjson.dumps(chunk.logprobs)
        if chunk.finish_reason is None:
            return self._choice + delta + self._end
        reason = b',"finish_reason":' + orjson.dumps(chunk.finish_reason) + b"}]"
        return self._choice + delta + reason + self._usage + b"}\n\n"

    def end(self, usage: Usage | None) -> bytes:
        """The usage if it was asked for, and `[DONE]`."""
        if not self._usage or usage is None:
            return DONE
        return self._head + b',"choices":[],"usage":' + orjson.dumps(usage.dump()) + b"}\n\n" + DONE


async def _expect(request: web.Request) -> web.Response | None:
    """`Expect: 100-continue`, as curl sends it with a large body; anything else is refused (RFC 9110, 10.1.1)."""
    if request.headers[hdrs.EXPECT].lower() != "100-continue":
        refused = ApiError(417, "expectation_failed", "The header 'Expect' may only be '100-continue'.", param="Expect")
        return web.Response(status=417, body=refused.body.dump(), content_type="application/json")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # as aiohttp's own handler does: this was not the answer
    return None


def _api_error(error: ProviderError) -> ApiError:
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", error.reason).lower()
    return ApiError(503, code, str(error), retry_after=error.retry_after)


def _too_large(most: int) -> ApiError:
    message = f"The body is larger than {most} bytes: send less."
    return ApiError(413, "request_too_large", message, param="body", closes=True)


def _incomplete() -> ProviderError:
    return ProviderError("ProviderUnavailable", "The answer broke off before its end. Please try again.")


def _fallback_header(answer: Answer) -> dict[str, str]:
    return {"x-chatbot-fallback": answer.fallback} if answer.fallback else {}


def _answer_id() -> str:
    return f"chatcmpl-{os.urandom(16).hex()}"


def _json(value: object) -> web.Response:
    return web.Response(body=json_text.dump(value), content_type="application/json")
