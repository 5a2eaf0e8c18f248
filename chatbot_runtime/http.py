"""What every public request has in common: id, headers, errors, CORS, log, metrics. It must not know chats."""

import logging
import os
import re
import time
from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from chatbot_runtime.config import Config
from chatbot_runtime.connections import Connection
from chatbot_runtime.contract import AccessSettings
from chatbot_runtime.drain import Drain
from chatbot_runtime.errors import ApiError, internal_error
from chatbot_runtime.metrics import Metrics
from chatbot_runtime.openai_api import RECORD, Record

log = logging.getLogger("chatbot_runtime.request")

CLIENT_GONE = 499
"""nginx's name for a request whose client went away; only in log and metrics."""
PREFLIGHT_SECONDS = 600
EXPOSED = "x-request-id, x-chatbot-phase, x-chatbot-fallback, retry-after"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Frame:
    """Goes round every handler of the public application."""

    def __init__(self, config: Config, access: Callable[[], AccessSettings], drain: Drain, metrics: Metrics) -> None:
        self._config = config
        self._access = access
        self._drain = drain
        self._metrics = metrics

    def install(self, app: web.Application) -> None:
        """Adds itself to an application."""

        @web.middleware
        async def frame(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._handle(request, handler)

        app.middlewares.append(frame)
        app.on_response_prepare.append(self._prepare)

    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("x-request-id", "")
        record = request[RECORD] = Record(
            id=given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex(), begun=time.monotonic()
        )
        connection = request.protocol
        if isinstance(connection, Connection):
            connection.request_began(request.content)
        status = CLIENT_GONE
        try:
            response = await self._answer(request, handler, record)
            status = response.status
            return response
        finally:
            if isinstance(connection, Connection):
                connection.request_ended()
            self._account(request, record, status, time.monotonic() - record.begun)

    async def _answer(self, request: web.Request, handler: Handler, record: Record) -> web.StreamResponse:
        if request.method == hdrs.METH_OPTIONS and self._allowed_origin(request):
            return web.Response(status=204)
        # No error outlives its except clause: with its traceback it would keep the whole request until the next full
        # garbage collection.
        try:
            return await handler(request)
        except ApiError as error:
            return self._refusal(record, error)
        except web.HTTPException as error:
            return self._refusal(record, _of_http(request, error))
        except ConnectionError:
            raise
        except Exception:
            log.exception("request failed", extra={"id": record.id})
            return self._refusal(record, internal_error())

    @staticmethod
    def _refusal(record: Record, failure: ApiError) -> web.Response:
        record.error = failure.body.code
        response = web.Response(
            status=failure.status,
            body=failure.body.dump(),
            headers=failure.headers(),
            content_type="application/json",
        )
        if failure.closes:
            response.force_close()
        return response

    async def _prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        if record := request.get(RECORD):
            headers["x-request-id"] = record.id
        headers["x-chatbot-phase"] = self._config.phase
        headers.popall(hdrs.SERVER, None)
        if self._drain.draining:
            response.force_close()
            headers[hdrs.CONNECTION] = "close"
        if self._access().cors_origins:
            headers.add(hdrs.VARY, hdrs.ORIGIN)
            self._allow_origin(request, response)

    def _allowed_origin(self, request: web.Request) -> str | None:
        origin, allowed = request.headers.get(hdrs.ORIGIN), self._access().cors_origins
        return origin if origin and (origin in allowed or "*" in allowed) else None

    def _allow_origin(self, request: web.Request, response: web.StreamResponse) -> None:
        origin, headers = self._allowed_origin(request), response.headers
        if origin is None:
            return
        headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED
        if request.method == hdrs.METH_OPTIONS:
            headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, POST, OPTIONS"
            headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(PREFLIGHT_SECONDS)
            if asked := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
                headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked

    def _account(self, request: web.Request, record: Record, status: int, seconds: float) -> None:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "other"
        self._metrics.request(route, status).inc()
        if record.error:
            self._metrics.refusals.labels(record.error).inc()
        if record.stream is not None:
            self._metrics.streamed_seconds[record.stream].observe(seconds)
        log.info(
            "request",
            extra={
                "id": record.id, "method": request.method, "route": route, "status": status,
                "ms": round(seconds * 1000, 1), "first_ms": record.first_ms, "queue_ms": record.queue_ms,
                "bytes": record.bytes, "tokens": record.tokens, "stream": record.stream, "model": record.model,
                "fallback": record.fallback, "error": record.error, "client": record.client,
            },
        )  # fmt: skip


def _of_http(request: web.Request, error: web.HTTPException) -> ApiError:
    """aiohttp's own refusals in our shape."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods - {"HEAD"}))
        return ApiError(405, "method_not_allowed", f"{request.method} is not allowed here: use {allowed}.")
    if isinstance(error, web.HTTPNotFound):
        return ApiError(
            404, "not_found", "There is nothing at this address. Try POST /v1/chat/completions or GET /v1/models."
        )
    return ApiError(error.status, "bad_request", error.reason)
