"""The migration matrix on a real node: each phase to each other one, idle and under load, and what happens meanwhile.

Eight cells, in which every direction and every outcome occurs; CHATBOT_LOAD=long plays all 60, and CHATBOT_SHARD=2/4 of
these every fourth, beginning with the second.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import matrix
from tests.support.chatbot import ACCOUNT, Bot
from tests.support.cluster import ClusterAccess, make_namespace
from tests.support.load import OPEN_DOOR, Load, load, service_url
from tests.support.matrix import CELLS, HF, LOCAL, MOCK, OUTCOMES, PHASES, Cell, Outage, Problem, Said, Watch, key
from tests.support.model_hub import OLLAMA_FOLDER, REGISTRY_PORT, ollama
from tests.support.operator import NAMESPACE, RELEASE, wait_for
from tests.support.private import end_engine
from tests.support.provider import MODEL, SHORT, STREAM, Provider, provider

pytestmark = pytest.mark.needs("pods run", "storage")

LONG = os.environ.get("CHATBOT_LOAD") == "long"
SHARD, SHARDS = map(int, os.environ.get("CHATBOT_SHARD", "1/1").split("/"))
SEED, SHORT_CELLS = 655, 8
ARRIVAL_SECONDS = 90
TOLD_SECONDS = 40
PROXY_SECONDS = 3
"""Time that a node's proxy gets to learn that a pod is no longer there."""
TOKEN = "hf_good"
TALKER, GONE = "talker", "gone"
TOKENS_PER_SECOND = 20
# About 8 s: longer than a pod goes on taking requests once it is told to stop.
SENTENCE = "This sentence is streamed word by word, so that it takes a while. " * 12
REPLY, TOLD = f"{SENTENCE}Says the demo.", f"{SENTENCE}Says the private model."
ANSWERS = {key(MOCK, MOCK): [REPLY], key(HF, MODEL): [SHORT, STREAM], key(LOCAL, TALKER): [TOLD]}
SMALL = {"requests": {"cpu": "200m", "memory": "320Mi"}}
REGISTRY = f"""
import sys
sys.path.insert(0, {OLLAMA_FOLDER!r})
from aiohttp import web
from ollama_registry import Models, application, model_bytes
talker = model_bytes({TOLD!r}, tokens_per_second={TOKENS_PER_SECOND}, load_seconds=1)
web.run_app(application(Models({{{TALKER!r}: talker}})), port={REGISTRY_PORT}, print=None)
"""


@dataclass(frozen=True)
class Sources:
    """Who answers in phase hf, and where the models of phase local come from."""

    router: Provider
    registry: str
    engine: str


