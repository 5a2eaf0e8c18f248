"""G3, G4 and F3 of the quality goals: under load nothing is lost while pods are rolled out, scaled down and drained and
the operator dies; and the same load does notice what is lost without the measures against it.

CHATBOT_LOAD=long runs 20,000 short requests and 500 streams in place of 2,000 and 50.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.chatbot import PAGE, Bot
from tests.support.cluster import ClusterAccess, make_namespace
from tests.support.load import OPEN_DOOR, POD_LABEL, Load, load
from tests.support.load_client import Tally
from tests.support.operator import NAMESPACE

pytestmark = pytest.mark.needs("pods run")

LONG = os.environ.get("CHATBOT_LOAD") == "long"
SHORT, STREAMS = (20_000, 500) if LONG else (2_000, 50)
CLIENTS = 20 if LONG else 6
LONGEST_SECONDS = 1800 if LONG else 280

# About 9 s at 20 tokens a second: longer than a pod goes on taking requests once it is told to stop.
REPLIES = tuple(
    "This sentence is streamed word by word, so that it takes a while. " * 12 + end for end in ("One.", "Two.")
)
ANSWERS = {"mock": list(REPLIES)}
MOCK = {"replies": [REPLIES[0]], "tokensPerSecond": 20}
FIXED = {"replicas": 2, "autoscaling": {"enabled": False}}


@dataclass
class Disturber:
    """Does to a chatbot under load what must not be noticed, and notes when."""

    bot: Bot
    nodes: tuple[str, str]
    begun: dict[str, list[float]] = field(default_factory=dict)
    rounds: int = 0
    refused_evictions: int = 0

    def everything(self) -> None:
        """Each disturbance once."""
        for name, disturb in DISTURBANCES.items():
            began = time.time()
            self.begun.setdefault(name, []).append(began)
            disturb(self)
            print(f"{time.time() - began:5.1f} s {name}")
        self.rounds += 1

    def rolled_out(self) -> None:
        """The Deployment's pods are the new ones, and the operator says that they serve."""
        self.bot.kubectl("rollout", "status", f"deployment/{self.bot.name}-backend", "--timeout=120s")
        self.bot.wait_ready(60)

    def change_while_the_operator_dies(self) -> None:
        other = REPLIES[(self.rounds + 1) % 2]
        self.bot.patch(mock={**MOCK, "replies": [other], "resources": {"requests": {"cpu": f"{51 + self.rounds}m"}}})
        kill = ("delete", "pod", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=chatbot-operator")
        self.bot.access.kubectl(*kill, "--force", "--grace-period=0")
        self.bot.wait_ready(120)
        self.rolled_out()

    def restart(self) -> None:
        self.bot.kubectl("rollout", "restart", f"deployment/{self.bot.name}-backend")
        self.rolled_out()

    def restart_page(self) -> None:
        self.bot.kubectl("rollout", "restart", f"deployment/{self.bot.name}-web")
        self.bot.kubectl("rollout", "status", f"deployment/{self.bot.name}-web", "--timeout=120s")
        self.bot.wait_ready(60)

    def scale(self, replicas: int) -> None:
        self.bot.kubectl("scale", f"chatbot/{self.bot.name}", f"--replicas={replicas}")
        self.bot.wait_ready(60)

    def drain(self, node: str) -> None:
        """Evict all but the load's pod, as `kubectl drain` does, and open the node again."""
        self.bot.access.kubectl("uncordon", node)
        flags = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s")
        said = self.bot.access.kubectl("drain", node, f"--pod-selector=!{POD_LABEL}", *flags, timeout=150).stderr
        self.refused_evictions += said.count("would violate the pod's disruption budget")
        left = self.bot.get("pods", "-l", "app.kubernetes.io/name=chatbot", f"--field-selector=spec.nodeName={node}")
        assert left["items"] == []
        self.bot.access.kubectl("uncordon", node)
        self.bot.wait_ready(60)


DISTURBANCES: dict[str, Callable[[Disturber], None]] = {
    "a change of replies and resources; the operator is killed": Disturber.change_while_the_operator_dies,
    "kubectl rollout restart": Disturber.restart,
    "kubectl rollout restart of the page": Disturber.restart_page,
    "one pod more": lambda d: d.scale(3),
    "one pod less": lambda d: d.scale(2),
    "the second node is drained": lambda d: d.drain(d.nodes[1]),
    # Now both pods are on one node, so that the disruption budget has to hold one of them back.
    "the first node is drained": lambda d: d.drain(d.nodes[0]),
}


def spanning(tally: Tally, moment: float) -> int:
    """Streams that ran at this moment and for a second on both sides."""
    return sum(began < moment - 1 and moment + 1 < ended for began, ended in tally.spans)


@pytest.mark.timeout(LONGEST_SECONDS + 120)
def test_g3_f3_nothing_is_lost_in_rollouts_scale_downs_drains_and_deaths_of_the_operator(
    bot: Bot, two_nodes: tuple[str, str]
) -> None:
    bot.create(mock=MOCK, access=OPEN_DOOR, backend=FIXED, web=PAGE).wait_ready(60)
    disturber = Disturber(bot, two_nodes)
    with load(bot, ANSWERS, short=CLIENTS, streams=10, pause=0.05, longest_seconds=LONGEST_SECONDS) as running:
        running.wait_more(1, 1)
        disturber.everything()
        while running.progress()[0] < SHORT or running.progress()[1] < STREAMS:
            disturber.everything()
        tally = running.result()
    print(f"{tally.short} short requests, {tally.streams} streams, {disturber.rounds} rounds")
    assert tally.problems == []
    assert tally.short >= SHORT
    assert tally.streams >= STREAMS
    for name, moments in disturber.begun.items():
        assert all(spanning(tally, moment) >= 3 for moment in moments), f"too few streams ran across: {name}"
    assert disturber.refused_evictions > 0


@dataclass(frozen=True)
class Control:
    """A Deployment like the operator's but for one measure, and what is lost then: `short`, `stream` or nothing.

    It is rolled out until something is lost, at most `restarts` times.
    """

    name: str
    lost: str
    restarts: int = 4
    replicas: int = 2
    unavailable: int = 0
    env: dict[str, str] = field(default_factory=dict)
    grace_seconds: int = 310


CONTROLS = (
    Control("as-it-is", lost="", restarts=1),
    Control("no-pre-stop", lost="short", env={"CHATBOT_PRE_STOP_SECONDS": "0"}),
    Control("unavailable", lost="short", replicas=1, unavailable=1),
    Control("no-grace", lost="stream", env={"CHATBOT_GRACE_SECONDS": "6"}, grace_seconds=7),
)


def manifests(bot: Bot, control: Control) -> list[dict[str, Any]]:
    """The control's Deployment, made from the operator's own, and its Service. The operator knows neither."""
    labels = {"control": control.name}
    template = bot.get(f"deployment/{bot.name}-backend")["spec"]["template"]
    template["metadata"] = {"labels": labels}
    pod = template["spec"]
    pod["terminationGracePeriodSeconds"] = control.grace_seconds
    (container,) = pod["containers"]
    env = {e["name"]: e["value"] for e in container["env"]}
    assert env.keys() >= control.env.keys()
    container["env"] = [{"name": k, "value": v} for k, v in (env | control.env).items()]
    rolling = {"maxUnavailable": control.unavailable, "maxSurge": 1 - control.unavailable}
    spec = {
        "replicas": control.replicas,
        "selector": {"matchLabels": labels},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        "template": template,
    }
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": "http"}]}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": control.name}, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": control.name}, "spec": service},
    ]


