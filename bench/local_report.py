"""The part of docs/performance.md about phase local, made of what `bench.local` has kept. It measures nothing."""

import json
import os
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bench.report import FOLDER, machine

NAME = "local"
TEXT = """## A private model

A tiny model in llama.cpp's own server on a real node; the Hub is a stand-in in the cluster. A switch begins with the
edit of `spec.phase` and ends with the first answer of the model; weights were fetched ahead.

| | median | longest | goal |
| --- | ---: | ---: | ---: |
| from the edit to the model's first answer, s | {switch:.1f} | {switch_most:.1f} | |
| of that, without the engine's own start and loading, s | {beside:.1f} | {beside_most:.1f} | 10 |
| a pod that was deleted is replaced and answers, without the Hub, s | {restart:.1f} | {restart_most:.1f} | |
| age of the progress in the status while a download runs, s | {age:.1f} | {age_most:.1f} | 12 |

Requests at the Hub during {rounds} switches and restarts: {asked}.

Taken {taken} on {machine}, load average {load:.1f}, by `python -m bench.local --save`. The downloader beside curl is
measured by `python -m bench.download`.

### What these numbers do not say

- A real model takes minutes to load, which nobody can shorten here; that is why the engine's own time is taken off. It
  is known in whole seconds only.
- Everything runs on one small machine that the cluster itself keeps busy.
"""


def keep(results: Mapping[str, Any]) -> None:
    """Write the kept results."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    document = {"taken": datetime.now(UTC).date().isoformat(), "machine": machine(), "load": os.getloadavg()[2]}
    (FOLDER / f"{NAME}.json").write_text(json.dumps({**document, "results": results}) + "\n")


def section() -> str:
    """The part of the page."""
    data = json.loads((FOLDER / f"{NAME}.json").read_text())
    results = data["results"]
    beside = [s - load for s, load in zip(results["switches"], results["loads"], strict=True)]
    columns = {
        "switch": results["switches"],
        "beside": beside,
        "restart": results["restarts"],
        "age": results["progress_ages"],
    }
    figures = {name: statistics.median(values) for name, values in columns.items()}
    figures |= {f"{name}_most": max(values) for name, values in columns.items()}
    return TEXT.format(
        **figures,
        rounds=len(results["switches"]),
        asked=results["asked_while_restarting"],
        taken=data["taken"],
        machine=data["machine"],
        load=data["load"],
    )