@dataclass
class Stage:
    """A cell that is played: its chatbot, who asks it, and what was wrong with its answers."""

    cell: Cell
    bot: Bot
    sources: Sources
    chance: random.Random
    running: Load | None = None
    outages: list[Outage] = field(default_factory=list)
    problems: list[tuple[float, float, str]] = field(default_factory=list)

    def create(self) -> None:
        """The chatbot serves its first phase."""
        late = self.cell.outcome == "fails-before-ready" and self.cell.target == HF
        self.secret("hf_wrong" if late else TOKEN)
        download = {"registry": self.sources.registry, "insecure": True}
        local = {
            "models": [TALKER],
            "source": {"download": download},
            "image": self.sources.engine,
            "resources": SMALL,
            "contextLength": 512,
            "parallel": 8,
            "storage": {"size": "1Gi", "retain": False},
        }
        fallback = "mock" if self.cell.outcome == "fails-after-ready" and not self.cell.loaded else "none"
        self.bot.create(
            phase=self.cell.source,
            mock={"replies": [REPLY], "tokensPerSecond": TOKENS_PER_SECOND},
            hf=self.sources.router.hf(timeoutSeconds=5),
            local=local,
            fallback={"to": fallback, "retryAfterSeconds": 5},
            access=OPEN_DOOR,
        )
        self.bot.wait_ready(ARRIVAL_SECONDS)

    def secret(self, token: str) -> None:
        made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hf-token"}, "stringData": {"token": token}}
        self.bot.access.apply(made, namespace=self.bot.namespace)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """People ask all the while; idle: only when a step of the cell does."""
        if not self.cell.loaded:
            yield
            return
        client = Path(matrix.__file__)
        with load(self.bot, ANSWERS, short=3, streams=4, pause=0.05, client=client) as self.running:
            self.running.wait_more(1, 1)
            yield
            self.running.wait_more(20, 2)
            tally = self.running.result()
        self.problems += tally.problems
        assert tally.short > 20
        assert tally.streams > 4

    def say(self) -> Said | None:
        """One answer; a problem with it is noted."""
        began = time.time()

        async def asked() -> Said:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
                return await matrix.question(session, service_url(self.bot), ANSWERS)

        try:
            return asyncio.run(asked())
        except Problem as problem:
            self.problems.append((began, time.time(), f"short: {problem}"))
            return None

    def answered_by(self, phase: str) -> bool:
        """Whether a few answers in a row come from this phase."""
        return all((said := self.say()) is not None and said.phase == phase for _ in range(4))

    def arrive(self, phase: str) -> None:
        """The phase is reached, answers, and nothing of the others is left; what served before may end its answers."""
        self.bot.wait_ready(ARRIVAL_SECONDS)
        assert self.bot.status()["servingPhase"] == phase
        wait_for(f"{phase} answers", lambda: self.answered_by(phase), 20, 0.5)
        if phase != LOCAL:
            wait_for("download and claim are gone", lambda: not self.bot.get("jobs,pvc")["items"], 60, 1)

    def pods(self, phase: str) -> list[dict[str, Any]]:
        """The pods of a phase, without those that are going."""
        found: list[dict[str, Any]] = self.bot.get("pods", "-l", f"{matrix.GROUP}/phase={phase}")["items"]
        return [pod for pod in found if not matrix.leaves(pod)]

    @contextmanager
    def outage(self, *, lossy: bool = False) -> Iterator[None]:
        """Something is wrong within this block."""
        since = time.time()
        yield
        self.outages.append(Outage(since, time.time() + PROXY_SECONDS * lossy, lossy))

    def unexplained(self) -> list[tuple[float, float, str]]:
        """What was wrong with answers for no reason that we gave."""
        return [p for p in self.problems if not any(outage.excuses(*p) for outage in self.outages)]


def succeeds(stage: Stage) -> None:
    stage.bot.patch(phase=stage.cell.target)
    stage.say()
    stage.arrive(stage.cell.target)


@dataclass(frozen=True)
class Obstacle:
    """Why a phase cannot become ready, what is told then, and what of the spec mends it; hf: its Secret does."""

    spec: dict[str, Any]
    reason: str
    mended: dict[str, Any]


HUGE, USUAL = ({"resources": {"requests": {"memory": memory}}} for memory in ("9000Gi", "128Mi"))
OBSTACLES = {
    MOCK: Obstacle({"mock": HUGE}, "Unschedulable", {"mock": USUAL}),
    HF: Obstacle({}, "TokenRejected", {}),
    LOCAL: Obstacle({"local": {"models": [GONE]}}, "ModelNotFound", {"local": {"models": [TALKER]}}),
}


def fails_before_ready(stage: Stage) -> None:
    """What served goes on, and the move is completed once the cause is gone."""
    source, target = stage.cell.source, stage.cell.target
    obstacle = OBSTACLES[target]
    stage.bot.patch(phase=target, **obstacle.spec)
    stage.bot.wait_reason(obstacle.reason, TOLD_SECONDS)
    assert stage.bot.status()["servingPhase"] == source
    assert stage.bot.condition("Available")["status"] == "True"
    assert stage.answered_by(source)
    stage.secret(TOKEN)
    if obstacle.mended:
        stage.bot.patch(**obstacle.mended)
    stage.arrive(target)


