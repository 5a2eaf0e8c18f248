"""The engine of phase local: Ollama or llama.cpp's llama-server, beside the runtime in its pod. Pure.

It is a native sidecar: the runtime starts right after it, so that it can say how the model loads, and is stopped before
it, so that it can finish its answers. It listens on the pod's loopback alone. No probe looks at it: the runtime, which
is the gate, asks it a question.
"""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from pathlib import PurePosixPath
from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.api import Chatbot, LocalSpec, Resources
from chatbot_operator.desired import engine_start
from chatbot_operator.settings import Settings
from chatbot_operator.units import cpu_text, memory_text, quantity
from chatbot_runtime.references import parse_hf, stored_path

ENGINE = "engine"
"""Name of the container."""
MODELS = "models"
"""Name of the volume of the weights."""
MODELS_FOLDER = PurePosixPath("/models")
HOME = "/home/engine"
HOME_VOLUME = "engine-home"
_SEEN_HOME = "/engine"
"""Where the runtime sees it."""
OLLAMA_PORT = 11434
LLAMA_PORT = 8081
MAX_QUEUE = 64
"""Requests that wait in Ollama. The runtime sends no more than there are slots; other endpoints may."""
QUEUE_SECONDS = 60
"""How long a request waits for a slot: an answer of a model on a few cores takes as long."""
RUNTIME_CPU, RUNTIME_MEMORY = quantity("100m"), quantity("128Mi")
"""The runtime's part of a pod's resources; see `local.resources`."""


def is_ollama(local: LocalSpec) -> bool:
    """Whether Ollama serves the models; else llama.cpp does."""
    return not local.models[0].startswith("hf://")


def base_url(local: LocalSpec) -> str:
    """Where the runtime finds the engine."""
    return f"http://127.0.0.1:{OLLAMA_PORT if is_ollama(local) else LLAMA_PORT}/v1"


def models_folder(local: LocalSpec) -> PurePosixPath:
    """Where the engine finds the weights."""
    baked = local.source.image
    return PurePosixPath(baked.path) if baked else MODELS_FOLDER


def model_file(local: LocalSpec) -> PurePosixPath:
    """The one file that llama.cpp serves: where a download puts it, else its path in the repository."""
    reference = local.models[0]
    place = stored_path(reference) if local.source.downloads else PurePosixPath(parse_hf(reference).path)
    return models_folder(local) / place


