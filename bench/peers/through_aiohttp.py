"""The bare bound of a pass-through: aiohttp as server and as client, uvloop and orjson, and nothing else.

`python through_aiohttp.py UPSTREAM_URL`; prints its port. Parses the body, and passes on what comes.
"""

import asyncio
import sys

import aiohttp
import orjson
import uvloop
from aiohttp import web

URL = f"{sys.argv[1]}/chat/completions"
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer hf_bench"}
SESSION = web.AppKey("session", aiohttp.ClientSession)


async def chat(request: web.Request) -> web.StreamResponse:
    """What the upstream answers, whole or as it comes."""
    question = orjson.loads(await request.read())
    async with request.app[SESSION].post(URL, data=orjson.dumps(question), headers=HEADERS) as upstream:
        if not question.get("stream"):
            return web.Response(body=await upstream.read(), status=upstream.status, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        async for piece in upstream.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def serve() -> None:
    """Until it is killed."""
    app = web.Application()
    app[SESSION] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    app.add_routes([web.post("/v1/chat/completions", chat)])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
