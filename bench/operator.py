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
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.runtime import cpu_seconds
from devcluster import demo
from devcluster.cluster import Cluster
from devcluster.errors import DevClusterError
from devcluster.images.builder import build_all
from devcluster.progress import Plain, Progress, for_this_terminal
from tests.support.chatbot import Bot, manifest, now, operator_calls, tally
from tests.support.cluster import ClusterAccess, access_of, fresh_control_plane, make_namespace, short_folder
from tests.support.operator import OperatorProcess, operator_on, wait_for

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
USAGE = {"annotations": {"kwok.x-k8s.io/usage-cpu": "20m", "kwok.x-k8s.io/usage-memory": "40Mi"}}
"""What a fake pod says that it uses, so that autoscalers have something to go by."""
CHATBOT, POD, DEPLOYMENT = "chatbots.chatbot-operator.dev", "pods", "deployments.apps"
CALM_SECONDS = 5.0
BATCH = 20
"""Manifests for one `kubectl apply`, which has a time limit."""


@dataclass(frozen=True)
class Result:
    """One measured value; `goal` is an upper bound, None for what is only reported."""

    name: str
    what: str
    value: float
    unit: str
    goal: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        return None if self.goal is None else self.value <= self.goal


@dataclass(frozen=True)
class Scope:
    """What a measurement works with."""

    access: ClusterAccess
    quick: bool
    tell: Callable[[str], None]
    process: OperatorProcess | None = None

    @property
    def operator(self) -> OperatorProcess:
        """The operator's process, which measurements on fake nodes have."""
        assert self.process is not None
        return self.process

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.operator.process is not None
        return self.operator.process.pid


