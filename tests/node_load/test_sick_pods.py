"""F1, F7 and F9 of the quality goals on a real node: each row has a chatbot and a load of its own, side by side.

A bad new version costs no answer (R8). A pod that dies takes along what it was answering, and nothing else.
"""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devcluster import demo
from devcluster.cluster import Cluster
from devcluster.images.archive import BuiltImage, ImageConfig, folder_layer, write_archive
from devcluster.images.builder import build
from devcluster.progress import Plain
from devcluster.registry import Registry
from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess, make_namespace
from tests.support.load import OPEN_DOOR, Load, load
from tests.support.operator import CHART, NAMESPACE, RELEASE, wait_for

pytestmark = pytest.mark.needs("pods run")

REPLY = "One sentence that is streamed word by word for about two seconds."
MOCK = {"replies": [REPLY], "tokensPerSecond": 8}
FIXED = {"replicas": 2, "autoscaling": {"enabled": False}}
PROGRESS_DEADLINE_SECONDS = 30
ROWS_AT_ONCE = 3
PROXY_SECONDS = 3
"""Time that a node's proxy gets to learn that a pod is no longer ready."""

ELF_MACHINE, X86_64, ARM64 = 18, 62, 183
"""Where an ELF file names its processor, and two that it may name (elf(5))."""

FILL_MEMORY = """
import os, time
open('/proc/1/oom_score_adj', 'w').write('1000')
for _ in range(12):
    if os.fork() == 0:
        held = bytearray(12 << 20)
        time.sleep(30)
os.wait()
"""
"""Each takes less than the runtime and together they take more than its limit: so the kernel kills the runtime."""


@dataclass
class Patient:
    """A chatbot that serves two pods under load."""

    bot: Bot
    running: Load
    pods: list[dict[str, Any]]
    deaths: list[tuple[float, float]] = field(default_factory=list)
    """From when to when requests may go to a pod that died."""

    def wait_reason(self, type_: str, *reasons: str, said: str = "", timeout: float = 90) -> str:
        """The message of a condition about the current spec, once it has one of these reasons and matches `said`."""

        def found() -> str:
            condition = self.bot.condition(type_)
            message: str = condition.get("message", "")
            return message if condition.get("reason") in reasons and re.search(said, message) else ""

        message: str = wait_for(f"{type_} says {' or '.join(reasons)} {said}", found, timeout, 1)
        return message

    def serves(self, pod: dict[str, Any]) -> bool:
        """Whether the Service sends requests to a pod."""
        slices = self.bot.get("endpointslices", "-l", f"kubernetes.io/service-name={self.bot.name}")["items"]
        endpoints = (e for s in slices for e in s.get("endpoints") or ())
        ready = {e["targetRef"]["name"] for e in endpoints if e["conditions"].get("ready")}
        return pod["metadata"]["name"] in ready

    @contextmanager
    def dies(self, pod: dict[str, Any]) -> Iterator[None]:
        """A pod dies within this block; at its end the Service sends it nothing more."""
        began = time.time()
        yield
        wait_for("the Service leaves the pod out", lambda: not self.serves(pod), 60, 0.5)
        self.deaths.append((began, time.time() + PROXY_SECONDS))

    def restarts(self, pod: dict[str, Any]) -> int:
        count: int = self.bot.get(f"pod/{pod['metadata']['name']}")["status"]["containerStatuses"][0]["restartCount"]
        return count

    def serves_again(self, pod: dict[str, Any], restarts: int, timeout: float = 90) -> None:
        wait_for(
            f"the pod serves after {restarts} restarts",
            lambda: self.restarts(pod) == restarts and self.serves(pod),
            timeout,
            1,
        )

    def unexplained(self, problems: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
        """Failed requests that were sent at no time at which a pod was dying."""
        return [
            (began, ended, what)
            for began, ended, what in problems
            if not any(began <= until and ended >= since for since, until in self.deaths)
        ]


def process_of(pod: dict[str, Any]) -> int:
    """The host's pid of a pod's runtime."""
    wanted = {f"HOSTNAME={pod['metadata']['name']}", "CHATBOT_PHASE=mock"}

    def environ(path: Path) -> set[str]:
        try:
            return set(path.read_text(errors="replace").split("\0"))
        except OSError:  # it has ended meanwhile
            return set()

    def found() -> list[int]:
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if wanted <= environ(path)]

    pids: list[int] = wait_for("the pod's process", found, 20)
    return min(pids)


