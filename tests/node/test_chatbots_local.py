"""Phase local on a real node: a model is fetched from a Hub, served by the real llama.cpp, and never leaves again.

The Hub is a stand-in in a pod; the engine is llama.cpp's own server with tiny models, each of which says a sentence of
its own. Ollama is its stand-in, which stores blobs in Ollama's own layout.
"""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import openai
import pytest

from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess
from tests.support.load import OPEN_DOOR, service_url
from tests.support.model_hub import (
    OLLAMA_FOLDER,
    REGISTRY_PORT,
    SENTENCES,
    ModelHub,
    baked,
    gguf,
    llama_server,
    model_hub,
    ollama,
    reference,
)
from tests.support.operator import wait_for

pytestmark = pytest.mark.needs("pods run", "storage")

MOCK = {"replies": ["A canned answer."], "tokensPerSecond": 1000}
SMALL = {"requests": {"cpu": "200m", "memory": "320Mi"}}
CAUSE_SECONDS = 15
"""A reason is told this long after its cause at most."""


@pytest.fixture(scope="module")
def source(chart: ClusterAccess) -> Iterator[ModelHub]:
    with model_hub(chart) as found:
        yield found


@pytest.fixture
def hub(source: ModelHub) -> Iterator[ModelHub]:
    yield source
    source.behave()


@pytest.fixture(scope="module")
def engine(chart: ClusterAccess) -> str:
    """The engine's image."""
    return llama_server(chart)


def local(engine: str, repository: str = "org/tiny", **more: Any) -> dict[str, Any]:
    """`spec.local` of a small model."""
    storage = {"size": "1Gi"} | more.pop("storage", {})
    models = [reference(repository)]
    return {"models": models, "image": engine, "resources": SMALL, "contextLength": 512, "storage": storage, **more}


def serve_mock(bot: Bot, **spec: Any) -> Bot:
    spec = {"mock": MOCK, "access": OPEN_DOOR, "backend": {"autoscaling": {"maxReplicas": 1}}} | spec
    bot.create(**spec).wait_ready(60)
    wait_for("the mock answers", lambda: say(bot) == ("mock", "A canned answer."), 20)
    return bot


def serve_local(bot: Bot, local: dict[str, Any], **spec: Any) -> Bot:
    """A Chatbot that begins in phase local, and answers."""
    bot.create(phase="local", mock=MOCK, access=OPEN_DOOR, local=local, **spec)
    bot.kubectl("wait", "--for=create", f"service/{bot.name}", "--timeout=20s")
    answers_of(bot, local["models"][0], 90)
    bot.wait_ready(30)
    return bot


def say(bot: Bot) -> tuple[str, str]:
    """Model and text of one answer; a reason of ours in place of them where there is none."""
    client = openai.OpenAI(base_url=f"{service_url(bot)}/v1", api_key="unused", max_retries=0, timeout=30)
    try:
        answer = client.chat.completions.create(model=bot.name, messages=[{"role": "user", "content": "hello"}])
    except openai.APIStatusError as error:
        return "", str(error.code)
    except openai.APIConnectionError:
        return "", "no connection"
    return answer.model, (answer.choices[0].message.content or "").strip()


def answers_of(bot: Bot, model: str, timeout: float) -> list[tuple[str, str]]:
    """Asks until `model` answers; all answers so far, each only once in a row."""
    seen: list[tuple[str, str]] = []

    def arrived() -> bool:
        answer = say(bot)
        if not seen or seen[-1] != answer:
            seen.append(answer)
        return answer[0] == model

    wait_for(f"{model} answers, after {seen}", arrived, timeout)
    return seen


def job(bot: Bot) -> dict[str, Any]:
    """The Job of the download; nothing if there is none."""
    found = bot.get("jobs")["items"]
    return dict(found[0]) if found else {}


def pods(bot: Bot) -> list[dict[str, Any]]:
    """The backend's pods, without those that are going."""
    found: list[dict[str, Any]] = bot.get("pods", "-l", "app.kubernetes.io/component=backend")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def test_from_mock_to_a_private_model_by_one_edit_while_people_ask(bot: Bot, hub: ModelHub, engine: str) -> None:
    hub.behave(rate=150_000)
    serve_mock(bot, local=local(engine, "org/slow"))
    bot.patch(phase="local")
    wait_for("the progress is told", lambda: bot.status().get("download", {}).get("completedBytes", 0) > 0, 30)
    assert bot.status()["servingPhase"] == "mock"
    wide = bot.kubectl("get", "chatbot/demo", "-o", "wide")
    assert "Downloading" in wide
    model, text = reference("org/slow"), SENTENCES["org/slow"]
    assert answers_of(bot, model, 90) == [("mock", "A canned answer."), (model, text)]
    bot.wait_ready(30)
    status = bot.status()
    assert status["servingPhase"] == "local"
    assert status["model"]["name"] == model
    assert status["model"]["sizeBytes"] > 3_000_000
    assert status["model"]["digest"].startswith("sha256:")
    assert "download" not in status
    events = {e["reason"] for e in bot.get("events.events.k8s.io")["items"]}
    assert {"ModelDownloadStarted", "ModelDownloaded", "PhaseChanged"} <= events


