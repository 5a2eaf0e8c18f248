"""Turns kubelets' resource metrics into CPU rates and memory figures per pod and node. Pure; it must not ask anyone.

The rate is taken between two different timestamps of the measurement itself: a kubelet refreshes a quiet container only
every 14 to 17 s, so most scrapes bring nothing new.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# (kind, namespace, name), where kind is "pod" or "node" and a node has no namespace.
Owner = tuple[str, str, str]

_LINE = re.compile(r"^(\w+?)(?:\{(.*)\})? ([0-9.eE+-]+) (\d+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Usage:
    """What one container or node uses: cores, bytes, and when that was measured (seconds since the epoch)."""

    cpu: float
    memory: float
    at: float


@dataclass(frozen=True)
class Sample:
    """One line of a kubelet's /metrics/resource that concerns a container or the node; `at` in milliseconds."""

    owner: Owner
    container: str
    metric: str
    value: float
    at: int


def parse(text: str, node: str) -> Iterator[Sample]:
    """The samples of containers and of the node in a kubelet's answer; all other lines are skipped."""
    for line in text.splitlines():
        if not (match := _LINE.match(line)):
            continue
        labels = dict(_LABEL.findall(match[2] or ""))
        prefix, _, metric = match[1].partition("_")
        if prefix == "container" and {"namespace", "pod", "container"} <= labels.keys():
            owner = ("pod", labels["namespace"], labels["pod"])
            yield Sample(owner, labels["container"], metric, float(match[3]), int(match[4]))
        elif prefix == "node":
            yield Sample(("node", "", node), "", metric, float(match[3]), int(match[4]))


@dataclass
class _Counter:
    seconds: float
    at: int
    rate: float | None = None

    def advance(self, seconds: float, at: int) -> None:
        if seconds < self.seconds:
            self.seconds, self.at, self.rate = seconds, at, None
        elif at > self.at:
            self.rate = (seconds - self.seconds) / ((at - self.at) / 1000)
            self.seconds, self.at = seconds, at


@dataclass
class UsageTable:
    """The latest usage of every container; an owner appears once each of its containers has a rate."""

    _counters: dict[tuple[Owner, str], _Counter] = field(default_factory=dict)
    _usage: dict[Owner, dict[str, Usage]] = field(default_factory=dict)

    def add(self, samples: Iterator[Sample]) -> None:
        """Take in one kubelet's answer."""
        memory: dict[tuple[Owner, str], float] = {}
        seen: dict[Owner, set[str]] = {}
        for sample in samples:
            key = (sample.owner, sample.container)
            seen.setdefault(sample.owner, set()).add(sample.container)
            if sample.metric == "memory_working_set_bytes":
                memory[key] = sample.value
            elif sample.metric == "cpu_usage_seconds_total":
                counter = self._counters.setdefault(key, _Counter(sample.value, sample.at))
                counter.advance(sample.value, sample.at)
        for owner, containers in seen.items():
            parts = {}
            for container in containers:
                known = self._counters.get((owner, container))
                if known is not None and known.rate is not None and (owner, container) in memory:
                    parts[container] = Usage(known.rate, memory[owner, container], known.at / 1000)
            if len(parts) == len(containers):
                self._usage[owner] = parts

    def get(self, owner: Owner) -> dict[str, Usage]:
        """Usage per container, empty if it is not known yet."""
        return self._usage.get(owner, {})

    def forget(self, owner: Owner) -> None:
        self._usage.pop(owner, None)
        for key in [k for k in self._counters if k[0] == owner]:
            del self._counters[key]
