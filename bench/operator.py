"""Measures the operator against its goals on clusters of its own: `python -m bench.operator [--quick] [--only NAME]`.

What each measurement means is in bench/README.md. It must not know how the operator works inside: it sees objects,
the API server's audit log and /proc. (Run it with -m: as a script its name would hide the standard library's operator.)
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import operator_report, scale
from bench.audit import WRITES
from bench.scale import Fleet, cpu_seconds
from bench.scope import (
    CHATBOT,
    DEPLOYMENT,
    POD,
    USAGE,
    Result,
    Scope,
    Watch,
    apply_chatbots,
    audit,
    calm,
    node_with_chart,
    settled,
)
from devcluster.errors import DevClusterError
from devcluster.progress import Progress, for_this_terminal
from tests.support.chatbot import ACCOUNT, Bot, now, operator_calls, tally
from tests.support.cluster import fresh_control_plane, make_namespace
from tests.support.operator import operator_on, wait_for

# ------------------------------------------------------------ on a real node


def ready(scope: Scope) -> list[Result]:
    """One chatbot after the other, each beside a plain Deployment of the same pods."""
    ours, plain, starts = [], [], []
    count = 3 if scope.quick else 7
    with (
        make_namespace(scope.access, "ready") as namespace,
        Watch(scope.access, CHATBOT, namespace, "Ready") as chatbots,
        Watch(scope.access, DEPLOYMENT, namespace, "Available") as deployments,
        Watch(scope.access, POD, namespace, "Ready") as pods,
    ):
        for index in range(count):
            bot = Bot(scope.access, namespace, f"bot-{index}")
            begun = time.monotonic()
            bot.create()
            ours.append(chatbots.wait([bot.name], 120) - begun)
            found = bot.get("pods", "-l", f"chatbot-operator.dev/chatbot={bot.name}")["items"]
            names = [pod["metadata"]["name"] for pod in found]
            pods.wait(names, 30)
            starts += [pods.seen[name] - process_began(name) for name in names]
            peer = plain_twin(bot, f"plain-{index}")
            _remove(bot, f"chatbot/{bot.name}")
            begun = time.monotonic()
            scope.access.apply(*peer, namespace=namespace)
            plain.append(deployments.wait([f"plain-{index}"], 120) - begun)
            _remove(bot, f"deployment/plain-{index}", f"configmap/plain-{index}")
            scope.tell(f"{index + 1} of {count}: {ours[-1]:.1f} s, plain {plain[-1]:.1f} s")
    return [
        Result("ready", f"apply to Ready, median of {count}", statistics.median(ours), "s", 5),
        Result("ready", "  fastest", min(ours), "s"),
        Result("ready", "  slowest", max(ours), "s"),
        Result("ready", f"pod's process to Ready, median of {len(starts)}", statistics.median(starts), "s", 2),
        Result("ready", "  slowest", max(starts), "s"),
        Result("ready", "plain Deployment of the same pods, median", statistics.median(plain), "s"),
        Result("ready", "  ours / plain", statistics.median(ours) / statistics.median(plain), "x"),
    ]


def plain_twin(bot: Bot, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A Deployment without operator of the chatbot's pods: same image, resources and probes."""
    live = bot.get(f"deployment/{bot.name}-backend")["spec"]
    settings = bot.get(f"configmap/{bot.name}-backend")["data"]
    spec = live["template"]["spec"] | {"serviceAccountName": "default"}
    spec.pop("serviceAccount", None)
    spec.pop("topologySpreadConstraints", None)
    spec["volumes"] = [v | {"configMap": {"name": name}} if "configMap" in v else v for v in spec["volumes"]]
    body = {
        "replicas": live["replicas"],
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
    }
    return (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": settings},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": body},
    )


def _remove(bot: Bot, *what: str) -> None:
    """Delete it and wait until no pod is left, which would take the next one's CPU."""
    bot.kubectl("delete", *what)
    wait_for("the pods are gone", lambda: not bot.get("pods")["items"], 120, 0.3)


def process_began(pod: str) -> float:
    """When the runtime's process in a pod began, on the clock of `time.monotonic()`, to 10 ms.

    The kubelet says it in whole seconds. The embedded node's processes are this machine's, so /proc knows.
    """
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"HOSTNAME={pod}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                ticks = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
                age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
                return time.monotonic() - age
        except OSError:  # it has ended meanwhile
            continue
    raise AssertionError(f"no process of pod {pod} is on this machine")


def six(scope: Scope) -> list[Result]:
    """Six chatbots at once on one node."""
    return [Result("six", "6 chatbots at once, real node", _at_once(scope, 6), "s", 30)]


# ------------------------------------------------------------ on fake nodes