def test_a_model_that_is_here_is_not_fetched_again_by_new_pods_and_nobody_gets_a_canned_answer(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    model, text = reference("org/tiny"), SENTENCES["org/tiny"]
    serve_local(bot, local(engine), fallback={"to": "mock"})
    wait_for("the Job has gone", lambda: not job(bot), 30)
    (claim,) = bot.get("pvc")["items"]
    hub.forget()
    bot.kubectl("delete", pods(bot)[0]["metadata"]["name"].join(("pod/", "")), "--wait=false")
    answers_of(bot, model, 60)
    bot.kubectl("rollout", "restart", "deployment/demo-backend")
    end = time.monotonic() + 25
    while time.monotonic() < end or bot.condition("Ready").get("status") != "True":
        answer = say(bot)
        assert answer in ((model, text), ("", "no connection")), answer
        assert time.monotonic() < end + 60
    assert hub.asked() == []
    assert job(bot) == {}
    assert [c["metadata"]["uid"] for c in bot.get("pvc")["items"]] == [claim["metadata"]["uid"]]


def test_the_engine_dies_and_comes_back_and_the_pod_stays(bot: Bot, hub: ModelHub, engine: str) -> None:
    model = reference("org/tiny")
    serve_local(bot, local(engine))
    (pod,) = pods(bot)
    # A first process takes no signal of its own container that it has no handler for: the second ends it at once.
    twice = "import os, signal\nfor _ in range(2): os.kill(1, signal.SIGTERM)"
    bot.kubectl("exec", pod["metadata"]["name"], "-c", "engine", "--", "python", "-c", twice, check=False)

    def restarted() -> bool:
        (found,) = pods(bot)
        (status,) = found["status"]["initContainerStatuses"]
        return bool(status["restartCount"])

    wait_for("the engine is started anew", restarted, 30)
    wait_for("the model answers again", lambda: say(bot)[0] == model, 30)
    (found,) = pods(bot)
    assert found["metadata"]["uid"] == pod["metadata"]["uid"]
    assert found["status"]["containerStatuses"][0]["restartCount"] == 0
    bot.wait_ready(40)


def test_weights_in_a_claim_of_ones_own_are_served_and_what_is_missing_is_told(
    chart: ClusterAccess, bot: Bot, hub: ModelHub, engine: str
) -> None:
    sentence = "These weights were here before."
    serve_mock(bot)
    mine = {"source": {"claim": {"name": "mine", "subPath": "llm"}}}
    bot.patch(phase="local", local=local(engine, "org/mine", **mine))
    missing = bot.wait_reason("ClaimMissing", CAUSE_SECONDS)
    assert "local.source.claim.name: there is no claim mine" in missing["message"]
    assert say(bot)[0] == "mock"
    fill(chart, bot.namespace, "mine", {"llm/other.gguf": gguf(sentence)})
    # The scheduler tries again when a claim comes; a pod that could not be placed waits for at most some minutes.
    not_found = bot.wait_reason("ModelNotFound", 90)
    assert "it holds other.gguf" in not_found["message"]
    assert say(bot)[0] == "mock"
    named = "hf://org/mine/other.gguf"
    bot.patch(local={"models": [named]})
    assert answers_of(bot, named, 90)[-1] == (named, sentence)
    bot.wait_ready(30)
    assert bot.condition("ModelReady")["reason"] == "Mounted"


def test_weights_in_the_engines_image_are_served(chart: ClusterAccess, bot: Bot) -> None:
    sentence = "I was baked into an image."
    image, folder = baked(chart, sentence)
    model = reference("org/baked")
    source = {"image": {"reference": image, "path": folder, "pullPolicy": "Never"}}
    serve_mock(bot, local={"models": [model], "source": source, "resources": SMALL, "contextLength": 512})
    bot.patch(phase="local")
    assert answers_of(bot, model, 60) == [("mock", "A canned answer."), (model, sentence)]
    bot.wait_ready(30)
    assert bot.condition("ModelReady")["reason"] == "Baked"
    assert bot.get("pvc")["items"] == []


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a `spec.local`, the reason that is told, and a part of its message; then what mends it."""

    local: dict[str, Any]
    reason: str
    words: str
    mended: dict[str, Any]
    seconds: float = CAUSE_SECONDS


GONE = "hf://org/gone/model.gguf"
TROUBLES = {
    "missing-model": Trouble({"models": [GONE]}, "ModelNotFound", "org/gone", {"models": [reference("org/tiny")]}),
    "gated": Trouble(
        {"models": [reference("org/gated")]}, "AccessDenied", "gated", {"tokenSecretRef": {"name": "hub"}}
    ),
    "no-model": Trouble(
        {"models": [reference("org/broken")]},
        "DownloadFailed",
        "is no GGUF file",
        {"models": [reference("org/tiny")]},
    ),
    "no-class": Trouble(
        {"storage": {"storageClassName": "nowhere"}},
        "NoStorageClass",
        "there is no StorageClass nowhere",
        {"storage": {"storageClassName": None}},
        seconds=35,  # of a claim only its Events tell, which are looked at every 15 s
    ),
    "no-image": Trouble(
        {"image": "registry.invalid/engine:1"},
        "ImagePullFailed",
        "registry.invalid",
        {"image": None},
        seconds=60,  # until the node gives up to look for the host
    ),
    "too-large": Trouble(
        {"contextLength": 1_048_576, "parallel": 64},
        "InsufficientMemory",
        "the engine has 192 MiB",
        {"contextLength": 512, "parallel": 1},
    ),
}


def test_what_can_be_wrong_with_a_private_model_is_told_while_the_old_phase_serves_and_mended_by_an_edit(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    bots = {name: replace(bot, name=name) for name in TROUBLES}
    for one in bots.values():
        one.create(mock=MOCK, access=OPEN_DOOR, backend={"autoscaling": {"maxReplicas": 1}})
    for one in bots.values():
        one.wait_ready(120)
    for name, trouble in TROUBLES.items():
        bots[name].patch(phase="local", local=local(engine) | trouble.local)
        told = bots[name].wait_reason(trouble.reason, trouble.seconds)
        assert trouble.words in told["message"], told["message"]
        assert bots[name].condition("Available")["status"] == "True"
        assert say(bots[name]) == ("mock", "A canned answer.")
    hub_secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}, "stringData": {"token": "hf_good"}}
    bot.access.apply(hub_secret, namespace=bot.namespace)
    for name, trouble in TROUBLES.items():
        mended = trouble.mended | ({"image": engine} if "image" in trouble.mended else {})
        bots[name].patch(local=mended)
    for one in bots.values():
        one.wait_ready(180)
        assert say(one)[0].startswith("hf://")


def test_a_hub_that_is_away_or_altered_is_told_and_the_download_goes_on_by_itself(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    serve_mock(bot, local=local(engine, "org/slow"))
    hub.behave(status={"api": 503, "resolve": 503})
    bot.patch(phase="local")
    told = bot.wait_reason("SourceUnreachable", CAUSE_SECONDS)
    assert "HTTP 503" in told["message"]
    hub.behave(corrupt=1_000_000)
    bot.wait_reason("DigestMismatch", 120)
    assert say(bot)[0] == "mock"
    hub.behave()
    model = reference("org/slow")
    assert answers_of(bot, model, 150)[-1] == (model, SENTENCES["org/slow"])
    bot.wait_ready(30)


def test_an_engine_that_the_kernel_kills_for_its_memory_is_told_and_the_old_phase_serves(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    tight = {"resources": {"requests": {"cpu": "200m", "memory": "176Mi"}}}
    serve_mock(bot, local=local(engine, "org/heavy") | tight)
    bot.patch(phase="local")
    told = bot.wait_reason("OutOfMemory", 60)
    assert "spec.local.resources.requests.memory" in told["message"]
    assert say(bot)[0] == "mock"
    bot.patch(local={"resources": SMALL})
    answers_of(bot, reference("org/heavy"), 90)
    bot.wait_ready(60)


def test_models_of_ollama_are_fetched_served_and_listed_and_each_answers(chart: ClusterAccess, bot: Bot) -> None:
    image = ollama(chart)
    one, two = "The first of two.", "The second of two."
    with registry(chart, bot.namespace, image, {"first": one, "second": two}) as host:
        download = {"registry": host, "insecure": True}
        spec = {"models": ["first", "second"], "source": {"download": download}, "image": image, "resources": SMALL}
        serve_mock(bot, local={**spec, "storage": {"size": "1Gi"}})
        bot.patch(phase="local")
        assert answers_of(bot, "first", 90) == [("mock", "A canned answer."), ("first", one)]
        bot.wait_ready(30)
        client = openai.OpenAI(base_url=f"{service_url(bot)}/v1", api_key="unused", max_retries=0, timeout=30)
        assert [model.id for model in client.models.list()] == ["first", "second"]
        messages: Any = [{"role": "user", "content": "hello"}]
        answer = client.chat.completions.create(model="second", messages=messages)
        assert (answer.model, answer.choices[0].message.content) == ("second", two)
        wait_for("the Job has gone", lambda: not job(bot), 30)
    # Without the registry a model that is here is served on.
    bot.kubectl("rollout", "restart", "deployment/demo-backend")
    bot.kubectl("rollout", "status", "deployment/demo-backend", "--timeout=90s")
    assert say(bot) == ("first", one)


def test_a_volume_that_is_too_small_is_told_with_its_numbers_and_grows_by_an_edit_of_its_size(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    if "sized" not in bot.access.kubectl("get", "storageclass", "-o", "name").stdout:
        pytest.skip("the cluster has no class of volumes with a real size")
    small = {"storage": {"storageClassName": "sized", "size": "2Mi"}}
    serve_mock(bot, local=local(engine, "org/slow", **small))
    bot.patch(phase="local")
    told = bot.wait_reason("StorageFull", CAUSE_SECONDS)
    assert "Raise local.storage.size" in told["message"]
    assert say(bot)[0] == "mock"
    bot.patch(local={"storage": {"size": "16Mi"}})
    model = reference("org/slow")
    assert answers_of(bot, model, 90)[-1] == (model, SENTENCES["org/slow"])
    bot.wait_ready(30)


def test_a_model_that_was_fetched_ahead_is_switched_to_without_a_download_and_is_kept_for_a_successor(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    model, text = reference("org/tiny"), SENTENCES["org/tiny"]
    serve_mock(bot, local=local(engine, prefetch=True))

    def fetched() -> bool:
        return bot.condition("ModelReady").get("reason") == "Downloaded" and not job(bot)

    wait_for("it is fetched while the mock serves", fetched, 60)
    assert say(bot)[0] == "mock"
    hub.forget()
    bot.patch(phase="local")
    assert answers_of(bot, model, 60) == [("mock", "A canned answer."), (model, text)]
    (claim,) = bot.get("pvc")["items"]
    bot.kubectl("delete", "chatbot/demo", "--wait=true")
    wait_for("its children are gone", lambda: not pods(bot), 60)
    serve_local(bot, local(engine))
    assert [c["metadata"]["uid"] for c in bot.get("pvc")["items"]] == [claim["metadata"]["uid"]]
    assert hub.asked() == []


@contextmanager
def registry(access: ClusterAccess, namespace: str, image: str, models: dict[str, str]) -> Iterator[str]:
    """A registry of Ollama's models that say this; its host as pods reach it."""
    container = {
        "name": "registry",
        "image": image,
        "command": [
            "python",
            f"{OLLAMA_FOLDER}/ollama_registry.py",
            "--host",
            "0.0.0.0",
            *(f"{m}={text}" for m, text in models.items()),
        ],
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
    ready = ("wait", "--for=condition=Ready", "pod/registry", "--timeout=60s")
    waited = access.kubectl("-n", namespace, *ready, check=False, timeout=70)
    assert not waited.returncode, access.kubectl("-n", namespace, "describe", "pod/registry").stdout[-3000:]
    yield f"registry.{namespace}.svc:{REGISTRY_PORT}"
    access.kubectl("-n", namespace, "delete", "pod/registry", "--force", "--grace-period=0")


def fill(access: ClusterAccess, namespace: str, claim: str, files: dict[str, bytes]) -> None:
    """A claim with these files, made and filled by a pod."""
    names = {name: f"file{number}" for number, name in enumerate(files)}
    script = f"import json, pathlib, shutil\nfor name, key in json.loads({json.dumps(names)!r}).items():\n"
    script += " path = pathlib.Path('/claim', name)\n path.parent.mkdir(parents=True, exist_ok=True)\n"
    script += " shutil.copyfile('/packed/' + key, path)\n"
    container = {
        "name": "fill",
        "image": access.images["chatbot-runtime"],
        "command": ["python", "-c", script],
        "volumeMounts": [{"name": "claim", "mountPath": "/claim"}, {"name": "packed", "mountPath": "/packed"}],
    }
    volumes = [
        {"name": "claim", "persistentVolumeClaim": {"claimName": claim}},
        {"name": "packed", "configMap": {"name": "files"}},
    ]
    packed = {names[name]: base64.b64encode(content).decode() for name, content in files.items()}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}}
    pod = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": volumes,
        "securityContext": {"fsGroup": 10001},
    }
    access.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "binaryData": packed},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim}, "spec": spec},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fill"}, "spec": pod},
        namespace=namespace,
    )
    done = ("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/fill", "--timeout=60s")
    access.kubectl("-n", namespace, *done, timeout=70)
