"""Measures phase hf: what the runtime takes and adds between its clients and a provider, beside what else passes on.

The provider's stand-in runs on the load generator's core, the server that is measured on the other.
"""

import asyncio
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench import runtime_load as load
from bench import runtime_peers as peers
from bench import runtime_through as through
from bench.runtime_figures import Result, percentile, ratio, resident
from bench.runtime_memory import highest
from bench.runtime_peers import Server, Unavailable
from bench.runtime_rounds import rounds
from tests.support.runtime_process import RuntimeProcess, until

CLIENTS, STREAMS = 50, 500
PACE, SPREAD = 10.0, 2.0
"""Tokens a second of each stream; seconds over which the streams begin."""
GOALS = {"AsyncInferenceClient": 5.0, "starlette + httpx": 5.0, "Go ReverseProxy": 0.4}
"""Requests for each CPU second, as a multiple of the peer's."""
DIRECT = "direct"


class HostedBench:
    """How much is measured, and what the provider answers."""

    def __init__(self, answer: Path, *, rounds: int, seconds: float, quick: bool) -> None:
        self._answer, self._folder = answer, answer.parent
        self._rounds, self._seconds = rounds, seconds
        self._tokens, self._stream_rounds = (50, 1) if quick else (80, 3)

    def whole(self) -> Iterator[Result]:
        """P3: whole answers, 50 clients."""
        with self._provider() as provider, through.all_of(provider, self._folder) as servers:
            found = rounds([provider, *servers], CLIENTS, self._rounds, self._seconds)
        ours = through.OURS
        for server in servers:
            if server.name == ours:
                continue
            cost = ratio(found.costs, server.name, ours)
            yield Result(
                "P3", f"requests for each CPU second / {server.name}", cost, "", GOALS.get(server.name), "least"
            )
            yield Result("P3", f"requests a second / {server.name}", ratio(found.rates, ours, server.name))
        yield Result("P3", "CPU of a request that is passed on", found.micros(ours), "µs")
        for server in (provider, *servers):
            yield Result("P3", f"requests a second, {server.name}", found.rate(server.name), "1/s")

    def streams(self) -> Iterator[Result]:
        """P4: paced streams, each server fresh for its turn."""
        found: dict[str, list[_Streamed]] = defaultdict(list)
        with self._provider() as provider:
            for _ in range(self._stream_rounds):
                found[DIRECT].append(self._streamed(provider))
                for name, start in through.SERVERS.items():
                    if name == "litellm":  # it takes longer to start than all others to be measured
                        continue
                    try:
                        with start(provider, self._folder) as server:
                            found[name].append(self._streamed(server))
                    except Unavailable as error:
                        print(f"{name} is left out: {error}", file=sys.stderr)
        for name in found:
            yield from _told(name, found)

    def memory(self) -> Iterator[Result]:
        """P5: resident memory."""
        with self._provider() as provider:
            with peers.on_core(peers.SERVER_CORE):
                process = RuntimeProcess("chatbot_runtime", **through.hosted_settings(provider, self._folder))
            with process:
                until(lambda: process.internal("/readyz").status == 200, "ready")
                process.ask(max_tokens=1)
                yield Result("P5", "resident memory, phase hf, idle", round(resident(process.pid), 1), "MiB", 96)
                streaming = asyncio.run(highest(process, STREAMS))
                yield Result("P5", f"resident memory, phase hf, {STREAMS} streams", round(streaming, 1), "MiB", 96)

    def _provider(self) -> AbstractContextManager[Server]:
        return through.upstream(self._answer, PACE, self._tokens)

    def _streamed(self, server: Server) -> "_Streamed":
        lasts, before = self._tokens / PACE, server.cpu_seconds()
        within = SPREAD + 2 * lasts + 5
        found = uvloop.run(load.streams(server.port, STREAMS, PACE, SPREAD, within))
        cpu = server.cpu_seconds() - before
        # All streams run between the begin of the last and the end of the first one.
        chunks = found.between(SPREAD + 0.2, lasts - 0.1)
        first = percentile(found.first, 99) if found.first else within
        return _Streamed(chunks, first, STREAMS - found.complete, cpu / max(1, found.chunks))


@dataclass(frozen=True)
class _Streamed:
    """One run of streams: chunks while all ran, p99 of the first chunk in seconds, streams lost, CPU of a chunk."""

    chunks: int
    first: float
    lost: int
    cpu: float


def _told(name: str, found: Mapping[str, Sequence[_Streamed]]) -> Iterator[Result]:
    """What is said of one server; goals are the runtime's."""
    runs, direct, ours = found[name], found[DIRECT], found[through.OURS]
    if name == DIRECT:
        first = statistics.median(run.first for run in runs)
        yield Result("P4", f"first chunk, p99, {STREAMS} streams, {name}", round(1000 * first, 1), "ms")
        return
    goals = (99, 50, 0) if name == through.OURS else (None, None, None)
    pairs = list(zip(runs, direct, strict=True))
    share = 100 * statistics.median(run.chunks / bound.chunks for run, bound in pairs)
    added = 1000 * statistics.median(run.first - bound.first for run, bound in pairs)
    lost = max(run.lost for run in runs)
    yield Result("P4", f"share of the chunks that the provider offers, {name}", round(share, 1), "%", goals[0], "least")
    yield Result("P4", f"added to the first chunk, p99, {STREAMS} streams, {name}", round(added, 1), "ms", goals[1])
    yield Result("P4", f"streams lost of {STREAMS}, {name}", lost, "", goals[2])
    if name == through.OURS:
        yield Result("P4", "CPU of a chunk", round(1e6 * statistics.median(run.cpu for run in runs), 1), "µs")
    else:
        cost = statistics.median(run.cpu / own.cpu for run, own in zip(runs, ours, strict=True))
        yield Result("P4", f"CPU of a chunk, {name} / ours", round(cost, 2))
