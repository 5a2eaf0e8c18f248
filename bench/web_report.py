"""The page's part of docs/performance.md, made of what `bench.web` has kept. It measures nothing."""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bench.report import FOLDER, machine

NAME = "web"
TEXT = """## The page

| | measured | goal, at most | share of it | |
| --- | ---: | ---: | ---: | --- |
{rows}

Headless Chromium and nginx with the configuration that ships, on loopback. Taken {taken} on {machine}, load average
{load:.1f}, by `python -m bench.web --save`. The page's initial JavaScript is bounded by a test: 140 kB, gzipped.

### What these numbers do not say

- Nothing of a network: all is on loopback.
- Painting is done by the processor here; a graphics card takes most of it.
"""


def keep(figures: Sequence[Mapping[str, Any]]) -> None:
    """Write the kept results."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    document = {"taken": datetime.now(UTC).date().isoformat(), "machine": machine(), "load": os.getloadavg()[2]}
    (FOLDER / f"{NAME}.json").write_text(json.dumps({**document, "figures": list(figures)}, indent=1) + "\n")


def section() -> str:
    """The part of the page."""
    data = json.loads((FOLDER / f"{NAME}.json").read_text())
    rows = "\n".join(map(_row, data["figures"]))
    return TEXT.format(rows=rows, taken=data["taken"], machine=data["machine"], load=data["load"])


def _row(figure: Mapping[str, Any]) -> str:
    value, goal, unit = figure["value"], figure["goal"], figure["unit"]
    share = f"{value / goal:.0%}" if goal else "-"
    return f"| {figure['name']} | {value:.3g} {unit} | {goal:g} {unit} | {share} | {figure['note']} |"
