"""What the operator's measurements share: results, a cluster with an operator, many chatbots, a watch on conditions."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.audit import AuditTail, Call
from devcluster import demo
from devcluster.cluster import Cluster
from devcluster.images.builder import build_all
from devcluster.progress import Plain
from tests.support.chatbot import ACCOUNT, manifest
from tests.support.cluster import ClusterAccess, access_of, make_namespace, short_folder
from tests.support.operator import OperatorProcess

CHATBOT, POD, DEPLOYMENT = "chatbots.chatbot-operator.dev", "pods", "deployments.apps"
USAGE = {"annotations": {"kwok.x-k8s.io/usage-cpu": "20m", "kwok.x-k8s.io/usage-memory": "40Mi"}}
"""What a fake pod says that it uses, so that autoscalers have something to go by."""
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
        missing = sorted(set(names) - self.seen.keys())
        assert done, f"not within {timeout:g} s: {len(missing)} objects, the first is {missing[0]}"
        return max(self.seen[name] for name in names)


def apply_chatbots(access: ClusterAccess, namespace: str, count: int, *, fake: bool) -> list[str]:
    """Mock chatbots by `kubectl apply`, and their names; on `fake` nodes with what their pods say that they use."""
    names = [f"bot-{index}" for index in range(count)]
    pods = {"pods": USAGE} if fake else {}
    for batch in (names[i : i + BATCH] for i in range(0, count, BATCH)):
        access.apply(*(manifest(name, **pods) for name in batch), namespace=namespace)
    return names


@contextmanager
def settled(scope: Scope, count: int) -> Iterator[None]:
    """`count` chatbots that are Ready, and an operator that has had nothing to say for a while."""
    with (
        make_namespace(scope.access, "many") as namespace,
        Watch(scope.access, CHATBOT, namespace, "Ready") as chatbots,
    ):
        chatbots.wait(apply_chatbots(scope.access, namespace, count, fake=True), 300)
        scope.tell(f"{count} are Ready")
        calm(scope)
        yield


def calm(scope: Scope) -> None:
    """Until the operator has neither read nor written a single object for some seconds."""
    with audit(scope.access) as tail:
        tail.until_calm(ACCOUNT, calm=CALM_SECONDS, timeout=120)


@contextmanager
def audit(access: ClusterAccess) -> Iterator[AuditTail]:
    """The audit log from now on, leases aside."""
    path = access.audit_log
    assert path is not None
    tail = AuditTail(Path(path), skip=_lease)
    try:
        yield tail
    finally:
        tail.close()


def _lease(call: Call) -> bool:
    return call.resource == "leases"


@contextmanager
def node_with_chart(name: str) -> Iterator[ClusterAccess]:
    """A cluster of one real node with the operator in it, installed by its chart; gone at the end."""
    images = build_all(Plain())
    references = {name: image.reference for name, image in images.items()}
    with short_folder() as folder:
        cluster = Cluster.start(
            name, level="node", state_dir=folder, images=images.values(), progress=Plain(), lifetime="process"
        )
        try:
            access = access_of(cluster, references)
            demo.install(access.environment, references, Plain())
            yield access
        finally:
            cluster.remove()
