"""Many chatbots at once: our operator beside a stock one, each on a fresh control plane with fake nodes.

It must not know how either works inside: it sees objects, the audit log and /proc.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.audit import WRITES, AuditTail, Call, tally
from bench.scope import CHATBOT, USAGE, Result, Watch, apply_chatbots, audit
from bench.stock_operator import PLACEHOLDER, PROMPT
from tests.support.chatbot import ACCOUNT, Bot
from tests.support.cluster import ClusterAccess, fresh_control_plane, make_namespace
from tests.support.operator import account_kubeconfig, operator_on, wait_for

STOCK_USER = "system:serviceaccount:default:stock-operator"
IDLE_SECONDS = 10.0
SETTLED_SECONDS = 60.0
"""Long enough for one full list of everything."""

CALM_SECONDS = 8.0
CHANGES = 60
CHANGE_TIMEOUT = 60.0
PODS_A_NODE = 250
"""Of two a chatbot; a fake node has CPU for 320."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """An operator that runs. `restart` ends it and starts it anew. `bare` is a process of bench.bare_kopf beside it."""

    user: str
    pid: Callable[[], int]
    restart: Callable[[], None]
    bare: int


@dataclass(frozen=True)
class Fleet:
    """What `count` chatbots cost one operator, from the first create until it had nothing more to do."""

    operator: str
    count: int
    seconds_to_ready: float
    """From the first `kubectl apply` until the last is Ready."""
    cpu_ms: float
    """Of the operator's process, for each chatbot, without what it uses idle in the same time."""
    kopf_cpu_ms: float
    """The same of a bare Kopf that is told of the same events: no operator on Kopf's watches can use less."""
    idle_cpu_percent: float
    """Share of a core before the first chatbot."""
    settled_cpu_percent: float
    """Share of a core with all of them settled."""
    rss_mib: float
    calls: dict[str, float]
    """For each chatbot: writes, gets, lists."""
    restart_writes: int
    change_seconds: list[float] = field(default_factory=list)
    """Edit of one prompt among all of them: from its receipt until the answer to the operator's write of it."""

    def change(self, share: float) -> float:
        """The quantile of `change_seconds`."""
        return statistics.quantiles(self.change_seconds, n=100, method="inclusive")[round(share * 100) - 1]


def fleet(name: str, count: int, tell: Tell) -> Fleet:
    """Measure the operator `name` ("ours" or "stock") with `count` chatbots."""
    nodes = math.ceil(2 * count / PODS_A_NODE)
    with fresh_control_plane(fake_nodes=max(2, nodes)) as access, OPERATORS[name](access) as subject:
        return _measure(name, access, subject, count, tell)


def _measure(name: str, access: ClusterAccess, subject: Subject, count: int, tell: Tell) -> Fleet:
    with (
        make_namespace(access, "many") as namespace,
        Watch(access, CHATBOT, namespace, "Ready") as chatbots,
        audit(access) as tail,
    ):
        tail.until_calm(subject.user, calm=CALM_SECONDS, timeout=300)
        idle, bare_idle = usage((subject.pid(), subject.bare), IDLE_SECONDS)
        tail.new()
        cpu, bare, begun = cpu_seconds(subject.pid()), cpu_seconds(subject.bare), time.monotonic()
        names = apply_chatbots(access, namespace, count, fake=True)
        tell(f"{count} applied after {time.monotonic() - begun:.0f} s")
        ready = chatbots.wait(names, 120 + 3.0 * count) - begun
        tell(f"{count} are Ready after {ready:.0f} s")
        calls = tail.until_calm(subject.user, calm=CALM_SECONDS, timeout=300 + count)
        elapsed = time.monotonic() - begun
        spent = cpu_seconds(subject.pid()) - cpu - idle * elapsed
        bare = cpu_seconds(subject.bare) - bare - bare_idle * elapsed
        rss = rss_mib(subject.pid())
        (settled,) = usage((subject.pid(),), SETTLED_SECONDS)
        changes = _changes(access, tail, subject.user, namespace, names, tell)
        tail.until_calm(subject.user, calm=CALM_SECONDS, timeout=300)
        subject.restart()
        restart = tail.until_calm(subject.user, calm=CALM_SECONDS, timeout=300 + count)
        written = {f"{c.verb} {c.resource}" for c in restart if c.user == subject.user and c.verb in WRITES}
        tell(f"written after the restart: {', '.join(sorted(written)) or 'nothing'}")
    return Fleet(
        operator=name,
        count=count,
        seconds_to_ready=ready,
        cpu_ms=spent / count * 1000,
        kopf_cpu_ms=bare / count * 1000,
        idle_cpu_percent=idle * 100,
        settled_cpu_percent=settled * 100,
        rss_mib=rss,
        calls={kind: n / count for kind, n in tally(calls, subject.user).items()},
        restart_writes=tally(restart, subject.user)["writes"],
        change_seconds=changes,
    )


