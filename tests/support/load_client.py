"""Runs in a pod: asks a chatbot, short questions and streamed ones, until /tmp/stop appears or the time is over; holds
every answer against what it must be, and prints the tally as JSON lines. It must not know who started it or why."""

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

STOP = Path("/tmp/stop")  # noqa: S108 - of this pod alone
STARTED, PROGRESS, REPORT = "STARTED", "PROGRESS ", "REPORT "
FIRST_ANSWER_SECONDS = 30
MOCK = "mock"
SHORT_TOKENS = 3
Answers = dict[str, list[str]]
"""By the model that says so: the whole answers it may give."""


@dataclass(frozen=True)
class Job:
    """What to ask, and how hard. `pause` is each short client's rest between two questions, in seconds."""

    url: str
    answers: Answers
    short: int
    streams: int
    pause: float
    longest_seconds: float


@dataclass
class Tally:
    """How many answers came, what was wrong with some, and from when to when those and each stream ran (Unix time)."""

    short: int = 0
    streams: int = 0
    problems: list[tuple[float, float, str]] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)


def untrue(said: dict[str, Any], answers: Answers) -> str:
    """Empty if who answers is one who may, and the phase is his."""
    model, chatbot = said["model"], said["chatbot"]
    if model not in answers:
        return f"unknown model {model!r}"
    expected = {"phase": MOCK if model == MOCK else "hf", "fallback": None}
    return "" if chatbot == expected else f"model {model!r} with {chatbot}"


def wrong_with_answer(text: str, answers: Answers) -> str:
    """Empty if this is a whole answer, a mock's cut at its token limit."""
    body = json.loads(text)
    (choice,) = body["choices"]
    content = choice["message"]["content"]
    if problem := untrue(body, answers):
        return problem
    reason = "length" if body["model"] == MOCK else "stop"
    if (body["object"], choice["finish_reason"]) != ("chat.completion", reason):
        return f"not well formed: {text[:300]}"
    known = any(reply.startswith(content) for reply in answers[body["model"]])
    return "" if content and known else f"unknown reply: {content[:100]}"


def wrong_with_stream(text: str, answers: Answers) -> str:
    """Empty if this is a whole stream of one model: a reply's every word, one reason to finish, the mark of the end."""
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        return f"cut: …{text[-200:]}"
    chunks: list[dict[str, Any]] = [json.loads(event) for event in events[:-1]]
    if failed := [chunk for chunk in chunks if "error" in chunk]:
        return f"error in the stream: {failed[0]}"
    if problem := untrue(chunks[0], answers):
        return problem
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    model = chunks[0]["model"]
    if {chunk["model"] for chunk in chunks} != {model} or reasons != ["stop"]:
        return f"not well formed: finish reasons {reasons}: …{text[-300:]}"
    said = "".join(choice["delta"].get("content") or "" for choice in choices)
    return "" if said in answers[model] else f"unknown reply of {len(said)} characters: …{said[-100:]}"


async def ask(session: aiohttp.ClientSession, job: Job, *, stream: bool) -> str:
    """Empty if the answer was as it must be, else what was wrong."""
    body: dict[str, Any] = {"model": "", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    if not stream:
        body["max_tokens"] = SHORT_TOKENS
    try:
        async with session.post(f"{job.url}/v1/chat/completions", json=body) as response:
            text = await response.text()
            if response.status != 200:
                return f"{response.status} {text[:300]}"
        return (wrong_with_stream if stream else wrong_with_answer)(text, job.answers)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"


def session(*, kept: bool) -> aiohttp.ClientSession:
    """With a connection that is kept, or a new one for each request: then the Service chooses a pod each time."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=60), connector=aiohttp.TCPConnector(force_close=not kept)
    )


async def client(job: Job, tally: Tally, end: float, *, stream: bool, kept: bool, after: float = 0) -> None:
    """One client, who asks again and again, beginning `after` some seconds."""
    await asyncio.sleep(after)
    async with session(kept=kept) as own:
        while time.monotonic() < end and not STOP.exists():  # noqa: ASYNC240 - one stat a request
            began = time.time()
            problem = await ask(own, job, stream=stream)
            if problem:
                tally.problems.append((began, time.time(), f"{'stream' if stream else 'short'}: {problem}"))
            if stream:
                tally.streams += 1
                tally.spans.append((began, time.time()))
            else:
                tally.short += 1
            await asyncio.sleep(0 if stream else job.pause)


async def first_answer(job: Job) -> None:
    """Return once the address answers: the network learns of a Service with a delay."""
    async with session(kept=False) as own:
        end = time.monotonic() + FIRST_ANSWER_SECONDS
        while problem := await ask(own, job, stream=False):
            if time.monotonic() > end:
                sys.exit(f"no first answer: {problem}")
            await asyncio.sleep(0.1)


async def tell(tally: Tally) -> None:
    """Say every second how far it is."""
    while True:
        print(PROGRESS + json.dumps([tally.short, tally.streams, len(tally.problems)]), flush=True)
        await asyncio.sleep(1)


async def main(job: Job) -> None:
    await first_answer(job)
    tally = Tally()
    end = time.monotonic() + job.longest_seconds
    print(STARTED, flush=True)
    telling = asyncio.create_task(tell(tally))
    clients = [client(job, tally, end, stream=False, kept=number % 2 == 1) for number in range(job.short)]
    # One after the other, so that they do not all end in the same moment, when there would be nothing to cut.
    clients += [client(job, tally, end, stream=True, kept=False, after=number) for number in range(job.streams)]
    await asyncio.gather(*clients)
    telling.cancel()
    print(REPORT + json.dumps(asdict(tally)), flush=True)


if __name__ == "__main__":
    os.umask(0o077)
    given = json.loads(sys.argv[1])
    asyncio.run(main(Job(**given)))