def killed_three_times(patient: Patient) -> None:
    """The third time the kubelet makes it wait, which is told with the restarts so far."""
    pod = patient.pods[0]
    for restarts in (1, 2, 3):
        with patient.dies(pod):
            os.kill(process_of(pod), signal.SIGKILL)
        if restarts == 3:
            patient.wait_reason("Ready", "CrashLooping", said=r"exited with 137 \(2 restarts\)")
            assert patient.bot.condition("Available")["status"] == "True"
        patient.serves_again(pod, restarts)


def killed_for_memory(patient: Patient) -> None:
    """While it serves, so that its memory limit is met late."""
    pod = patient.pods[0]
    name = pod["metadata"]["name"]
    with patient.dies(pod):
        patient.bot.kubectl("exec", name, "--", "python", "-c", FILL_MEMORY, check=False)
    patient.serves_again(pod, 1)
    (container,) = patient.bot.get(f"pod/{name}")["status"]["containerStatuses"]
    assert container["lastState"]["terminated"]["reason"] == "OOMKilled"


def hung(patient: Patient) -> None:
    """Liveness finds it, and the kubelet does not wait long for it to end by itself: it cannot."""
    pod = patient.pods[0]
    with patient.dies(pod):
        os.kill(process_of(pod), signal.SIGSTOP)
    patient.serves_again(pod, 1, 60)


@dataclass(frozen=True)
class BadVersion:
    """A change after which no new pod becomes ready, and what `Ready` says of it until it is taken back."""

    change: dict[str, Any]
    taken_back: dict[str, Any]
    reasons: tuple[str, ...]
    said: str

    def __call__(self, patient: Patient) -> None:
        bot = patient.bot
        bot.patch(**self.change)
        patient.wait_reason("Ready", *self.reasons, said=self.said)
        patient.wait_reason("Progressing", "Stalled")
        patient.wait_reason("Ready", *self.reasons, said=self.said)
        available, status = bot.condition("Available"), bot.status()
        assert (available["status"], available["reason"]) == ("True", "ServingPrevious")
        assert (status["servingPhase"], status["readyReplicas"]) == ("mock", 2)
        assert all(patient.serves(pod) for pod in patient.pods)
        bot.patch(**self.taken_back)
        await_ready(bot)
        assert {p["metadata"]["uid"] for p in backend_pods(bot)} >= {p["metadata"]["uid"] for p in patient.pods}


ROWS: dict[str, Callable[[Patient], None]] = {
    "F1: killed three times": killed_three_times,
    "F1: killed for memory while it serves": killed_for_memory,
    "F1: hung": hung,
    "F1: killed for memory at every start": BadVersion(
        {"mock": {**MOCK, "resources": {"requests": {"memory": "12Mi"}}}},
        {"mock": {**MOCK, "resources": {"requests": {"memory": "128Mi"}}}},
        # Depends on which of its processes the kernel chooses.
        ("OutOfMemory", "CrashLooping"),
        "container",
    ),
    "F7: the image cannot be pulled": BadVersion(
        {"pods": {"imageRegistry": "registry.invalid/mirror"}},
        {"pods": {"imageRegistry": None}},
        ("ImagePullFailed",),
        "registry.invalid/mirror",
    ),
    "F7: the image is of another processor": BadVersion(
        {"pods": {"imageRegistry": "registry.test/foreign"}},
        {"pods": {"imageRegistry": None}},
        ("CrashLooping",),
        "exec format error.*spec.pods.nodeSelector",
    ),
    "F9: every new pod crashes at its start": BadVersion(
        {"pods": {"imageRegistry": "registry.test"}},
        {"pods": {"imageRegistry": None}},
        ("CrashLooping",),
        "exited with 1 .*a broken release",
    ),
}


def backend_pods(bot: Bot) -> list[dict[str, Any]]:
    pods: list[dict[str, Any]] = bot.get("pods", "-l", "app.kubernetes.io/component=backend")["items"]
    return pods


