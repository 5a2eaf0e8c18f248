"""A peer: a handler on `huggingface_hub.AsyncInferenceClient`, with nothing round it.

`python through_hub.py UPSTREAM_URL`; prints its port. The server is aiohttp on uvloop, as the runtime's.
"""

import asyncio
import sys
from typing import Any

import httpx2
import orjson
import uvloop
from aiohttp import web
from huggingface_hub import AsyncInferenceClient, set_async_client_factory

MANY = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
"""By itself it has at most 100 connections and keeps 20, which would decide the result by themselves."""
CLIENT = web.AppKey("client", AsyncInferenceClient)


async def chat(request: web.Request) -> web.StreamResponse:
    """What the upstream answers, whole or as it comes."""
    question: dict[str, Any] = orjson.loads(await request.read())
    answer = await request.app[CLIENT].chat_completion(**question)
    if not question.get("stream"):
        return web.Response(body=orjson.dumps(answer), content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    async for chunk in answer:
        await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def serve() -> None:
    """Until it is killed."""
    set_async_client_factory(lambda: httpx2.AsyncClient(limits=MANY, timeout=None, trust_env=False))
    app = web.Application()
    app[CLIENT] = AsyncInferenceClient(base_url=sys.argv[1], api_key="hf_bench")
    app.add_routes([web.post("/v1/chat/completions", chat)])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