@contextmanager
def controls(bot: Bot) -> Iterator[dict[str, Load]]:
    """All of them under load, side by side."""
    bot.access.apply(*(o for control in CONTROLS for o in manifests(bot, control)), namespace=bot.namespace)
    for control in CONTROLS:
        bot.kubectl("rollout", "status", f"deployment/{control.name}", "--timeout=60s")
    with ExitStack() as stack:
        yield {
            control.name: stack.enter_context(load(bot, ANSWERS, service=control.name, short=4, streams=3))
            for control in CONTROLS
        }


def restart_until_lost(bot: Bot, control: Control, running: Load) -> Tally:
    """What the load has counted at the end."""
    for _ in range(control.restarts):
        bot.kubectl("rollout", "restart", f"deployment/{control.name}")
        bot.kubectl("rollout", "status", f"deployment/{control.name}", "--timeout=60s")
        # A stream is cut when the old pod ends, not when the new one is there.
        running.wait_more(20, 0 if control.lost == "short" else 4)
        if running.progress()[2]:
            break
    return running.result()


@pytest.fixture(scope="module")
def lost(chart: ClusterAccess) -> Iterator[dict[str, Tally]]:
    """What each control's load has counted."""
    with make_namespace(chart) as namespace:
        bot = Bot(chart, namespace)
        bot.create(mock=MOCK, access=OPEN_DOOR, backend=FIXED | {"replicas": 1}).wait_ready(60)
        with controls(bot) as loads, ThreadPoolExecutor() as pool:
            running = {c.name: pool.submit(restart_until_lost, bot, c, loads[c.name]) for c in CONTROLS}
            yield {name: future.result() for name, future in running.items()}


@pytest.mark.parametrize("control", CONTROLS, ids=lambda c: c.name)
def test_g4_the_same_load_notices_what_is_lost_without_a_measure(lost: dict[str, Tally], control: Control) -> None:
    tally = lost[control.name]
    kinds = {problem.partition(":")[0] for *_, problem in tally.problems}
    assert kinds >= {control.lost} if control.lost else not kinds, tally.problems[:5]
    assert tally.short > 50
