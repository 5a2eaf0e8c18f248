"""Runs in a pod: asks a chatbot for whole answers, in stages of so many clients who rest for so long between two
questions, for so many seconds, and prints what came of each interval as a JSON line. Arguments: a URL, the stages.

It must not know who started it.
"""

import asyncio
import json
import sys
import time

import aiohttp

INTERVAL = 2.0
BODY = {"model": "", "messages": [{"role": "user", "content": "hello"}]}


class Interval:
    """What came in it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.problems: list[str] = []

    def told(self) -> dict[str, object]:
        """In a few words: a node keeps only some megabytes of a pod's log."""
        taken = sorted(self.seconds)
        return {
            "answers": len(taken),
            "median": taken[len(taken) // 2] if taken else None,
            "slow": taken[len(taken) * 99 // 100] if taken else None,
            "failed": len(self.problems),
            "problems": self.problems[:5],
        }


class Clients:
    """Those of the present stage; each asks again as soon as it has its answer, on a new connection every so often."""

    def __init__(self, url: str) -> None:
        self.url, self.wanted, self.rest, self.now = url, 0, 0.0, Interval()

    async def one(self, number: int) -> None:
        while number < self.wanted:
            # A new connection now and then: only those find new pods.
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
                for _ in range(25):
                    await self.ask(session)
                    await asyncio.sleep(self.rest)
                    if number >= self.wanted:
                        return

    async def ask(self, session: aiohttp.ClientSession) -> None:
        begun = time.perf_counter()
        try:
            async with session.post(f"{self.url}/v1/chat/completions", json=BODY) as answer:
                text = await answer.text()
            if answer.status == 200:
                self.now.seconds.append(time.perf_counter() - begun)
                return
            self.now.problems.append(f"{answer.status} {text[:200]}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.now.problems.append(f"{type(error).__name__}: {error}")
        await asyncio.sleep(0.1)  # one that is refused is not asked in a tight loop


async def main(url: str, stages: list[tuple[int, float, float]]) -> None:
    """Every stage in turn."""
    clients, begun = Clients(url), time.time()
    async with asyncio.TaskGroup() as tasks:
        for wanted, rest, seconds in stages:
            before, clients.wanted, clients.rest = clients.wanted, wanted, rest
            for number in range(before, wanted):
                tasks.create_task(clients.one(number))
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                await asyncio.sleep(min(INTERVAL, left))
                now, clients.now = clients.now, Interval()
                line = {"at": time.time() - begun, "clients": wanted, **now.told()}
                print(json.dumps(line), flush=True)
        clients.wanted = 0
    print("END", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], [(int(c), float(r), float(s)) for c, r, s in json.loads(sys.argv[2])]))
