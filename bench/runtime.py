"""Measures the runtime beside a bare bound and its peers: `python -m bench.runtime [--quick] [--save] [--output json]`.

Real processes on loopback: the servers share one core, the load generator has another. Rounds of all servers take
turns, and each ratio is the median of the ratios in one round, so that a busy machine slows both sides of it alike.
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
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import uvloop

from bench import runtime_load as load
from bench import runtime_peers as peers
from bench.runtime_figures import Result, percentile, ratio, resident
from bench.runtime_hosted import HostedBench
from bench.runtime_memory import highest
from bench.runtime_peers import Server
from bench.runtime_rounds import rounds
from tests.support.runtime_process import RuntimeProcess, until

CLIENTS = 50
STREAMS, MANY_STREAMS = 500, 2000
PACE = 10.0
"""Tokens a second of each stream."""
REPLY = "A canned answer of a usual length, so that a stream of it lasts for some seconds and a whole one is short."
VARIANTS: dict[str, float | None] = {"log": None, "metrics": None, "log,metrics": 20}
"""What the runtime is also measured without, and the most percent of its CPU that this may take."""
UNLIMITED = {"requestsPerMinute": 10_000_000, "concurrentRequests": 100_000}


class Bench:
    """A folder of settings, and how much is measured."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.quick = quick
        self.rounds, self.seconds = (3, 1.0) if quick else (9, 2.0)
        self.answer = folder / "answer.json"
        self.settings = folder / "settings.json"
        mock = {"replies": [REPLY], "tokensPerSecond": PACE}
        self.settings.write_text(json.dumps({"mock": mock, "access": UNLIMITED}))
        with RuntimeProcess(settings_file=self.settings) as process:
            self.answer.write_bytes(process.ask().body)
        self.hosted = HostedBench(self.answer, rounds=self.rounds, seconds=self.seconds, quick=quick)

    def whole(self) -> Iterator[Result]:
        """P1 and P7: whole answers, 50 clients."""
        with ExitStack() as stack:
            use = stack.enter_context
            servers = [
                use(peers.runtime(settings_file=self.settings)),
                use(peers.bare(self.answer, PACE)),
                *(use(peers.runtime_without(parts, settings_file=self.settings)) for parts in VARIANTS),
            ]
            for name, start in (("FastAPI", peers.fastapi), ("litellm", peers.litellm)):
                try:
                    servers.append(use(start(self.answer)))
                except peers.Unavailable as error:
                    print(f"{name} is left out: {error}", file=sys.stderr)
            found = rounds(servers, CLIENTS, self.rounds, self.seconds)
        rates, costs = found.rates, found.costs
        yield Result("P1", "answers a second", found.rate("runtime"), "1/s")
        yield Result("P1", "CPU of an answer", found.micros("runtime"), "µs")
        yield Result("P1", "answers a second / bare aiohttp", ratio(rates, "runtime", "bare aiohttp"), "", 0.6, "least")
        yield Result("P1", "CPU of bare aiohttp / ours", ratio(costs, "bare aiohttp", "runtime"))
        for name, least in (("FastAPI", 1.5), ("litellm", 100.0)):
            if name in rates:
                yield Result("P1", f"answers a second / {name}", ratio(rates, "runtime", name), "", least, "least")
                yield Result("P1", f"CPU of {name} / ours", ratio(costs, name, "runtime"))
        for parts, goal in VARIANTS.items():
            share = 100 * (1 - ratio(costs, f"without {parts}", "runtime"))
            yield Result("P7", f"CPU for {parts.replace(',', ' and ')}", round(share, 1), "%", goal)

    def paced(self) -> Iterator[Result]:
        """P2: paced streams."""
        ours, theirs = load.Streams(), load.Streams()
        cpu = 0.0
        with (
            peers.runtime(settings_file=self.settings, max_running=MANY_STREAMS) as server,
            peers.bare(self.answer, PACE) as bare,
        ):
            lasts = len(REPLY.split()) * 1.3 / PACE  # tokens are a little shorter than words
            for _ in range(1 if self.quick else 3):
                before = server.cpu_seconds()
                add(ours, uvloop.run(load.streams(server.port, STREAMS, PACE, lasts)))
                cpu += server.cpu_seconds() - before
                add(theirs, uvloop.run(load.streams(bare.port, STREAMS, PACE, lasts)))
            before = server.cpu_seconds()
            many = uvloop.run(load.streams(server.port, MANY_STREAMS, PACE, lasts))
            many_cpu = server.cpu_seconds() - before
        first, late = percentile(ours.first, 99), percentile(ours.late, 99)
        yield Result("P2", f"first chunk, p99, {STREAMS} streams", round(first * 1000, 1), "ms")
        bound = first / percentile(theirs.first, 99)
        yield Result("P2", f"first chunk, p99, {STREAMS} streams / bare aiohttp", round(bound, 2), "", 1.5)
        yield Result("P2", f"chunk behind its time, p99, {STREAMS} streams", round(late * 1000, 1), "ms")
        bare_late = round(percentile(theirs.late, 99) * 1000, 1)
        yield Result("P2", f"chunk behind its time, p99, {STREAMS} streams, bare aiohttp", bare_late, "ms")
        cost, many_cost = cpu / ours.chunks, many_cpu / many.chunks
        yield Result("P2", f"CPU of a chunk, {STREAMS} streams", round(cost * 1e6, 1), "µs")
        yield Result("P2", f"CPU of a chunk, {MANY_STREAMS} / {STREAMS} streams", round(many_cost / cost, 2), "", 1.5)
        yield Result("P2", f"streams lost of {MANY_STREAMS}", MANY_STREAMS - many.complete, "", 0)

    def refusals(self) -> Iterator[Result]:
        """L1: how quickly those are refused who are too many."""
        slots = 20
        capacity = slots * PACE / (len(REPLY.split()) * 1.1)
        with peers.runtime(settings_file=self.settings, max_running=slots, max_queue=slots) as server:
            found = uvloop.run(load.overload(server.port, max(10 * capacity, 200), 3 if self.quick else 10))
        value = percentile(found.refusals, 99) * 1000
        yield Result("L1", "refusal at ten times the capacity, p99", round(value, 1), "ms", 50)

    def starts(self) -> Iterator[Result]:
        """P6: from the start of a process to its first `/readyz` that says yes; medians."""
        walls, cpus = [], []
        for _ in range(3 if self.quick else 7):
            begun = time.monotonic()
            with RuntimeProcess() as process:
                until_ready(process)
                walls.append(time.monotonic() - begun)
                cpus.append(Server("", process.pid, 0).cpu_seconds())
        yield Result("P6", "start to ready, wall", round(statistics.median(walls), 2), "s", 2)
        yield Result("P6", "start to ready, CPU", round(statistics.median(cpus), 2), "s", 1)

    def memory(self) -> Iterator[Result]:
        """P5 and L2: resident memory."""
        with RuntimeProcess(settings_file=self.settings, queue_seconds=60) as process:
            until_ready(process)
            process.ask(max_tokens=1)
            yield Result("P5", "resident memory, idle", round(resident(process.pid), 1), "MiB", 56)
            streaming = asyncio.run(highest(process, STREAMS))
            yield Result("P5", f"resident memory, {STREAMS} streams", round(streaming, 1), "MiB", 72)
        slots, waiting = 10, 400
        with RuntimeProcess(settings_file=self.settings, max_running=slots, queue_seconds=60) as process:
            process.ask(max_tokens=1)
            before = resident(process.pid)
            queued = asyncio.run(highest(process, slots + waiting, until_queued=waiting)) - before
            yield Result("L2", "resident memory of a request that waits", round(1024 * queued / waiting, 1), "KiB")