def pod_dies(stage: Stage) -> None:
    """Nothing but a pod can fail in a demo."""
    (pod, *_) = stage.pods(MOCK)

    def replaced() -> bool:
        conditions = [c for other in stage.pods(MOCK) for c in other["status"].get("conditions", ())]
        return [c["status"] for c in conditions if c["type"] == "Ready"].count("True") >= 2

    with stage.outage(lossy=True):
        stage.bot.kubectl("delete", f"pod/{pod['metadata']['name']}", "--force", "--grace-period=0")
        wait_for("there are two again", replaced, 60, 0.5)


def provider_dies(stage: Stage) -> None:
    with stage.outage():
        stage.sources.router.stop()
        try:
            told_while_asked(stage, "ProviderUnavailable")
        finally:
            stage.sources.router.start()
        recovers(stage)


def engine_dies(stage: Stage) -> None:
    """It is started again in its container, and the runtime beside it says so meanwhile."""
    (pod, *_) = stage.pods(LOCAL)
    with stage.outage():
        end_engine(stage.bot, pod)
        recovers(stage)


def weights_vanish(stage: Stage) -> None:
    """They are taken from the volume, and the model has to be loaded anew."""
    (claim,) = stage.bot.get("pvc")["items"]
    volume = stage.bot.access.get("pv", claim["spec"]["volumeName"])["spec"]["local"]["path"]
    blobs = Path(volume, "blobs")
    with stage.outage():
        blobs.rename(blobs.with_name("elsewhere"))
        for pod in stage.pods(LOCAL):
            url = "http://127.0.0.1:11434/test/kill-runner"
            in_engine(stage, pod, f"import urllib.request\nurllib.request.urlopen({url!r}, b'')")
        told_while_asked(stage, "ModelNotFound")
        blobs.with_name("elsewhere").rename(blobs)
        recovers(stage)


def in_engine(stage: Stage, pod: dict[str, Any], script: str) -> None:
    stage.bot.kubectl("exec", pod["metadata"]["name"], "-c", "engine", "--", "python", "-c", script, check=False)


def told_while_asked(stage: Stage, reason: str) -> None:
    """Ready says the reason while people ask: a pod's circuit opens by their questions only."""

    def told() -> bool:
        stage.say()
        return stage.bot.condition("Ready").get("reason") == reason

    wait_for(f"Ready says {reason}", told, TOLD_SECONDS, 0.5)


def recovers(stage: Stage) -> None:
    """Questions go on until Ready says so: a pod's circuit closes by one to it only."""

    def well() -> bool:
        return stage.answered_by(stage.cell.target) and stage.bot.condition("Ready").get("status") == "True"

    wait_for("all is well again", well, TOLD_SECONDS, 0.5)


FAILURES = {MOCK: (pod_dies,), HF: (provider_dies,), LOCAL: (engine_dies, weights_vanish)}


def fails_after_ready(stage: Stage) -> None:
    """The pods stay and say so, and all is well again once the cause is gone."""
    target = stage.cell.target
    stage.bot.patch(phase=target)
    stage.arrive(target)
    stage.chance.choice(FAILURES[target])(stage)
    stage.arrive(target)


def changes_mind(stage: Stage) -> None:
    """The first move has begun and is not complete; only the last wish counts."""
    source, target = stage.cell.source, stage.cell.target
    (third,) = set(PHASES) - {source, target}
    last = stage.chance.choice((source, third))
    claims = stage.bot.get("pvc")["items"]
    stage.bot.patch(phase=target)
    wait_for("it has begun", lambda: stage.pods(target) or stage.bot.get("jobs")["items"], TOLD_SECONDS)
    stage.bot.patch(phase=last)
    stage.say()
    stage.arrive(last)
    if source == last == LOCAL:
        assert [c["metadata"]["uid"] for c in stage.bot.get("pvc")["items"]] == [claims[0]["metadata"]["uid"]]


