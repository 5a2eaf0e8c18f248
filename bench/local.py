"""Measures phase local on a real node: `python -m bench.local [--rounds N] [--save] [--output json]`.

How long a switch to a model takes that was fetched ahead, how old the progress in the status is, how long a pod takes
to come back without any network. llama.cpp itself with a tiny model; the Hub is a stand-in in the cluster. Exit code 1:
a goal is missed. Figures depend on the machine; run it when the machine has nothing else to do.
"""

import argparse
import json
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import local_report
from bench.scope import node_with_chart
from devcluster.errors import DevClusterError
from devcluster.progress import Progress, for_this_terminal
from tests.support.chatbot import Bot
from tests.support.cluster import make_namespace
from tests.support.load import OPEN_DOOR
from tests.support.model_hub import ModelHub, llama_server, model_hub, reference
from tests.support.operator import wait_for
from tests.support.private import MOCK, answers_of, job, local, pods, say

SWITCH_GOAL, PROGRESS_GOAL = 10.0, 12.0
"""Seconds: beside the engine's own time to load; of the oldest progress that the status shows."""
MODEL = reference("org/tiny")
LOOK_SECONDS = 0.2


@dataclass
class Results:
    """Seconds. `loads`: from the start of the engine's container until its model answers, as its pod says."""

    switches: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    progress_ages: list[float] = field(default_factory=list)
    asked_while_restarting: int = 0
    """Requests at the Hub."""

    @property
    def beside_loading(self) -> float:
        """The longest switch without what the engine itself took."""
        return max(switch - load for switch, load in zip(self.switches, self.loads, strict=True))

    @property
    def oldest_progress(self) -> float:
        return max(self.progress_ages, default=0.0)

    @property
    def ok(self) -> bool:
        offline = self.asked_while_restarting == 0
        return self.beside_loading <= SWITCH_GOAL and self.oldest_progress <= PROGRESS_GOAL and offline


def measure(rounds: int, progress: Progress) -> Results:
    """Everything, on a cluster of its own."""
    results = Results()
    with node_with_chart("local") as access, model_hub(access) as hub:
        engine = llama_server(access)
        with make_namespace(access, "switch") as namespace, progress.step("switches and restarts", usual=30 * rounds):
            switch_and_restart(Bot(access, namespace), hub, engine, rounds, results)
        with make_namespace(access, "slow") as namespace, progress.step("progress of a download", usual=60):
            watch_progress(Bot(access, namespace), hub, engine, results)
    return results


def switch_and_restart(bot: Bot, hub: ModelHub, engine: str, rounds: int, results: Results) -> None:
    """From the mock to the model that is here, a pod of it made anew, and back, so many times."""
    one = {"autoscaling": {"maxReplicas": 1}}
    bot.create(mock=MOCK, access=OPEN_DOOR, backend=one, local=local(engine, prefetch=True)).wait_ready(90)
    wait_for("the model is here", lambda: bot.condition("ModelReady").get("reason") == "Downloaded", 90)
    wait_for("the Job has gone", lambda: not job(bot), 60)
    hub.forget()
    for _ in range(rounds):
        results.switches.append(timed(lambda: bot.patch(phase="local"), lambda: answers_of(bot, MODEL, 90)))
        bot.wait_ready(60)
        (pod,) = pods(bot)
        results.loads.append(load_seconds(pod))
        results.restarts.append(restart(bot, pod["metadata"]["name"]))
        bot.patch(phase="mock")
        bot.wait_ready(60)
        wait_for("the mock answers", lambda: say(bot)[0] == "mock", 30)
    results.asked_while_restarting = len(hub.asked())


def restart(bot: Bot, name: str) -> float:
    """Seconds from the end of this pod until another one answers."""

    def there() -> bool:
        ready = [p for p in pods(bot) if p["metadata"]["name"] != name and is_ready(p)]
        return bool(ready) and say(bot)[0] == MODEL

    return timed(
        lambda: bot.kubectl("delete", f"pod/{name}", "--wait=false"),
        lambda: wait_for("another pod answers", there, 90),
    )


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def load_seconds(pod: dict[str, Any]) -> float:
    """The engine's own part of a pod's start, in whole seconds as the API gives times."""
    (engine,) = pod["status"]["initContainerStatuses"]
    (ready,) = (c for c in pod["status"]["conditions"] if c["type"] == "Ready")
    return max(0.0, stamp(ready["lastTransitionTime"]) - stamp(engine["state"]["running"]["startedAt"]))


def stamp(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def timed(begin: Callable[[], object], end: Callable[[], object]) -> float:
    """Seconds from before one call until after the other."""
    begun = time.monotonic()
    begin()
    end()
    return round(time.monotonic() - begun, 2)


def watch_progress(bot: Bot, hub: ModelHub, engine: str, results: Results) -> None:
    """What the status says beside what the downloader itself says, until the download is done."""
    hub.behave(rate=60_000)
    bot.create(mock=MOCK, access=OPEN_DOOR, local=local(engine, "org/slow")).wait_ready(90)
    bot.patch(phase="local")
    wait_for("it says how far it is", lambda: asked(downloader(bot)) is not None, 60)
    told: list[tuple[float, int]] = []
    while (said := asked(downloader(bot))) is not None:
        now = time.monotonic()
        told.append((now, said))
        shown = bot.status().get("download", {}).get("completedBytes", 0)
        since = next((at for at, had in told if had > shown), now)
        results.progress_ages.append(round(now - since, 2))
        time.sleep(LOOK_SECONDS)  # between two looks
    hub.behave()
    answers_of(bot, reference("org/slow"), 90)


def downloader(bot: Bot) -> str:
    """The address of the download's pod; empty if there is none that runs."""
    found = bot.get("pods", "-l", "app.kubernetes.io/component=download")["items"]
    return next((p["status"].get("podIP", "") for p in found if p["status"].get("phase") == "Running"), "")


def asked(address: str) -> int | None:
    """How many bytes it has; None once it does not say so any more."""
    if not address:
        return None
    try:
        with urllib.request.urlopen(f"http://{address}:8001/status", timeout=2) as answer:
            return int(json.load(answer)["completedBytes"])
    except OSError:
        return None


def text(results: Results) -> str:
    """For people."""
    middle = statistics.median
    lines = [
        f"switch to a model that is here        {middle(results.switches):6.1f} s  (median of {len(results.switches)})",
        f"  beside the engine's own loading     {results.beside_loading:6.1f} s  (longest; goal: at most "
        f"{SWITCH_GOAL:g})",
        f"a pod comes back without any network  {middle(results.restarts):6.1f} s  "
        f"({results.asked_while_restarting} requests at the Hub)",
        f"oldest progress in the status         {results.oldest_progress:6.1f} s  (goal: at most {PROGRESS_GOAL:g})",
    ]
    return "\n".join([*lines, "all goals met" if results.ok else "a goal is MISSED"])


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.local", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="keep the results for docs/performance.md")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    arguments = parser.parse_args(argv)
    try:
        results = measure(arguments.rounds, for_this_terminal())
    except DevClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.save:
        local_report.keep(asdict(results))
    print(json.dumps(asdict(results)) if arguments.output == "json" else text(results))
    return 0 if results.ok else 1


if __name__ == "__main__":
    sys.exit(main())