def add(total: load.Streams, more: load.Streams) -> None:
    """Adds one run to others."""
    total.first += more.first
    total.late += more.late
    total.chunks += more.chunks
    total.complete += more.complete


def until_ready(process: RuntimeProcess) -> None:
    """Waits for readiness."""
    until(lambda: process.internal("/readyz").status == 200, "ready")


def measure(*, quick: bool, only: Sequence[str]) -> list[Result]:
    """All results, or those of the named parts."""
    os.sched_setaffinity(0, peers.LOAD_CORE)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), quick=quick)
        return [result for part in only or PARTS for result in PARTS[part](bench)]


PARTS: dict[str, Callable[[Bench], Iterator[Result]]] = {
    "whole": Bench.whole,
    "paced": Bench.paced,
    "refusals": Bench.refusals,
    "starts": Bench.starts,
    "memory": Bench.memory,
    "hosted": lambda bench: bench.hosted.whole(),
    "hosted-streams": lambda bench: bench.hosted.streams(),
    "hosted-memory": lambda bench: bench.hosted.memory(),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and reports; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="bench.runtime", description=__doc__)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=(), help="some parts")
    parser.add_argument("--save", action="store_true", help="keep the results for docs/performance.md")
    arguments = parser.parse_args(argv)
    results = measure(quick=arguments.quick, only=arguments.only)
    if arguments.save:
        from bench.runtime_report import keep

        keep(results)
    if arguments.output == "json":
        print(json.dumps([asdict(result) | {"met": result.met} for result in results]))
    else:
        for r in results:
            goal = "" if r.goal is None else f"(goal: at {r.side} {r.goal:g})  {'ok' if r.met else 'MISSED'}"
            print(f"{r.id} {r.what:<58} {r.value:>8g} {r.unit:<4} {goal}")
    return 0 if all(result.met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