def operator_killed(stage: Stage) -> None:
    """After a write by chance; another process completes the move."""
    access, number = stage.bot.access, stage.chance.randint(1, 5)
    leader: str = access.get("lease", RELEASE, "-n", NAMESPACE)["spec"]["holderIdentity"]
    pid = matrix.process_of(leader)
    assert access.audit_log is not None
    count = matrix.writes(access.audit_log, ACCOUNT, stage.bot.namespace)
    assert next(count) == 0
    stage.bot.patch(phase=stage.cell.target)
    wait_for(f"write {number}", lambda: next(count) >= number, ARRIVAL_SECONDS, 0.005)
    os.kill(pid, signal.SIGKILL)
    # Else the kubelet makes it wait, longer from cell to cell.
    access.kubectl("delete", f"pod/{leader}", "-n", NAMESPACE, "--force", "--grace-period=0")
    killed_after = next(count)
    stage.say()
    stage.arrive(stage.cell.target)
    print(f"killed after {killed_after} of {next(count)} writes")


PLAYED: dict[str, Callable[[Stage], None]] = dict(
    zip(OUTCOMES, (succeeds, fails_before_ready, fails_after_ready, changes_mind, operator_killed), strict=True)
)


def chosen() -> list[Cell]:
    return CELLS[SHARD - 1 :: SHARDS] if LONG else matrix.few_cells(SHORT_CELLS, SEED)


@contextmanager
def registry(access: ClusterAccess, namespace: str, image: str) -> Iterator[str]:
    """A registry of Ollama's models; its host as pods reach it."""
    container = {
        "name": "registry",
        "image": image,
        "command": ["python", "-c", REGISTRY],
        "readinessProbe": {"tcpSocket": {"port": REGISTRY_PORT}, "periodSeconds": 1},
    }
    metadata = {"name": "registry", "labels": {"app": "registry"}}
    pod = {"containers": [container], "terminationGracePeriodSeconds": 1}
    service = {"selector": {"app": "registry"}, "ports": [{"port": REGISTRY_PORT}]}
    access.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "registry"}, "spec": service},
        namespace=namespace,
    )
    access.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/registry", "--timeout=60s", timeout=70)
    yield f"registry.{namespace}.svc:{REGISTRY_PORT}"


@pytest.fixture(scope="module")
def sources(chart: ClusterAccess) -> Iterator[Sources]:
    if chart.cluster is None:
        pytest.skip("the cluster was given, so its processes are not ours to kill")
    engine = ollama(chart)
    with ExitStack() as stack:
        router = stack.enter_context(provider(chart, TOKEN))
        namespace = stack.enter_context(make_namespace(chart, "registry"))
        yield Sources(router, stack.enter_context(registry(chart, namespace, engine)), engine)


@contextmanager
def shown(bot: Bot) -> Iterator[None]:
    """What there is, when a cell fails."""
    try:
        yield
    except BaseException:
        print(bot.kubectl("get", "pods,replicasets,jobs,pvc,endpointslices", "-o", "wide"))
        print(json.dumps(bot.status(), indent=1))
        raise


@pytest.mark.timeout(420)
@pytest.mark.parametrize("cell", chosen(), ids=str)
def test_a_move_between_phases_loses_nothing_whatever_happens(cell: Cell, bot: Bot, sources: Sources) -> None:
    stage = Stage(cell, bot, sources, random.Random(f"{SEED} {cell}"))
    access = bot.access
    kubectl, environment = [str(access.kubectl_path)], {**os.environ, **access.environment}
    with Watch(kubectl, environment, bot.namespace) as watch, shown(bot):
        stage.create()
        wait_for(f"{cell.source} answers", lambda: stage.answered_by(cell.source), 20, 0.5)
        stage.problems.clear()
        with stage.asked():
            PLAYED[cell.outcome](stage)
        found = [*stage.unexplained(), *matrix.violations(watch.changes(), bot.name), *watch.ended]
        assert not found, "\n".join(map(str, found))