def _changes(
    access: ClusterAccess,
    tail: AuditTail,
    user: str,
    namespace: str,
    names: Sequence[str],
    tell: Tell,
) -> list[float]:
    """Latencies of `CHANGES` edits, one after the other, of chatbots from all over the fleet."""
    took = []
    for index in range(CHANGES):
        name = names[index * len(names) // CHANGES]
        Bot(access, namespace, name).patch(systemPrompt=f"Prompt number {index}.")
        edit, write = _edit_and_write(tail, user, name)
        took.append(write.answered - edit.received)
        tell(f"change {index + 1} of {CHANGES}: {took[-1] * 1000:.0f} ms")
    return took


def _edit_and_write(tail: AuditTail, user: str, name: str) -> tuple[Call, Call]:
    """The call that edited a chatbot, and the operator's write of its ConfigMap."""

    def edit(call: Call) -> bool:
        return (call.resource, call.name) == ("chatbots", name) and call.verb == "patch" and call.user != user

    def write(call: Call) -> bool:
        return (call.resource, call.name, call.user) == ("configmaps", f"{name}-backend", user) and call.code < 300

    found: dict[str, Call] = {}
    end = time.monotonic() + CHANGE_TIMEOUT
    while len(found) < 2:
        assert time.monotonic() < end, f"{name}: the change was not written within {CHANGE_TIMEOUT:g} s"
        time.sleep(0.05)  # between two looks at a log
        for call in tail.new():
            if edit(call):
                found["edit"] = call
            elif write(call):
                found["write"] = call
    return found["edit"], found["write"]


def usage(pids: Sequence[int], seconds: float) -> list[float]:
    """Share of a core that each process uses now."""
    before = [cpu_seconds(pid) for pid in pids]
    time.sleep(seconds)  # what is used in that time is what is measured
    return [(cpu_seconds(pid) - old) / seconds for pid, old in zip(pids, before, strict=True)]


# ------------------------------------------------------------ the two operators


@contextmanager
def ours(access: ClusterAccess) -> Iterator[Subject]:
    """Our operator as a process, with the chart's rights."""
    with tempfile.TemporaryDirectory() as folder, operator_on(access, Path(folder)) as (operator, _):

        def pid() -> int:
            assert operator.process is not None
            return operator.process.pid

        def restart() -> None:
            operator.stop()
            operator.start()
            wait_for("the operator is ready", lambda: operator.http("/readyz")[0] == 200, 60)

        with bare_kopf(operator.kubeconfig) as bare:
            yield Subject(ACCOUNT, pid, restart, bare)


@contextmanager
def stock(access: ClusterAccess) -> Iterator[Subject]:
    """The stock operator as a process, as cluster administrator, with the children that ours makes as its template."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "template.json").write_text(json.dumps(template(access)))
        access.kubectl("create", "serviceaccount", "stock-operator", "-n", "default")
        access.kubectl("create", "clusterrolebinding", "stock", "--clusterrole=cluster-admin", f"--user={STOCK_USER}")
        config = account_kubeconfig(access, folder, account="stock-operator", namespace="default")
        env = os.environ | {"KUBECONFIG": str(config), "STOCK_TEMPLATE": str(folder / "template.json")}
        running: list[subprocess.Popen[bytes]] = []

        def start() -> None:
            with audit(access) as tail, (folder / "log").open("ab") as log:
                command = [sys.executable, "-m", "bench.stock_operator"]
                running[:] = [subprocess.Popen(command, env=env, stdout=log, stderr=log)]
                tail.find(lambda c: c.user == STOCK_USER and (c.verb, c.resource) == ("list", "chatbots"), 60)

        def stop() -> None:
            running[0].terminate()
            running[0].wait(timeout=60)

        def restart() -> None:
            stop()
            start()

        start()
        try:
            with bare_kopf(config) as bare:
                yield Subject(STOCK_USER, lambda: running[0].pid, restart, bare)
        finally:
            stop()


@contextmanager
def bare_kopf(kubeconfig: Path) -> Iterator[int]:
    """The pid of a bare Kopf beside."""
    command = [sys.executable, "-m", "bench.bare_kopf"]
    process = subprocess.Popen(command, env=os.environ | {"KUBECONFIG": str(kubeconfig)}, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=60)


def template(access: ClusterAccess) -> list[dict[str, Any]]:
    """The children that our operator makes for one mock, without what ties them to it, and two pods from the start."""
    with (
        tempfile.TemporaryDirectory() as folder,
        make_namespace(access, "template") as namespace,
        operator_on(access, Path(folder)),
    ):
        bot = Bot(access, namespace, PLACEHOLDER).create(systemPrompt=PROMPT, pods=USAGE)
        bot.wait_ready(60)
        made = [bot.get(child) for child in bot.children()]
        bot.kubectl("delete", f"chatbot/{PLACEHOLDER}", "--wait=false")
    return [_bare(child) for child in made]


def _bare(live: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: live["metadata"][key] for key in ("name", "labels")}
    child = {k: v for k, v in live.items() if k not in ("metadata", "status")} | {"metadata": metadata}
    if live["kind"] == "Service" and live["spec"]["clusterIP"] != "None":
        child["spec"] = {k: v for k, v in live["spec"].items() if k not in ("clusterIP", "clusterIPs")}
    return child


OPERATORS: dict[str, Callable[[ClusterAccess], AbstractContextManager[Subject]]] = {"ours": ours, "stock": stock}


# ------------------------------------------------------------ /proc, and goals


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Resident memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def goals(found: Fleet) -> list[Result]:
    """One fleet of our operator against the goals, which are meant for 1,000."""
    name, n = "scale", found.count
    return [
        Result(name, f"{n}: operator's CPU for each", found.cpu_ms, "ms", 15),
        Result(name, "  resident memory", found.rss_mib, "MiB", 250),
        Result(name, "  writes for each", found.calls["writes"], "", 12),
        Result(name, "  GETs for each", found.calls["gets"], "", 1),
        Result(name, "  writes after a restart", found.restart_writes, "", 0),
        Result(name, "  one change, p99", found.change(0.99), "s", 2),
        Result(name, "  all Ready after", found.seconds_to_ready, "s"),
    ]
