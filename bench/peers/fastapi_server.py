"""A peer: FastAPI on uvicorn with the duties of the runtime: checks the body, bounds what runs and waits, counts and
logs each request. `python fastapi_server.py ANSWER_FILE`; prints its port.
"""

import asyncio
import logging
import socket
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import fastapi
import orjson
import uvicorn
from prometheus_client import Counter, Histogram
from pydantic import BaseModel, ConfigDict, Field

ANSWER = orjson.loads(Path(sys.argv[1]).read_bytes())
TEXT = ANSWER["choices"][0]["message"]["content"]
SLOTS, QUEUE, QUEUE_SECONDS = asyncio.Semaphore(512), 512, 5
REQUESTS = Counter("requests", "Requests.", ("route", "code"))
SECONDS = Histogram("request_seconds", "Time of a request.", ("stream",))
TOKENS = Counter("tokens", "Tokens.", ("kind",))
log = logging.getLogger("request")


class Message(BaseModel):
    """One message."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None


class Question(BaseModel):
    """A chat request."""

    model_config = ConfigDict(extra="allow")
    messages: list[Message] = Field(min_length=1, max_length=1000)
    model: str = ""
    stream: bool = False
    n: Literal[1] | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None


async def chat(question: Question) -> fastapi.Response:
    """A whole answer."""
    async with asyncio.timeout(QUEUE_SECONDS), SLOTS:
        usage = {"prompt_tokens": 6, "completion_tokens": 30, "total_tokens": 36}
        TOKENS.labels("prompt").inc(usage["prompt_tokens"])
        TOKENS.labels("completion").inc(usage["completion_tokens"])
        message = {"role": "assistant", "content": TEXT}
        answer = {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "object": "chat.completion", "created": int(time.time()),
            "model": question.model or "mock", "usage": usage,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }  # fmt: skip
        return fastapi.Response(orjson.dumps(answer), media_type="application/json")


async def frame(
    request: fastapi.Request, handler: Callable[[fastapi.Request], Awaitable[fastapi.Response]]
) -> fastapi.Response:
    """Id, metrics and log of each request."""
    begun = time.monotonic()
    response = await handler(request)
    response.headers["x-request-id"] = identity = uuid.uuid4().hex
    seconds = time.monotonic() - begun
    REQUESTS.labels(request.url.path, response.status_code).inc()
    SECONDS.labels("false").observe(seconds)
    line = {"ts": time.time(), "id": identity, "route": request.url.path, "ms": round(seconds * 1000, 1)}
    log.info(orjson.dumps(line | {"method": request.method, "status": response.status_code}).decode())
    return response


def main() -> None:
    """Serves until it is killed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app = fastapi.FastAPI()
    app.middleware("http")(frame)
    app.add_api_route("/v1/chat/completions", chat, methods=["POST"])
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
