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

Measured {taken} on {machine}; load average over the last 15 minutes {load:.1f}. The server that is measured has one
core; the load generator, and in phase hf the provider's stand-in, share the other. Rounds of all servers take turns,
ratios are medians over the rounds.

![CPU of one answer, as a multiple of the bare handler's](performance/runtime.svg)

### Phase mock, and the process

{mock}

The bare handler is aiohttp, uvloop and orjson without checks, limits, metrics or log: it parses the same body and
returns the same bytes. FastAPI has the runtime's duties. litellm is its proxy with `mock_response`.{absent_mock}

### Phase hf: passing on a provider's answers

{hosted}

P3: whole answers to 50 clients, from a provider that answers at once (`direct` is that provider itself, the bound of
these requests a second). Above 1, ours is better. P4: 500 streams of ten tokens a second each, begun within two
seconds; the share is of the chunks that came from the provider directly in the same time, and what is added is the
99th percentile's difference to direct. Each server was started anew for its streams.

The runtime checks, limits, counts and logs each request, parses what the provider sends and writes it anew. None of
the others does: the bare aiohttp handler parses the question and passes on bytes; AsyncInferenceClient is behind the
same server, with its limits of connections taken away (by itself it keeps 20 and has at most 100); starlette with
httpx, Go's `httputil.ReverseProxy` and nginx (one process, no buffering, no access log) pass on bytes. litellm is its
proxy with one model at that address, in P3 only.{absent_hosted}

### What these numbers do not say

- Nothing of a language model: the mock and the provider's stand-in answer at once, so they bound what the runtime
  itself adds. Beside the seconds of a real answer all of it is small.
- Nothing of a network or of TLS: all is on loopback, and the load generator is Python too; it may limit the faster
  servers (Go, nginx), so the ratios of CPU say more than those of answers a second.
- A server that waits now and then works in smaller batches, and so needs more CPU for a request than under full load.
- Two processes of the same code differ by up to a tenth in CPU, by how their memory lies: smaller differences between
  rows, those of P7 too, mean nothing.
- Other work on the machine slows all servers, but not equally; a load average well above 0 makes every figure here
  worse than on an idle machine, those of latency most.
"""
MOCK_PEERS = ("FastAPI", "litellm")
HOSTED_PEERS = ("AsyncInferenceClient", "starlette + httpx", "Go ReverseProxy", "nginx", "litellm")


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
    hosted = [r for r in results if _is_hosted(r)]
    mock = [r for r in results if not _is_hosted(r)]
    return TEXT.format(
        mock=_table(mock),
        hosted=_table(hosted),
        absent_mock=_absent(MOCK_PEERS, mock),
        absent_hosted=_absent(HOSTED_PEERS, hosted),
        **{key: data[key] for key in ("taken", "machine", "load")},
    )


def _is_hosted(r: Result) -> bool:
    return r.id in ("P3", "P4") or "phase hf" in r.what


def _absent(names: Sequence[str], results: Sequence[Result]) -> str:
    measured = " ".join(r.what for r in results)
    absent = [name for name in names if name not in measured]
    return f" Not to be had for this run: {', '.join(absent)}." if absent else ""


def _table(results: Sequence[Result]) -> str:
    """Goals first, then ratios, then the rest; in the order of measuring otherwise."""
    rows = sorted(results, key=lambda r: (r.id, r.goal is None, r.unit != ""))
    return "\n".join(("| goal | measured | value | goal is | |", "|---|---|---:|---|---|", *map(_row, rows)))


def _row(r: Result) -> str:
    goal = "" if r.goal is None else f"at {r.side} {r.goal:g} {r.unit}".strip()
    verdict = "" if r.goal is None else "met" if r.met else "**missed**"
    return f"| {r.id} | {r.what} | {r.value:g} {r.unit} | {goal} | {verdict} |"


def costs(results: Sequence[Result]) -> dict[str, float]:
    """Mock: CPU of an answer of each server, as a multiple of the bare handler's."""
    found = {r.what: r.value for r in results}
    ours = 1 / found["CPU of bare aiohttp / ours"]
    others = {name: found.get(f"CPU of {name} / ours") for name in MOCK_PEERS}
    return {"bare aiohttp": 1.0, "runtime": ours} | {name: ours * other for name, other in others.items() if other}


def hosted_costs(results: Sequence[Result]) -> dict[str, float]:
    """Phase hf: the same, of a request that is passed on."""
    mark = "requests for each CPU second / "
    found = {r.what.removeprefix(mark): r.value for r in results if r.what.startswith(mark)}
    bare = found["bare aiohttp"]
    values = {"runtime": 1.0} | found
    return {name: value / bare for name, value in sorted(values.items(), key=lambda item: item[1])}


def draw(results: Sequence[Result]) -> None:
    """The plot: a bar for each server. The same data gives the same file."""
    import matplotlib as mpl  # here: half a second, which only a report needs

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": NAME, "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9.0, 2.6), layout="constrained")
    for panel, title, values in (
        (panels[0], "mock", costs(results)),
        (panels[1], "hf, passed on", hosted_costs(results)),
    ):
        bars: Any = panel.barh(list(values), list(values.values()))
        panel.bar_label(bars, fmt="%.2g", padding=3)
        panel.set_title(title)
        panel.set_xscale("log")
        panel.set_xlim(right=3 * max(values.values()))
        panel.set_xlabel("CPU of one answer / bare aiohttp's (logarithmic)")
        panel.invert_yaxis()
    figure.savefig(FOLDER / f"{NAME}.svg", metadata={"Date": None})
    pyplot.close(figure)
