"""Whole answers of several servers that take turns: how many a second, and at which cost. It must not know which."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

from bench import runtime_load as load
from bench.runtime_peers import Server

SLOW = ("litellm",)
"""Servers that need a long first round to warm up."""


@dataclass
class Rounds:
    """Answers a second, and CPU seconds of an answer, of each server in each round."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    costs: dict[str, list[float]] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """The median of a server's answers a second."""
        return round(statistics.median(self.rates[name]))

    def micros(self, name: str) -> float:
        """The median of a server's CPU of an answer, in microseconds."""
        return round(statistics.median(self.costs[name]) * 1e6)


def rounds(servers: Sequence[Server], clients: int, count: int, seconds: float) -> Rounds:
    """So many rounds of so many seconds of each server; one before them only warms up."""
    found = Rounds({server.name: [] for server in servers}, {server.name: [] for server in servers})
    for number in range(count + 1):
        for server in servers:
            before = server.cpu_seconds()
            lasts = seconds if number or server.name in SLOW else 0.5
            answers = uvloop.run(load.whole(server.port, clients, lasts))
            if number:
                found.rates[server.name].append(answers.per_second)
                found.costs[server.name].append((server.cpu_seconds() - before) / len(answers.latencies))
    return found