def twenty(scope: Scope) -> list[Result]:
    """Twenty chatbots at once."""
    before = cpu_seconds(scope.pid)
    seconds = _at_once(scope, 20)
    cpu = (cpu_seconds(scope.pid) - before) / 20
    return [
        Result("twenty", "20 chatbots at once, fake nodes", seconds, "s", 15),
        Result("twenty", "  operator's CPU for each", cpu * 1000, "ms"),
    ]


def _at_once(scope: Scope, count: int) -> float:
    """Seconds from `kubectl apply` of `count` chatbots until the last is Ready."""
    with (
        make_namespace(scope.access, "once") as namespace,
        Watch(scope.access, CHATBOT, namespace, "Ready") as chatbots,
    ):
        begun = time.monotonic()
        names = apply_chatbots(scope.access, namespace, count, fake=scope.process is not None)
        return chatbots.wait(names, 180) - begun


def quiet(scope: Scope) -> list[Result]:
    """Settled chatbots cost nothing."""
    seconds = 20 if scope.quick else 60
    with settled(scope, 50), audit(scope.access) as tail:
        before, end = cpu_seconds(scope.pid), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            scope.tell(f"{left:.0f} s left")
            time.sleep(min(left, 5))  # nothing happens in that time: that is what is measured
        cpu = cpu_seconds(scope.pid) - before
        calls = [call for call in tail.new() if call.user == ACCOUNT and call.costly]
    gets = sum(1 for call in calls if call.verb == "get")
    return [
        Result("quiet", f"GETs in {seconds} s, 50 settled chatbots", gets, "", 0),
        Result("quiet", f"writes in {seconds} s", len(calls) - gets, "", 0),
        Result("quiet", "  operator's CPU, share of a core", cpu / seconds * 100, "%"),
    ]


def create(scope: Scope) -> list[Result]:
    """The calls of one create, the worst of several."""
    gets, applies, scales, statuses, children = [], [], [], [], 0
    for _ in range(2 if scope.quick else 5):
        with make_namespace(scope.access, "create") as namespace:
            since = now()
            bot = Bot(scope.access, namespace).create(pods=USAGE)
            bot.wait_ready(60)
            calm(scope)
            calls = tally(operator_calls(scope.access, since, namespace=namespace))
            children = len(bot.children())
        scales.append(calls.pop(("patch", "deployments/scale", f"{bot.name}-backend"), 0))
        statuses.append(calls.pop(("patch", "chatbots/status", bot.name), 0))
        gets.append(max((n for (verb, _, _), n in calls.items() if verb == "get"), default=0))
        applies.append(max((n for (verb, _, _), n in calls.items() if verb in WRITES), default=0))
    return [
        Result("create", f"GETs of a child, most ({children} children)", max(gets), "", 0),
        Result("create", "applies of a child, most", max(applies), "", 1),
        Result("create", "scale calls, most", max(scales), "", 1),
        Result("create", "status patches, most", max(statuses), "", 2),
    ]


EDITS: tuple[tuple[str, str, str, dict[str, Any] | None], ...] = (
    ("deployments", "deployment", "demo-backend", {"spec": {"revisionHistoryLimit": 9}}),
    ("deployments", "deployment", "demo-backend", {"metadata": {"labels": {"app.kubernetes.io/name": "other"}}}),
    ("services", "service", "demo-peers", {"spec": {"selector": {"app.kubernetes.io/component": "other"}}}),
    ("configmaps", "configmap", "demo-backend", {"data": {"settings.json": "{}"}}),
    ("serviceaccounts", "serviceaccount", "demo-backend", {"automountServiceAccountToken": True}),
    ("horizontalpodautoscalers", "hpa", "demo-backend", {"spec": {"maxReplicas": 99}}),
    ("poddisruptionbudgets", "pdb", "demo-backend", {"spec": {"maxUnavailable": 2}}),
    ("networkpolicies", "networkpolicy", "demo-backend", {"spec": {"policyTypes": ["Ingress"]}}),
    ("services", "service", "demo", None),
    ("configmaps", "configmap", "demo-backend", None),
)
"""Resource, name for kubectl, object, and the edit; None deletes it."""