class Watch:
    """Notes at which `time.monotonic()` each object of a resource was first seen with a condition that is True."""

    def __init__(self, access: ClusterAccess, resource: str, namespace: str, condition: str) -> None:
        path = f'{{.metadata.name}} {{.status.conditions[?(@.type=="{condition}")].status}}{{"\\n"}}'
        command = (str(access.kubectl_path), "get", resource, "-n", namespace, "--watch", "-o", f"jsonpath={path}")
        self.seen: dict[str, float] = {}
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            command, env=os.environ | access.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        self._thread.join(10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            name, _, status = line.strip().partition(" ")
            if status == "True":
                with self._changed:
                    self.seen.setdefault(name, time.monotonic())
                    self._changed.notify_all()

    def wait(self, names: Sequence[str], timeout: float) -> float:
        """The moment at which the last of `names` was seen. AssertionError if not all are within `timeout` seconds."""
        with self._changed:
            done = self._changed.wait_for(lambda: self.seen.keys() >= set(names), timeout)
        assert done, f"not within {timeout:g} s: {', '.join(sorted(set(names) - self.seen.keys()))}"
        return max(self.seen[name] for name in names)


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
        names = _apply(scope, namespace, count)
        return chatbots.wait(names, 180) - begun


def _apply(scope: Scope, namespace: str, count: int) -> list[str]:
    names = [f"bot-{index}" for index in range(count)]
    pods = {} if scope.process is None else {"pods": USAGE}
    for batch in (names[i : i + BATCH] for i in range(0, count, BATCH)):
        scope.access.apply(*(manifest(name, **pods) for name in batch), namespace=namespace)
    return names


@contextmanager
def _settled(scope: Scope, count: int) -> Iterator[None]:
    """`count` chatbots that are Ready, and an operator that has had nothing to say for a while."""
    with (
        make_namespace(scope.access, "many") as namespace,
        Watch(scope.access, CHATBOT, namespace, "Ready") as chatbots,
    ):
        chatbots.wait(_apply(scope, namespace, count), 300)
        scope.tell(f"{count} are Ready")
        _calm(scope)
        yield


def _calm(scope: Scope) -> None:
    """Until the operator has neither read nor written a single object for some seconds; at most a minute."""
    end, last, since = time.monotonic() + 60, now(), time.monotonic()
    while time.monotonic() < min(end, since + CALM_SECONDS):
        time.sleep(0.5)
        moment = now()
        if _costly(scope, last):
            since = time.monotonic()
        last = moment


def _costly(scope: Scope, since: datetime) -> list[dict[str, Any]]:
    """The operator's calls that are not a LIST or a watch, its Lease aside."""
    return [call for call in operator_calls(scope.access, since) if call["verb"] == "get" or call["verb"] in WRITES]


def quiet(scope: Scope) -> list[Result]:
    """Settled chatbots cost nothing."""
    seconds = 20 if scope.quick else 60
    with _settled(scope, 50):
        since, before, end = now(), cpu_seconds(scope.pid), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            scope.tell(f"{left:.0f} s left")
            time.sleep(min(left, 5))
        calls, cpu = _costly(scope, since), cpu_seconds(scope.pid) - before
    gets = sum(1 for call in calls if call["verb"] == "get")
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
            _calm(scope)
            calls = tally(operator_calls(scope.access, since, namespace=namespace))
            children = len(bot.children())
        scales.append(calls.pop(("patch", "deployments/scale", f"{bot.name}-backend"), 0))
        statuses.append(calls.pop(("patch", "chatbots/status", bot.name), 0))
        gets.append(max((n for (verb, _, _), n in calls.items() if verb == "get"), default=0))
        applies.append(max((n for (verb, _, _), n in calls.items() if verb in WRITES), default=0))
    return [
        Result("create", f"GETs of a child, most ({children} children)", max(gets), "", 1),
        Result("create", "applies of a child, most", max(applies), "", 1),
        Result("create", "scale calls, most", max(scales), "", 1),
        Result("create", "status patches, most", max(statuses), "", 2),
    ]


def memory(scope: Scope) -> list[Result]:
    """Memory and CPU with many chatbots, and what a restart over them writes."""
    count = 40 if scope.quick else 100
    before = cpu_seconds(scope.pid)
    with _settled(scope, count):
        cpu, resident = (cpu_seconds(scope.pid) - before) / count, scope.operator.rss_mib()
        scope.operator.stop()
        since = now()
        scope.operator.start()
        wait_for("the restarted operator has looked at all", lambda: _reconciles(scope) >= count, 60)
        _calm(scope)
        writes = sum(1 for call in _costly(scope, since) if call["verb"] in WRITES)
    return [
        Result("memory", f"resident, {count} settled chatbots", resident, "MiB", 120),
        Result("memory", "  operator's CPU for each, apply to settled", cpu * 1000, "ms"),
        Result("memory", "writes after a restart", writes, "", 0),
    ]


def _reconciles(scope: Scope) -> float:
    lines = scope.operator.http("/metrics")[1].splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("chatbot_operator_reconciles_total"))


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
ON_FAKE = {"create": create, "twenty": twenty, "drift": drift, "quiet": quiet, "memory": memory}


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
        with _node_with_chart() as access:
            for name in on_node:
                with progress.step(name, usual=150 if name == "ready" else 30) as step:
                    yield from ON_NODE[name](Scope(access, quick, step.detail))


@contextmanager
def _node_with_chart() -> Iterator[ClusterAccess]:
    images = build_all(Plain())
    references = {name: image.reference for name, image in images.items()}
    with short_folder() as folder:
        cluster = Cluster.start(
            "bench", level="node", state_dir=folder, images=images.values(), progress=Plain(), lifetime="process"
        )
        try:
            access = access_of(cluster, references)
            demo.install(access.environment, references, Plain())
            yield access
        finally:
            cluster.remove()


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
    known = [*ON_FAKE, *ON_NODE]
    parser = argparse.ArgumentParser(prog="python -m bench.operator", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and chatbots, shorter waits")
    parser.add_argument("--only", nargs="+", choices=known, default=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--output", choices=("text", "json"), default="text")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load = [os.getloadavg()[0]]
    try:
        results = list(measure(arguments.only, quick=arguments.quick, progress=for_this_terminal()))
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
