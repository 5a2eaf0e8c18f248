"""Runs in a pod: asks a chatbot without pause, short questions and streamed ones, until /tmp/stop appears or the time
is over; then prints what came of them as one line of JSON. It must not know who started it."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import aiohttp

LONGEST_SECONDS = 240
STOP = Path("/tmp/stop")  # noqa: S108 - of this pod alone
REPORT_MARK = "REPORT "


async def ask(session: aiohttp.ClientSession, url: str, *, stream: bool) -> str:
    """Empty if the answer was whole, else what was wrong with it."""
    body = {"model": "", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    if not stream:
        body["max_tokens"] = 3
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            if response.status != 200:
                return f"{response.status} {(await response.text())[:200]}"
            text = await response.text()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    if stream:
        return "" if text.rstrip().endswith("data: [DONE]") and '"error"' not in text else f"cut: …{text[-200:]}"
    return "" if json.loads(text)["choices"][0]["finish_reason"] else "no finish_reason"


async def client(url: str, end: float, tally: dict[str, object], *, stream: bool) -> None:
    """One client; a connection of its own for each request, so that the Service chooses a pod each time."""
    kind = "streams" if stream else "short"
    while time.monotonic() < end and not STOP.exists():  # noqa: ASYNC240 - one stat a request
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            problem = await ask(session, url, stream=stream)
        tally[kind] = int(str(tally[kind])) + 1
        if problem:
            problems = tally["problems"]
            assert isinstance(problems, list)
            problems.append(f"{kind}: {problem}")


async def main() -> None:
    url, short, streams = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    tally: dict[str, object] = {"short": 0, "streams": 0, "problems": []}
    end = time.monotonic() + LONGEST_SECONDS
    print("started", flush=True)
    clients = [client(url, end, tally, stream=False) for _ in range(short)]
    clients += [client(url, end, tally, stream=True) for _ in range(streams)]
    await asyncio.gather(*clients)
    print(REPORT_MARK + json.dumps(tally), flush=True)


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(main())
