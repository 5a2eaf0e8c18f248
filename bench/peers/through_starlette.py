"""A peer: starlette on uvicorn that asks by httpx, with nothing round it. It parses nothing, it only passes on.

`python through_starlette.py UPSTREAM_URL`; prints its port.
"""

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer hf_bench"}
MANY = httpx.Limits(max_connections=None, max_keepalive_connections=None)


async def chat(request: Request) -> Response:
    """What the upstream answers, whole or as it comes."""
    client: httpx.AsyncClient = request.app.state.client
    question = client.build_request("POST", "chat/completions", content=await request.body(), headers=HEADERS)
    upstream = await client.send(question, stream=True)
    kind = upstream.headers["content-type"]
    if kind.startswith("text/event-stream"):
        return StreamingResponse(upstream.aiter_raw(), media_type=kind, background=BackgroundTask(upstream.aclose))
    return Response(await upstream.aread(), upstream.status_code, media_type=kind)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One client for all requests."""
    async with httpx.AsyncClient(base_url=sys.argv[1], limits=MANY, timeout=60, trust_env=False) as client:
        app.state.client = client
        yield


def main() -> None:
    """Serves until it is killed."""
    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])], lifespan=lifespan)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="warning", backlog=1024)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