def engine_container(chatbot: Chatbot, settings: Settings, security: Mapping[str, Any]) -> dict[str, Any]:
    """The sidecar that answers."""
    local = chatbot.spec.local
    shares = engine_resources(local.resources)
    threads = int(quantity(shares["limits"]["cpu"]))
    image, policy = engine_image(chatbot, settings)
    if local.gpu:
        shares["limits"][local.gpu.resource_name] = str(local.gpu.count)
    mounts = [{"name": HOME_VOLUME, "mountPath": HOME}]
    if volume := models_volume(chatbot):
        mounts.append(models_mount(local, volume))
    return {
        "name": ENGINE,
        "image": image,
        "imagePullPolicy": policy,
        "restartPolicy": "Always",
        "command": engine_start.command("ollama" if is_ollama(local) else "llama-server"),
        "args": ["serve"] if is_ollama(local) else _llama_arguments(local, threads),
        "env": [{"name": k, "value": v} for k, v in _environment(local).items()],
        "resources": shares,
        "securityContext": dict(security),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def engine_image(chatbot: Chatbot, settings: Settings) -> tuple[str, str]:
    """The image of the engine, and when a node pulls it."""
    local = chatbot.spec.local
    if local.source.image:
        return local.source.image.reference, local.source.image.pull_policy
    default = settings.ollama_image if is_ollama(local) else settings.llama_server_image
    return local.image or mirrored(chatbot.spec.pods.image_registry, default), settings.image_pull_policy


def mirrored(registry: str | None, default: str) -> str:
    """A default image, behind the prefix for mirrors if there is one: its own registry is left out then."""
    if not registry:
        return default
    first, _, rest = default.partition("/")
    path = rest if rest and ("." in first or ":" in first or first == "localhost") else default
    return f"{registry.rstrip('/')}/{path}"


def _environment(local: LocalSpec) -> dict[str, str]:
    if not is_ollama(local):
        return {"HOME": HOME}
    return {
        "HOME": HOME,
        "OLLAMA_HOST": f"127.0.0.1:{OLLAMA_PORT}",
        "OLLAMA_MODELS": str(models_folder(local)),
        "OLLAMA_KEEP_ALIVE": local.keep_alive,
        "OLLAMA_NUM_PARALLEL": str(local.parallel),
        "OLLAMA_MAX_QUEUE": str(MAX_QUEUE),
        # The pod's memory is measured for one model; Ollama looks at the node's.
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_CONTEXT_LENGTH": str(local.context_length),
        "OLLAMA_LOAD_TIMEOUT": "10m",
        **QUIET_OLLAMA,
    }


QUIET_OLLAMA: Mapping[str, str] = {
    "OLLAMA_NOPRUNE": "1",  # at its start it would delete what another server is fetching into the same folder
    "OLLAMA_NO_CLOUD": "1",  # it calls home
}


def _llama_arguments(local: LocalSpec, threads: int) -> list[str]:
    arguments = {
        "--model": str(model_file(local)),
        "--alias": local.models[0],
        "--host": "127.0.0.1",
        "--port": str(LLAMA_PORT),
        "--ctx-size": str(local.context_length * local.parallel),  # it shares it out over the slots
        "--parallel": str(local.parallel),
        "--threads": str(threads),
        "--threads-batch": str(threads),
    }
    if local.gpu:
        arguments["--gpu-layers"] = "999"
    return [part for pair in arguments.items() for part in pair] + ["--offline", "--no-webui"]


def engine_resources(whole: Resources) -> dict[str, dict[str, Any]]:
    """What of a pod's resources is the engine's: all but the runtime's part.

    Its CPU limit is a whole number of cores, so that as many threads fit.
    """
    cpu = quantity(whole.requests.cpu) - RUNTIME_CPU
    memory = quantity(whole.requests.memory) - RUNTIME_MEMORY
    most = quantity(whole.limits.cpu) - RUNTIME_CPU if whole.limits.cpu else cpu
    cores = most.to_integral_value(ROUND_CEILING)
    memory_limit = quantity(whole.limits.memory or whole.requests.memory) - RUNTIME_MEMORY
    requests = {"cpu": cpu_text(cpu), "memory": memory_text(memory)}
    limits = {"cpu": cpu_text(max(cores, Decimal(1))), "memory": memory_text(memory_limit)}
    if whole.requests.ephemeral_storage:
        requests["ephemeral-storage"] = whole.requests.ephemeral_storage
    if whole.limits.ephemeral_storage:
        limits["ephemeral-storage"] = whole.limits.ephemeral_storage
    return {"requests": requests, "limits": limits}


def runtime_resources() -> dict[str, dict[str, Any]]:
    """The runtime's part in phase local."""
    memory = memory_text(RUNTIME_MEMORY)
    return {"requests": {"cpu": cpu_text(RUNTIME_CPU), "memory": memory}, "limits": {"memory": memory}}


def volumes(chatbot: Chatbot) -> list[dict[str, Any]]:
    """The weights, and what an engine writes of its own accord."""
    weights = models_volume(chatbot)
    return [*([weights] if weights else ()), {"name": HOME_VOLUME, "emptyDir": {"sizeLimit": "64Mi"}}]


def runtime_mounts(chatbot: Chatbot) -> list[dict[str, Any]]:
    """Where the runtime sees the weights, and says that the engine has answered."""
    weights = models_volume(chatbot)
    seen = [models_mount(chatbot.spec.local, weights)] if weights else []
    return [*seen, {"name": HOME_VOLUME, "mountPath": _SEEN_HOME}]


def models_volume(chatbot: Chatbot) -> dict[str, Any] | None:
    """The volume of the weights; None if they are in the engine's image."""
    local = chatbot.spec.local
    if local.source.image:
        return None
    storage = local.storage
    downloaded = names.claim(chatbot.metadata.name, storage.storage_class_name, storage.access_mode)
    claim = local.source.claim.name if local.source.claim else downloaded
    return {"name": MODELS, "persistentVolumeClaim": {"claimName": claim}}


def models_mount(local: LocalSpec, volume: Mapping[str, Any]) -> dict[str, Any]:
    """Where a container sees the weights; only a download may write them."""
    mount = {"name": volume["name"], "mountPath": str(MODELS_FOLDER), "readOnly": True}
    if local.source.claim and local.source.claim.sub_path:
        mount["subPath"] = local.source.claim.sub_path
    return mount


def runtime_environment(chatbot: Chatbot) -> dict[str, str]:
    """What the runtime is told of the engine."""
    local = chatbot.spec.local
    env = {
        "CHATBOT_MODELS": ",".join(local.models),
        "CHATBOT_SERVER": "ollama" if is_ollama(local) else "llama.cpp",
        "CHATBOT_BASE_URL": base_url(local),
        "CHATBOT_MAX_RUNNING": str(local.parallel),
        "CHATBOT_MAX_QUEUE": str(MAX_QUEUE),
        "CHATBOT_QUEUE_SECONDS": str(QUEUE_SECONDS),
        "CHATBOT_CONTEXT_LENGTH": str(local.context_length),
        "CHATBOT_ANSWERED_FILE": f"{_SEEN_HOME}/{engine_start.ANSWERED}",
    }
    download = local.source.download
    if download and download.registry and is_ollama(local):
        env["CHATBOT_REGISTRY"] = download.registry
    if models_volume(chatbot) is not None:
        env["CHATBOT_MODELS_DIR"] = str(MODELS_FOLDER)
        if not is_ollama(local):
            env["CHATBOT_MODEL_FILE"] = str(model_file(local))
    return env


def same_node(chatbot: Chatbot) -> dict[str, Any]:
    """A ReadWriteOnce volume is on one node: its pods, the download's too, must be there together."""
    local = chatbot.spec.local
    if not effective.downloads(chatbot.spec) or local.storage.access_mode != "ReadWriteOnce":
        return {}
    together = {"labelSelector": {"matchLabels": claim_label(chatbot)}, "topologyKey": "kubernetes.io/hostname"}
    return {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [together]}}}


def claim_label(chatbot: Chatbot) -> dict[str, str]:
    """Marks the pods that use the claim of the weights."""
    if not effective.downloads(chatbot.spec):
        return {}
    storage = chatbot.spec.local.storage
    return {names.CLAIM_LABEL: names.claim(chatbot.metadata.name, storage.storage_class_name, storage.access_mode)}
