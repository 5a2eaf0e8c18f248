"""The operator's part of docs/performance.md, made of what a run of `scale` has kept. It measures nothing."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bench.report import FOLDER, machine, plot
from bench.scale import Fleet

NAME = "operator"
Row = tuple[str, str, Callable[[Fleet], float]]
ROWS: tuple[Row, ...] = (
    ("CPU of the operator for each chatbot", "ms", lambda f: f.cpu_ms),
    ("calls for each chatbot", "", lambda f: f.calls["writes"] + f.calls["gets"]),
    ("apply of the first until the last is Ready", "s", lambda f: f.seconds_to_ready),
    ("one change among them, median", "ms", lambda f: f.change(0.5) * 1000),
    ("one change among them, 99th percentile", "ms", lambda f: f.change(0.99) * 1000),
    ("resident memory", "MiB", lambda f: f.rss_mib),
    ("CPU with all settled, share of a core", "%", lambda f: f.settled_cpu_percent),
    ("writes after a restart", "", lambda f: f.restart_writes),
)


def keep(fleets: Sequence[Fleet]) -> None:
    """Write what was measured."""
    FOLDER.mkdir(exist_ok=True)
    data = {"taken": datetime.now(UTC).date().isoformat(), "machine": machine(), "load": os.getloadavg()[0]}
    path = FOLDER / f"{NAME}.json"
    path.write_text(json.dumps(data | {"fleets": [asdict(f) for f in fleets]}, indent=1) + "\n")


def section() -> str:
    """The part of the page; draws its plot beside."""
    data = json.loads((FOLDER / f"{NAME}.json").read_text())
    fleets = [Fleet(**fleet) for fleet in data["fleets"]]
    ours = {f.count: f for f in fleets if f.operator == "ours"}
    stock = {f.count: f for f in fleets if f.operator == "stock"}
    draw(ours, stock)
    both = sorted(ours.keys() & stock.keys())
    every = sorted(ours.keys() | stock.keys())
    bare = ("a bare Kopf that is told of the same events", "ms", lambda f: f.kopf_cpu_ms)
    bounds = [[f"{n} / bare Kopf", *(_bound(f, c) for c in every)] for n, f in (("ours", ours), ("stock", stock))]
    return TEXT.format(
        ratios=table(["stock / ours", *(f"{n}" for n in both)], [_ratios(row, ours, stock, both) for row in ROWS]),
        values=table(
            ["", *(f"ours, {n}" for n in sorted(ours)), *(f"stock, {n}" for n in sorted(stock))],
            [_values(row, ours, stock) for row in (ROWS[0], bare, *ROWS[1:])],
        ),
        bounds=table(["CPU for each chatbot", *map(str, every)], bounds),
        taken=data["taken"],
        machine=data["machine"],
        load=f"{data['load']:.0f}",
        growth=_growth(ours),
    )


def _ratios(row: Row, ours: dict[int, Fleet], stock: dict[int, Fleet], counts: Sequence[int]) -> list[str]:
    what, _, value = row
    return [what, *(_ratio(value(stock[n]), value(ours[n])) for n in counts)]


def _ratio(one: float, other: float) -> str:
    return f"{one / other:.1f} x" if other else ("-" if not one else f"{one:g} : 0")


def _bound(fleets: dict[int, Fleet], count: int) -> str:
    return _ratio(fleets[count].cpu_ms, fleets[count].kopf_cpu_ms) if count in fleets else ""


def _values(row: Row, ours: dict[int, Fleet], stock: dict[int, Fleet]) -> list[str]:
    what, unit, value = row
    shown = [ours[n] for n in sorted(ours)] + [stock[n] for n in sorted(stock)]
    return [
        f"{what}, {unit}" if unit else what,
        *(f"{value(f):.3g}" if value(f) < 1000 else f"{value(f):.0f}" for f in shown),
    ]


def _growth(ours: dict[int, Fleet]) -> str:
    least, most = ours[min(ours)], ours[max(ours)]
    if least is most:
        return f"Only {most.count} chatbots were measured: how cost grows with their number is not said here."
    each = (most.rss_mib - least.rss_mib) / (most.count - least.count) * 1024
    return (
        f"From {least.count} to {most.count} chatbots the CPU for each goes from {least.cpu_ms:.0f} to "
        f"{most.cpu_ms:.0f} ms, and each takes {each:.0f} KiB of memory."
    )


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def draw(ours: dict[int, Fleet], stock: dict[int, Fleet]) -> None:
    """CPU, memory and latency against the number of chatbots."""
    panels: list[tuple[str, Callable[[Fleet], float]]] = [
        ("CPU for each chatbot, ms", lambda f: f.cpu_ms),
        ("resident memory, MiB", lambda f: f.rss_mib),
        ("one change, 99th percentile, ms", lambda f: f.change(0.99) * 1000),
    ]
    lines = {"ours": ours, "stock": stock}
    plot(
        NAME,
        "chatbots",
        [(title, {n: [(c, v(f[c])) for c in sorted(f)] for n, f in lines.items()}) for title, v in panels],
    )


TEXT = """## Operator

Many mock chatbots are created at once on fake nodes, beside a stock Kopf operator of the usual style
([bench/stock_operator.py](../bench/stock_operator.py): create-if-missing handlers, the synchronous client, the same
children), each on a fresh control plane in the same run. Above 1 x, ours is better.

{ratios}

Beside each ran a bare Kopf ([bench/bare_kopf.py](../bench/bare_kopf.py)): our set-up of its watches, and handlers that
do nothing. No operator on Kopf's watches can use less CPU than that.

{bounds}

![CPU for each chatbot, memory and latency against the number of chatbots](performance/operator.svg)

{values}

{growth}

Calls are reads and writes of single objects, from the audit log. CPU is the process's own, from before the
first create until it has had nothing to do for eight seconds, without what it uses idle in that time. A change is an
edit of one prompt, from its receipt by the API server until the answer to the operator's write of the ConfigMap.

Taken {taken} on {machine}, load average {load}, by `python -m bench.operator --only scale --save`.

### What these numbers do not say

- The stock operator does less: no repair of edits by hand, no lease, no conditions but Ready, no check that a name is
  somebody else's, no question to the pods. Its way to a Ready is shorter by that.
- etcd, API server, controllers, scheduler and fake nodes share the machine's cores with the operator: the time until
  all are Ready is mostly theirs, and a process that is woken often on a busy machine uses more CPU than on an idle one.
- The Chatbots have no chat page (`web.enabled: false`), so that both operators make the same children; a page is seven
  more objects.
- Fake nodes start a pod at once and run nothing. Phases other than mock, and pods that fail, cost other amounts.
- One run on one machine; read the ratios, not the milliseconds.
"""
