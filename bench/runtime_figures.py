"""Measured values: with a goal, as ratios, at percentiles; memory of a process. It must not know what is measured."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Result:
    """One measured value and its goal, if it has one: `least` or `most` it may be."""

    id: str
    what: str
    value: float
    unit: str = ""
    goal: float | None = None
    side: Literal["least", "most"] = "most"

    @property
    def met(self) -> bool:
        """Whether the goal is met; without a goal it is."""
        if self.goal is None:
            return True
        return self.value <= self.goal if self.side == "most" else self.value >= self.goal


def ratio(values: Mapping[str, Sequence[float]], above: str, below: str) -> float:
    """The median over the rounds of one server's value by another's."""
    pairs = zip(values[above], values[below], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 2)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed."""
    return sorted(values)[max(0, -(-len(values) * int(percent) // 100) - 1)]


def resident(pid: int) -> float:
    """Resident memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024