def await_ready(bot: Bot, seconds: int = 120) -> None:
    """By kubectl's own wait, which watches: many polls at once would take the processor from the pods."""
    wait = ("-n", bot.namespace, "wait", "--for=condition=Ready", f"chatbot/{bot.name}", f"--timeout={seconds}s")
    bot.access.kubectl(*wait, timeout=seconds + 10)


def run(access: ClusterAccess, row: Callable[[Patient], None]) -> None:
    """One row from the Chatbot's creation to the count of its load."""
    with make_namespace(access) as namespace:
        bot = Bot(access, namespace)
        await_ready(bot.create(mock=MOCK, access=OPEN_DOOR, backend=FIXED))
        with load(bot, {"mock": [REPLY]}, short=2, streams=2, pause=0.1) as running:
            patient = Patient(bot, running, backend_pods(bot))
            row(patient)
            running.wait_more(20, 4)
            tally = running.result()
    assert patient.unexplained(tally.problems) == []


@pytest.fixture(scope="module")
def cluster(chart: ClusterAccess) -> Cluster:
    if chart.cluster is None:
        pytest.skip("the cluster was given, so its processes are not ours to kill")
    return chart.cluster


def broken(runtime: BuiltImage, folder: Path) -> BuiltImage:
    """An image under the runtime's name, of its layers, whose program ends at once."""
    with tarfile.open(runtime.archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        layers = json.load(manifest)[0]["Layers"]
        tar.extractall(folder, [tar.getmember(layer) for layer in layers], filter="data")
    program = ("python", "-c", "raise SystemExit('a broken release')")
    archive = folder / "broken.tar"
    config = ImageConfig(entrypoint=program, user="10001:10001")
    write_archive(archive, runtime.reference, config, [folder / layer for layer in layers])
    return BuiltImage(runtime.reference, archive)


def foreign(runtime: BuiltImage, folder: Path) -> BuiltImage:
    """An image under the runtime's name, in a folder of the registry, whose program is another processor's."""
    root, layer, archive = folder / "root", folder / "foreign-layer.tar", folder / "foreign.tar"
    root.mkdir()
    program = bytearray(Path(sys.executable).resolve().read_bytes()[:4096])
    machine = struct.unpack_from("<H", program, ELF_MACHINE)[0]
    struct.pack_into("<H", program, ELF_MACHINE, ARM64 if machine != ARM64 else X86_64)
    (root / "program").write_bytes(program)
    (root / "program").chmod(0o755)
    folder_layer(root, layer)
    host, _, name = runtime.reference.partition("/")
    reference = f"{host}/foreign/{name}"
    write_archive(archive, reference, ImageConfig(entrypoint=("/program",), user="10001:10001"), [layer])
    return BuiltImage(reference, archive)


@contextmanager
def bad_releases(cluster: Cluster) -> Iterator[None]:
    """A registry that has bad images under the name of the runtime."""
    registry = Registry(cluster)
    registry.start()
    try:
        for make in (broken, foreign):
            with tempfile.TemporaryDirectory() as folder:
                registry.push(make(build("chatbot-runtime"), Path(folder)))
        yield
    finally:
        registry.stop()


@contextmanager
def short_deadline(access: ClusterAccess) -> Iterator[None]:
    """The operator installed with a progress deadline that a test can wait for."""
    setting = f"--set-string=settings.PROGRESS_DEADLINE_SECONDS={PROGRESS_DEADLINE_SECONDS}"
    helm = ("helm", "upgrade", RELEASE, str(CHART), "--namespace", NAMESPACE, "--reuse-values", "--wait", setting)
    environment = {**access.environment}
    subprocess.run(helm, env=environment, check=True, capture_output=True)
    try:
        yield
    finally:
        demo.install(environment, access.images, Plain())


@pytest.fixture(scope="module")
def ends(chart: ClusterAccess, cluster: Cluster) -> Iterator[dict[str, Future[None]]]:
    """How each row ended."""
    with ExitStack() as stack:
        stack.enter_context(short_deadline(chart))
        stack.enter_context(bad_releases(cluster))
        pool = stack.enter_context(ThreadPoolExecutor(ROWS_AT_ONCE))
        yield {name: pool.submit(run, chart, row) for name, row in ROWS.items()}


@pytest.mark.parametrize("name", ROWS)
def test_a_sick_pod_costs_no_answer_but_its_own_and_is_told(ends: dict[str, Future[None]], name: str) -> None:
    ends[name].result()
