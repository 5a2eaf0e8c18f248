"""A load comes and goes, and the autoscalers follow it: `python -m bench.autoscaling [--save]`.

A real node with the operator, a mock chatbot with its page, clients in a pod of the same cluster, bounded in number and
time. What is watched: pods of backend and page, answers, latencies, failures, and whether the operator touches a number
of pods while an autoscaler is there.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import autoscaling_report
from bench.scope import node_with_chart
from devcluster.errors import DevClusterError
from devcluster.progress import Progress, for_this_terminal
from tests.support.chatbot import PAGE, Bot, now, operator_calls
from tests.support.cluster import make_namespace
from tests.support.load import OPEN_DOOR, service_url
from tests.support.operator import wait_for

CLIENT = Path(__file__).with_name("autoscaling_client.py")
STAGES = ((1, 0.2, 30), (8, 0, 180), (1, 0.2, 210))
"""Clients, each one's rest between two questions in seconds, and for how many seconds."""
QUICK = ((1, 0.2, 10), (8, 0, 60), (1, 0.2, 60))
WATCH_SECONDS = 2.0
PARTS = ("backend", "web")


@dataclass
class Course:
    """What was seen; times in seconds after the start."""

    pods: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: {part: [] for part in PARTS})
    clients: list[tuple[float, int]] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)
    median: list[tuple[float, float]] = field(default_factory=list)
    slow: list[tuple[float, float]] = field(default_factory=list)
    """Milliseconds: of half of the answers, and of 99 of 100."""
    answers: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)
    scaled_by_us: int = 0
    writes: int = 0


def client_pod(bot: Bot, stages: Sequence[tuple[int, float, float]]) -> None:
    """Start the clients."""
    data = {"client.py": CLIENT.read_text()}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "clients"}, "data": data}
    container = {
        "name": "clients",
        "image": bot.access.images["chatbot-runtime"],
        "command": ["python", "/clients/client.py", service_url(bot), json.dumps(stages)],
        "volumeMounts": [{"name": "clients", "mountPath": "/clients"}],
        "resources": {"requests": {"cpu": "500m"}},
    }
    volume = {"name": "clients", "configMap": {"name": "clients"}}
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "clients"}, "spec": spec}
    bot.access.apply(config, pod, namespace=bot.namespace)
    wait_for("the clients ask", lambda: "at" in bot.kubectl("logs", "clients", check=False), 60)


def watch_pods(bot: Bot, course: Course, begun: float, over: threading.Event) -> None:
    """Note how many pods are ready, again and again."""
    while not over.wait(WATCH_SECONDS):
        items = bot.get("deployments")["items"]
        counts = {d["metadata"]["name"]: d.get("status", {}).get("readyReplicas", 0) for d in items}
        for part in PARTS:
            course.pods[part].append((round(time.time() - begun, 1), counts.get(f"{bot.name}-{part}", 0)))


def read(lines: Sequence[str], course: Course) -> None:
    """What the clients have printed."""
    before = 0.0
    for line in lines:
        said: dict[str, Any] = json.loads(line)
        at, answers = said["at"], said["answers"]
        course.clients.append((round(at, 1), said["clients"]))
        course.rates.append((round(at, 1), round(answers / (at - before), 1)))
        if answers:
            course.median.append((round(at, 1), round(said["median"] * 1000, 2)))
            course.slow.append((round(at, 1), round(said["slow"] * 1000, 2)))
        course.answers += answers
        course.failed += said["failed"]
        course.problems += said["problems"]
        before = at


def measure(stages: Sequence[tuple[int, float, float]], progress: Progress) -> Course:
    """One course on a cluster of its own."""
    course, total = Course(), sum(seconds for *_, seconds in stages)
    with node_with_chart("autoscaling") as access, make_namespace(access, "autoscaling") as namespace:
        bot = Bot(access, namespace)
        bot.create(web=PAGE, mock={"replies": ["A short answer."], "tokensPerSecond": 1000}, access=OPEN_DOOR)
        bot.wait_ready(120)
        known = "jsonpath={.items[*].status.currentMetrics[*].resource.current.averageUtilization}"
        used = ("get", "hpa", "-o", known)
        wait_for("both autoscalers know what is used", lambda: len(bot.kubectl(*used).split()) == len(PARTS), 120)
        since, over = now(), threading.Event()
        with progress.step("clients come and go", usual=total) as step:
            client_pod(bot, stages)
            begun = time.time()
            watcher = threading.Thread(target=watch_pods, args=(bot, course, begun, over))
            watcher.start()
            try:
                while "END" not in bot.kubectl("logs", "clients", "--tail=1", check=False):
                    step.detail(f"{time.time() - begun:.0f} of {total:.0f} s")
                    assert time.time() - begun < total + 120, "the clients do not come to their end"
                    time.sleep(WATCH_SECONDS)  # between two looks at the log of the pod
            finally:
                over.set()
                watcher.join()
        lines = bot.kubectl("logs", "clients").splitlines()
        assert json.loads(lines[0])["at"] < 2 * WATCH_SECONDS, "the node has not kept the whole log"
        read(lines[:-1], course)
        calls = operator_calls(access, since, namespace=namespace)
        writes = [call for call in calls if call["verb"] in ("create", "update", "patch", "delete")]
        course.writes = len(writes)
        course.scaled_by_us = sum(call["objectRef"].get("subresource") == "scale" for call in writes)
    return course


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and reports; 1 if an answer failed, pods were not followed or were touched by us, 2 if it cannot be."""
    parser = argparse.ArgumentParser(prog="python -m bench.autoscaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute of load")
    parser.add_argument("--save", action="store_true", help="keep the results for python -m bench.report")
    arguments = parser.parse_args(argv)
    try:
        course = measure(QUICK if arguments.quick else STAGES, for_this_terminal())
    except (DevClusterError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.save:
        autoscaling_report.keep(asdict(course))
    most = {part: max(count for _, count in course.pods[part]) for part in PARTS}
    last = {part: course.pods[part][-1][1] for part in PARTS}
    print(f"answers {course.answers}, failed {course.failed}; numbers of pods set by us: {course.scaled_by_us}")
    for part in PARTS:
        print(f"{part}: from {course.pods[part][0][1]} to {most[part]} pods, {last[part]} at the end")
    print("\n".join(course.problems[:5]))
    followed = all(course.pods[part][0][1] < most[part] > last[part] for part in PARTS)
    return 0 if followed and not course.failed and not course.scaled_by_us else 1


if __name__ == "__main__":
    sys.exit(main())
