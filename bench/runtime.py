"""Measures the runtime's memory and start against their goals: `python -m bench.runtime [--output json]`.

It runs the real process on loopback. The goals hold for one idle core; a busy machine shows larger times.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.runtime_process import RuntimeProcess, chat_bytes, question, until

MIB = 1024
STREAMS = 500
STARTS = 5
REPLY_TOKENS = 400
TOKENS_PER_SECOND = 30
SETTINGS = {
    "mock": {"replies": ["word " * REPLY_TOKENS], "tokensPerSecond": TOKENS_PER_SECOND},
    "access": {"requestsPerMinute": 1_000_000, "concurrentRequests": STREAMS},
}


@dataclass(frozen=True)
class Result:
    """One measured value and its goal, an upper bound."""

    what: str
    value: float
    goal: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.value <= self.goal


def starts(count: int) -> list[Result]:
    """Time from the start of a process to its first `/readyz` that says yes: medians of `count` starts."""
    walls, cpus = [], []
    for _ in range(count):
        begun = time.monotonic()
        with RuntimeProcess() as process:
            until_ready(process)
            walls.append(time.monotonic() - begun)
            cpus.append(cpu_seconds(process.pid))
    return [
        Result("start to ready, wall", round(statistics.median(walls), 2), 2, "s"),
        Result("start to ready, CPU", round(statistics.median(cpus), 2), 1, "s"),
    ]


def until_ready(process: RuntimeProcess) -> None:
    """Waits for readiness."""
    until(lambda: process.internal("/readyz").status == 200, "ready")


def memory(streams: int) -> list[Result]:
    """Resident memory of an idle process, and while it gives `streams` paced answers."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "settings.json")
        settings.write_text(json.dumps(SETTINGS))
        with RuntimeProcess(settings_file=settings, max_running=streams) as process:
            until_ready(process)
            process.ask(max_tokens=1)
            idle = resident(process.pid)
            streaming, done = asyncio.run(under_streams(process, streams))
            if done != streams:
                raise SystemExit(f"error: {streams - done} of {streams} streams did not end with [DONE]")
    return [
        Result("resident memory, idle", round(idle, 1), 56, "MiB"),
        Result(f"resident memory, {streams} streams", round(streaming, 1), 72, "MiB"),
    ]


async def under_streams(process: RuntimeProcess, count: int) -> tuple[float, int]:
    """The highest resident memory while `count` streams run, and how many of them ended as they should."""
    highest = 0.0

    async def watch() -> None:
        nonlocal highest
        while True:
            highest = max(highest, resident(process.pid))
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    ends = await asyncio.gather(*(read_stream(process.port) for _ in range(count)))
    watching.cancel()
    return highest, sum(ends)


async def read_stream(port: int) -> bool:
    """Asks for a stream and reads it to its end; whether that was `[DONE]`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(chat_bytes(question(stream=True), "Connection: close"))
    end = b""
    while piece := await reader.read(65536):
        end = (end + piece)[-64:]
    writer.close()
    return b"data: [DONE]" in end


def resident(pid: int) -> float:
    """Resident memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / MIB


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and reports; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="bench.runtime", description=__doc__)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--starts", type=int, default=STARTS)
    arguments = parser.parse_args(argv)
    results = starts(arguments.starts) + memory(arguments.streams)
    if arguments.output == "json":
        print(json.dumps([asdict(result) | {"met": result.met} for result in results]))
    else:
        for result in results:
            mark = "ok" if result.met else "MISSED"
            print(f"{result.what:<32} {result.value:>7g} {result.unit:<4} (goal: at most {result.goal:g})  {mark}")
    return 0 if all(result.met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