def drift(scope: Scope) -> list[Result]:
    """From the call of kubectl that edits or deletes by hand to the answer to the write that puts it right."""
    took = []
    rounds = 1 if scope.quick else 3
    with make_namespace(scope.access, "drift") as namespace:
        bot = Bot(scope.access, namespace).create(pods=USAGE)
        bot.wait_ready(60)
        before = bot.state()
        for resource, kind, name, edit in EDITS * rounds:
            since = now()
            if edit is None:
                bot.kubectl("delete", kind, name, "--wait=false")
            else:
                bot.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(edit))
            wait_for(f"{kind}/{name} is as before", lambda: bot.state() == before, 30)
            writes = [
                call
                for call in operator_calls(scope.access, since, namespace=namespace)
                if call["verb"] in WRITES
                and (call["objectRef"]["resource"], call["objectRef"].get("name")) == (resource, name)
                and call["responseStatus"]["code"] < 300
            ]
            assert writes, f"{kind}/{name} was put right by somebody else"
            took.append((datetime.fromisoformat(writes[-1]["stageTimestamp"]) - since).total_seconds())
            scope.tell(f"{len(took)} of {len(EDITS) * rounds}")
    return [
        Result("drift", f"repair, median of {len(took)}", statistics.median(took), "s", 10),
        Result("drift", "  slowest", max(took), "s", 10),
    ]


# ------------------------------------------------------------ all of them

ON_NODE = {"ready": ready, "six": six}
ON_FAKE = {"create": create, "twenty": twenty, "drift": drift, "quiet": quiet}
SCALE = "scale"


def measure(names: Sequence[str], *, quick: bool, progress: Progress) -> Iterator[Result]:
    """The results of the named measurements; clusters are gone afterwards, however it ends."""
    for name in (n for n in ON_FAKE if n in names):
        with (
            tempfile.TemporaryDirectory() as folder,
            fresh_control_plane() as access,
            operator_on(access, Path(folder)) as (process, _),
            progress.step(name) as step,
        ):
            yield from ON_FAKE[name](Scope(access, quick, step.detail, process))
    on_node = [n for n in ON_NODE if n in names]
    if on_node:
        with node_with_chart("bench") as access:
            for name in on_node:
                with progress.step(name, usual=150 if name == "ready" else 30) as step:
                    yield from ON_NODE[name](Scope(access, quick, step.detail))


def measure_scale(counts: Sequence[int], *, stock_most: int, save: bool, progress: Progress) -> Iterator[Result]:
    """Our operator with each of `counts` chatbots, and the stock one with those of at most `stock_most`."""
    fleets: list[Fleet] = []
    for count in counts:
        for name in ("ours", "stock") if count <= stock_most else ("ours",):
            with progress.step(f"{count} chatbots, {name}", usual=count) as step:
                fleets.append(scale.fleet(name, count, step.detail))
            if save:
                operator_report.keep(fleets)
    yield from (result for found in fleets if found.operator == "ours" for result in scale.goals(found))


def table(results: Sequence[Result]) -> str:
    """One line a value: how much of its goal it takes, and whether that is met."""
    lines = [f"{'':<8}{'':<46}{'value':>8}     {'goal':>6}  of goal"]
    shown = ""
    for r in results:
        name, shown = ("" if r.name == shown else r.name), r.name
        line = f"{name:<8}{r.what:<46}{r.value:>8.4g} {r.unit:<3}"
        if r.goal is not None:
            share = f"{r.value / r.goal:>6.0%}" if r.goal else f"{'-':>6}"
            line += f" {r.goal:>6g}  {share} {'' if r.met else 'MISSED'}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and reports; 1 if a goal is missed, 2 if it cannot be measured, 130 after Ctrl-C."""
    known = [*ON_FAKE, SCALE, *ON_NODE]
    parser = argparse.ArgumentParser(prog="python -m bench.operator", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and chatbots, shorter waits")
    parser.add_argument("--only", nargs="+", choices=known, default=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--counts", nargs="+", type=int, default=[100, 300, 1000], help="chatbots of scale")
    parser.add_argument("--stock-most", type=int, default=300, help="most chatbots for the stock operator of scale")
    parser.add_argument("--save", action="store_true", help="keep the results of scale for python -m bench.report")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load = [os.getloadavg()[0]]
    try:
        progress = for_this_terminal()
        results = list(measure(arguments.only, quick=arguments.quick, progress=progress))
        if SCALE in arguments.only:
            counts = [40] if arguments.quick else arguments.counts
            most = arguments.stock_most
            results += measure_scale(counts, stock_most=most, save=arguments.save, progress=progress)
    except (DevClusterError, AssertionError, TimeoutError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the clusters are gone", file=sys.stderr)
        return 130
    load.append(os.getloadavg()[0])
    if arguments.output == "json":
        values = [asdict(r) | {"what": r.what.strip(), "met": r.met} for r in results]
        print(json.dumps({"cores": os.cpu_count(), "load": load, "results": values}))
    else:
        print(f"{table(results)}\n{os.cpu_count()} cores, load average {load[0]:.1f} before and {load[1]:.1f} after")
    return 0 if all(r.met is not False for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
