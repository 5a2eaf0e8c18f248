"""The autoscaling part of docs/performance.md, made of what `bench.autoscaling` has kept. It measures nothing."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bench.report import FOLDER, machine, plot

NAME = "autoscaling"
TEXT = """## Pods follow the load

One mock chatbot with its page on a real node; {clients} clients in a pod beside it ask for whole answers through the
page, each as soon as it has the one before; before and after that there is one client. The autoscalers are those that
the operator makes, with their defaults.

![Pods, answers and latency over time](performance/autoscaling.svg)

| | |
| --- | ---: |
| answers | {answers} |
| of them failed | {failed} |
| backend pods, from / most / at the end | {backend} |
| page pods, from / most / at the end | {web} |
| numbers of pods set by the operator meanwhile | {scaled} |
| other writes of the operator meanwhile (status: counts of pods) | {writes} |

Taken {taken} on {machine}, load average {load:.1f}, by `python -m bench.autoscaling --save`.

### What these numbers do not say

- Clients, nginx, backend and the whole cluster share the machine's cores: more pods cannot make it faster here, and a
  pod that starts makes the others slower for a moment. What is shown is that nothing is lost and nobody fights.
- The development cluster's autoscalers look every 5 s and take pods away after 10 s with less load. Those of Kubernetes
  look every 15 s and wait for five minutes, unless told otherwise.
"""


def keep(course: Mapping[str, Any]) -> None:
    """Write the kept results."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    document = {"taken": datetime.now(UTC).date().isoformat(), "machine": machine(), "load": os.getloadavg()[2]}
    (FOLDER / f"{NAME}.json").write_text(json.dumps({**document, "course": course}) + "\n")


def section() -> str:
    """The part of the page; draws the plot."""
    data = json.loads((FOLDER / f"{NAME}.json").read_text())
    course = data["course"]
    pods = course["pods"]
    plot(
        NAME,
        "seconds",
        [
            ("ready pods", {"backend": pods["backend"], "page": pods["web"]}),
            ("answers a second", {"all": course["rates"]}),
            ("latency, ms", {"median": course["median"], "p99": course["slow"]}),
        ],
        marker="",
    )
    spans = {part: f"{c[0][1]} / {max(n for _, n in c)} / {c[-1][1]}" for part, c in pods.items()}
    return TEXT.format(
        clients=max(count for _, count in course["clients"]),
        answers=course["answers"],
        failed=course["failed"],
        scaled=course["scaled_by_us"],
        writes=course["writes"] - course["scaled_by_us"],
        taken=data["taken"],
        machine=data["machine"],
        load=data["load"],
        **spans,
    )
