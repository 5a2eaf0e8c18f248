"""Phase local as tests on a node use it: small models, what a person sees of them, claims and registries to fill.

No test logic here.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai

from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess
from tests.support.load import OPEN_DOOR, service_url
from tests.support.model_hub import OLLAMA_FOLDER, REGISTRY_PORT, reference
from tests.support.operator import wait_for

MOCK = {"replies": ["A canned answer."], "tokensPerSecond": 1000}
SMALL = {"requests": {"cpu": "200m", "memory": "320Mi"}}
CAUSE_SECONDS = 15
"""A reason is told this long after its cause at most."""


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


@contextmanager
def asked_all_along(bot: Bot) -> Iterator[set[tuple[str, str]]]:
    """All different answers of this block, to questions one after the other."""
    seen: set[tuple[str, str]] = set()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            seen.add(say(bot))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seen
    finally:
        over.set()
        asking.join()


def job(bot: Bot) -> dict[str, Any]:
    """The Job of the download; nothing if there is none."""
    found = bot.get("jobs")["items"]
    return dict(found[0]) if found else {}


def pods(bot: Bot) -> list[dict[str, Any]]:
    """The backend's pods, without those that are going."""
    found: list[dict[str, Any]] = bot.get("pods", "-l", "app.kubernetes.io/component=backend")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def end_engine(bot: Bot, pod: dict[str, Any]) -> None:
    """Kills the engine in its container, and waits until it is said to be started again."""
    container = (pod["metadata"]["name"], "-c", "engine")

    def ends() -> int:
        return bot.kubectl("logs", *container).count("ended with status 137; it is started again")

    before = ends()
    bot.kubectl("exec", *container, "--", "sh", "-c", "kill -KILL $(cat /proc/1/task/1/children)")
    wait_for("the engine is started again", lambda: ends() == before + 1, 10)


@contextmanager
def registry(access: ClusterAccess, namespace: str, image: str, models: dict[str, bytes]) -> Iterator[str]:
    """A registry of Ollama's models with these weights; its host as pods reach it."""
    weights = {f"file{number}": base64.b64encode(data).decode() for number, data in enumerate(models.values())}
    container = {
        "name": "registry",
        "image": image,
        "command": [
            "python",
            f"{OLLAMA_FOLDER}/ollama_registry.py",
            "--host",
            "0.0.0.0",
            *(f"{model}=@/weights/{file}" for model, file in zip(models, weights, strict=True)),
        ],
        "volumeMounts": [{"name": "weights", "mountPath": "/weights"}],
        "readinessProbe": {"tcpSocket": {"port": REGISTRY_PORT}, "periodSeconds": 1},
    }
    metadata = {"name": "registry", "labels": {"app": "registry"}}
    pod = {
        "containers": [container],
        "volumes": [{"name": "weights", "configMap": {"name": "registry"}}],
        "terminationGracePeriodSeconds": 1,
    }
    service = {"selector": {"app": "registry"}, "ports": [{"port": REGISTRY_PORT}]}
    access.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "registry"}, "binaryData": weights},
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
