"""The runtime's part of docs/performance.md, made of what a run of `bench.runtime` has kept. It measures nothing."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bench.report import FOLDER, machine
from bench.runtime_figures import Result

NAME = "runtime"
TEXT = """## The runtime

Measured {taken} on {machine}; load average over the last 15 minutes {load:.1f}. The servers share one core, the load
generator has another; rounds of all servers take turns, ratios are medians over the rounds.

![CPU of one answer, as a multiple of the bare handler's](performance/runtime.svg)

| goal | measured | value | goal is | |
|---|---|---|---|---|
{rows}

The bare handler is aiohttp, uvloop and orjson without checks, limits, metrics or log: it parses the same body and
returns the same bytes. FastAPI has the runtime's duties. litellm is its proxy with `mock_response`. {absent}

What these numbers do not say:

- Nothing of a language model: the mock answers at once, so they bound what the runtime itself adds.
- Nothing of a network: all is on loopback, and the load generator is Python too; it may limit the faster servers, so
  the ratios of CPU say more than those of answers a second.
- Other work on the machine slows all servers, but not equally; a load average well above 0 makes every figure here
  worse than on an idle machine, those of latency most.
"""


def keep(results: Sequence[Result]) -> None:
    """Write what was measured, and the part of the page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    data = {"taken": datetime.now(UTC).date().isoformat(), "machine": machine(), "load": os.getloadavg()[2]}
    path = FOLDER / f"{NAME}.json"
    path.write_text(json.dumps(data | {"results": [asdict(r) for r in results]}, indent=1) + "\n")
    path.with_suffix(".md").write_text(section())


def section() -> str:
    """The part of the page; draws its plot beside."""
    data = json.loads((FOLDER / f"{NAME}.json").read_text())
    results = [Result(**result) for result in data["results"]]
    draw(results)
    measured = " ".join(r.what for r in results)
    absent = [name for name in ("FastAPI", "litellm") if name not in measured]
    return TEXT.format(
        rows="\n".join(_row(r) for r in sorted(results, key=lambda r: (r.id, r.goal is None))),
        absent=f"Not installed for this run: {', '.join(absent)}." if absent else "",
        **{key: data[key] for key in ("taken", "machine", "load")},
    )


def _row(r: Result) -> str:
    goal = "" if r.goal is None else f"at {r.side} {r.goal:g} {r.unit}".strip()
    verdict = "" if r.goal is None else "met" if r.met else "**missed**"
    return f"| {r.id} | {r.what} | {r.value:g} {r.unit} | {goal} | {verdict} |"


def costs(results: Sequence[Result]) -> dict[str, float]:
    """CPU of an answer of each server, as a multiple of the bare handler's."""
    found = {r.what: r.value for r in results}
    ours = 1 / found["CPU of bare aiohttp / ours"]
    values = {"bare aiohttp": 1.0, "runtime": ours}
    for name in ("FastAPI", "litellm"):
        if (what := f"CPU of {name} / ours") in found:
            values[name] = ours * found[what]
    return values


def draw(results: Sequence[Result]) -> None:
    """The plot: a bar for each server. The same data gives the same file."""
    import matplotlib as mpl  # here: half a second, which only a report needs

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": NAME, "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    values = costs(results)
    figure, panel = pyplot.subplots(figsize=(6.8, 2.0), layout="constrained")
    bars: Any = panel.barh(list(values), list(values.values()))
    panel.bar_label(bars, fmt="%.1f", padding=3)
    panel.set_xscale("log")
    panel.set_xlim(right=2 * max(values.values()))
    panel.set_xlabel("CPU of one answer / bare aiohttp's (logarithmic)")
    panel.invert_yaxis()
    figure.savefig(FOLDER / f"{NAME}.svg", metadata={"Date": None})
    pyplot.close(figure)
