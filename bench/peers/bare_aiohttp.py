"""The bare bound: aiohttp, uvloop and orjson, and nothing else. Parses the body and returns the answer in a file.

`python bare_aiohttp.py ANSWER_FILE TOKENS_PER_SECOND`; prints its port.
"""

import asyncio
import sys
from pathlib import Path

import orjson
import uvloop
from aiohttp import web

ANSWER = orjson.loads(Path(sys.argv[1]).read_bytes())
PER_SECOND = float(sys.argv[2])
WORDS = ANSWER["choices"][0]["message"]["content"].split(" ")
HEAD = {key: ANSWER[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}


async def chat(request: web.Request) -> web.StreamResponse:
    """A whole answer, or a word at a time."""
    question = orjson.loads(await request.read())
    if not question.get("stream"):
        return web.Response(body=orjson.dumps(ANSWER), content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    clock = asyncio.get_running_loop().time
    begin = clock()
    for number, word in enumerate(WORDS):
        await asyncio.sleep(max(0.0, begin + number / PER_SECOND - clock()))
        choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
        await response.write(b"data: " + orjson.dumps(HEAD | {"choices": [choice]}) + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def serve() -> None:
    """Until it is killed."""
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", chat)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
