"""Measures the page and nginx against their goals: `python -m bench.web [--only NAME …] [--save]`.

Exit code 1: a goal is missed. Figures depend on the machine; run it when the machine has nothing else to do.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import web_report
from tests.support.runtime_process import FAST, RuntimeProcess, chat_bytes, question
from tests.web import tools

tools.need_playwright()

from tests.web.backend import Backend, Stream  # noqa: E402
from tests.web.browser import Browser, Chat, chromium, expect  # noqa: E402
from tests.web.nginx_process import Nginx  # noqa: E402

THROTTLE = 4
STREAMS = 500
PARAGRAPH = """## Section {0}

Some **bold** and *slanted* words with `code` and a [link](https://example.org/{0}), as answers have them.

- one of the points
- another with `inline code`

```python
def section_{0}(value: int) -> int:
    return value + {0}
```

"""
ANSWER = "".join(PARAGRAPH.format(number) for number in range(60))[:9_000]


@dataclass(frozen=True)
class Figure:
    """One measurement, its goal, and what was measured."""

    name: str
    value: float
    goal: float
    unit: str
    note: str = ""

    def __str__(self) -> str:
        verdict = "ok" if self.value <= self.goal else "MISSED"
        return f"{self.name:<52} {self.value:>8.1f} {self.unit:<4} goal {self.goal:g}  {verdict:<7} {self.note}"


def first_paint(browser: Browser) -> Figure:
    """From the click to the first text, nothing cached, the processor a quarter as fast."""
    times = []
    with Backend() as backend, Nginx(backend.port) as nginx:
        for _ in range(7):
            with browser.new_context() as context:
                page = context.new_page()
                session = context.new_cdp_session(page)
                session.send("Emulation.setCPUThrottlingRate", {"rate": THROTTLE})
                page.goto(nginx.url)
                expect(page.get_by_label("Message", exact=True)).to_be_visible()
                paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                times.append(float(page.evaluate(paint)))
    note = f"median of 7 (largest {max(times):.0f}), processor throttled {THROTTLE}x"
    return Figure("first contentful paint", statistics.median(times), 1000, "ms", note)


def streamed_answer(browser: Browser) -> Figure:
    """What the main thread does for 9 kB of Markdown that comes in pieces of 12 characters, 250 a second."""
    busy, tasks = [], []
    with Backend() as backend, Nginx(backend.port) as nginx:
        for _ in range(3):
            with browser.new_context() as context:
                page = context.new_page()
                page.goto(nginx.url)
                chat = Chat(page)
                chat.ask("warm up")
                session = context.new_cdp_session(page)
                session.send("Performance.enable", {"timeDomain": "threadTicks"})
                stream = backend.next(Stream())
                chat.send("go")
                assert stream.begun.wait(10)
                before = main_thread(session)
                for at in range(0, len(ANSWER), 12):
                    stream.say(ANSWER[at : at + 12])
                    time.sleep(0.004)  # the pace of the stream is what is measured
                stream.end()
                page.wait_for_selector("article.answer:last-child[aria-busy=false]")
                drawn, all_tasks = main_thread(session)
                busy.append(drawn - before[0])
                tasks.append(all_tasks - before[1])
    note = f"scripts, styles, layout; median of 3; with painting and all else {statistics.median(tasks):.0f}"
    return Figure("a streamed answer of 9 kB, main thread", statistics.median(busy), 300, "ms", note)


def main_thread(session: Any) -> tuple[float, float]:
    """Milliseconds of the processor that scripts, styles and layout have taken so far, and all tasks."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    values = {metric["name"]: float(metric["value"]) for metric in metrics}
    drawn = values["ScriptDuration"] + values["RecalcStyleDuration"] + values["LayoutDuration"]
    return 1000 * drawn, 1000 * values["TaskDuration"]


TYPING = """
async () => {
  const area = document.querySelector('textarea');
  const set = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set;
  const times = [];
  for (let n = 0; n < 60; n += 1) {
    await new Promise(done => setTimeout(done, 30));
    const begun = performance.now();
    set.call(area, area.value + 'x');
    area.dispatchEvent(new Event('input', { bubbles: true }));
    // Until the frame with the letter is handed over.
    await new Promise(done => requestAnimationFrame(() => { const c = new MessageChannel();
      c.port1.onmessage = done; c.port2.postMessage(0); }));
    times.push(performance.now() - begun);
  }
  return times;
}
"""


def typing(browser: Browser) -> Figure:
    """From a letter to the frame that shows it, in a chat of 200 messages."""
    messages = [
        {"id": f"m{n}", "role": "assistant" if n % 2 else "user", "content": ANSWER[: 1500 if n % 2 else 80], "at": n,
         "state": "complete", "model": "m"}
        for n in range(200)
    ]  # fmt: skip
    chat = {"id": "c", "title": "long", "updated": 1, "model": None, "messages": messages, "revision": "r"}
    with Backend() as backend, Nginx(backend.port) as nginx, browser.new_context() as context:
        page = context.new_page()
        page.goto(nginx.url)
        page.evaluate(
            """chat => { localStorage['chatbot/1/chat/c'] = JSON.stringify(chat);
                localStorage['chatbot/1/entry/c'] = JSON.stringify(chat); sessionStorage['chatbot/1/open'] = 'c'; }""",
            chat,
        )
        page.reload()
        expect(page.locator("article")).to_have_count(200)
        times = sorted(float(value) for value in page.evaluate(TYPING))
    p95 = times[int(len(times) * 0.95)]
    note = f"median {statistics.median(times):.1f}"
    return Figure("typing in a chat of 200 messages, 95 of 100", p95, 50, "ms", note)


async def first_chunk(port: int) -> float:
    """Milliseconds from a question to the first byte of its answer's stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun = time.perf_counter()
    writer.write(chat_bytes(question("hello", stream=True)))
    await reader.readuntil(b"data: ")
    took = time.perf_counter() - begun
    await reader.readuntil(b"[DONE]")
    writer.close()
    return took * 1000


async def whole_stream(port: int) -> bool:
    """Whether a stream came to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(chat_bytes(question("hello, please tell me a long story", stream=True)))
    received = b""
    while piece := await reader.read(65536):
        received += piece
        if b"[DONE]" in received:
            break
    writer.close()
    return b"[DONE]" in received


def through_nginx() -> list[Figure]:
    """Beside the runtime itself, one after the other in turn; then many at once."""
    settings = FAST | {"mock": {"tokensPerSecond": 5}}

    async def in_turn(direct: int, proxied: int) -> tuple[list[float], list[float]]:
        found: tuple[list[float], list[float]] = ([], [])
        for _ in range(200):
            found[0].append(await first_chunk(direct))
            found[1].append(await first_chunk(proxied))
        return found

    async def at_once(port: int) -> list[bool | BaseException]:
        return await asyncio.gather(*(whole_stream(port) for _ in range(STREAMS)), return_exceptions=True)

    with tempfile.TemporaryDirectory() as folder:
        fast, slow = Path(folder) / "fast.json", Path(folder) / "slow.json"
        fast.write_text(json.dumps(FAST))
        slow.write_text(json.dumps(settings))
        with RuntimeProcess(settings_file=fast) as runtime, Nginx(runtime.port) as nginx, pinned():
            alone, proxied = asyncio.run(in_turn(runtime.port, nginx.port))
        with RuntimeProcess(settings_file=slow) as runtime, Nginx(runtime.port) as nginx:
            idle = sum(resident(pid) for pid in processes(nginx.pid))
            begun = time.perf_counter()
            with pinned():
                ends = asyncio.run(at_once(nginx.port))
            seconds = time.perf_counter() - begun
            memory = sum(resident(pid) for pid in processes(nginx.pid))
    cut = sum(end is not True for end in ends)
    added = statistics.median(proxied) - statistics.median(alone)
    late = sorted(proxied)[-2] - sorted(alone)[-2]
    note = (
        f"medians of 200: {statistics.median(alone):.2f} and {statistics.median(proxied):.2f}; 99 of 100: {late:+.1f}"
    )
    return [
        Figure("first chunk through nginx, added", added, 10, "ms", note),
        Figure(
            f"streams cut of {STREAMS} at once",
            cut,
            0,
            "",
            f"{seconds:.1f} s; nginx has {memory:.0f} MiB then, {idle:.0f} before",
        ),
    ]


@contextmanager
def pinned() -> Iterator[None]:
    """The load generator has one core and no more; the servers, which run already, have all."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def processes(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def resident(pid: int) -> float:
    """Own memory in MiB: what is shared with the parent counts once for each that shares it."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]) / 1024


IN_BROWSER: dict[str, Callable[[Browser], Figure]] = {
    "paint": first_paint,
    "stream": streamed_answer,
    "typing": typing,
}


def figures(names: list[str]) -> Iterator[Figure]:
    """The named ones, or all."""
    with chromium() as browser:
        for name, measure in IN_BROWSER.items():
            if not names or name in names:
                yield measure(browser)
    # Playwright's loop has ended: another one can run in this thread.
    if not names or "nginx" in names:
        yield from through_nginx()


def main(argv: Sequence[str] | None = None) -> int:
    """Prints each as soon as it is there; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.web", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*IN_BROWSER, "nginx"], default=[], help="some of them")
    parser.add_argument("--save", action="store_true", help="keep the results for python -m bench.report")
    arguments = parser.parse_args(argv)
    found = []
    for figure in figures(arguments.only):
        print(figure, flush=True)
        found.append(figure)
    if arguments.save:
        web_report.keep([asdict(figure) for figure in found])
    return 1 if any(figure.value > figure.goal for figure in found) else 0


if __name__ == "__main__":
    sys.exit(main())
