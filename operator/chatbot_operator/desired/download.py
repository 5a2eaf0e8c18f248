"""The download of one list of models into the claim: its Job, and the Service and policy of its state. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.api import Chatbot, LocalSpec
from chatbot_operator.desired import engine
from chatbot_operator.desired.base import BACKEND, DOWNLOAD, child
from chatbot_operator.desired.deployment import CONTAINER_SECURITY, USER, image, placement, pod_security, resources
from chatbot_operator.desired.network import download_policy
from chatbot_operator.desired.service import INTERNAL_PORT
from chatbot_operator.kinds import JOB, SERVICE
from chatbot_operator.revision import list_hash
from chatbot_operator.settings import Settings
from chatbot_runtime.contract import PERMANENT_EXIT
from chatbot_runtime.ollama_names import full_name

STOP_SECONDS = 15
"""The downloader ends within a second; what it has is kept."""
_TOKEN_FOLDER = "/etc/chatbot/token"  # noqa: S105 - a folder
_SYSTEM_CERTIFICATES = "/etc/ssl/certs"
_CA_FOLDER = "/etc/chatbot/ca"


def download_job(
    chatbot: Chatbot, settings: Settings, *, claim: str, claim_uid: str, capacity: str, serving: Iterable[str] = ()
) -> dict[str, Any]:
    """The Job for the spec's list of models. It never changes once made: another list is another name.

    It asks for the serving pods' placement and size, since the first pod ties a late-binding volume to its node.
    `capacity`: of the volume; a download that found it too small is another one once it has grown. `serving`: the lists
    of models that must stay.
    """
    spec, name, hashed = chatbot.spec, chatbot.metadata.name, list_hash(chatbot.spec)
    source = spec.local.source.download
    ollama = engine.is_ollama(spec.local)
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": STOP_SECONDS,
        "securityContext": pod_security(USER),
        **({"initContainers": [_ollama(chatbot, settings)]} if ollama else {}),
        "containers": [_downloader(chatbot, settings, sorted(serving))],
        "volumes": _volumes(chatbot, claim),
        **placement(chatbot, BACKEND),
        **engine.same_node(chatbot),
    }
    labels = {**names.labels(name, DOWNLOAD, spec.pods.labels), **engine.claim_label(chatbot)}
    on_exit = {"containerName": DOWNLOAD, "operator": "In", "values": [PERMANENT_EXIT]}
    body = {
        "backoffLimit": source.backoff_limit if source else 4,
        "activeDeadlineSeconds": source.active_deadline_seconds if source else 3600,
        "ttlSecondsAfterFinished": settings.download_kept_seconds,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": on_exit}]},
        "template": {"metadata": {"labels": labels, "annotations": dict(spec.pods.annotations)}, "spec": pod},
    }
    annotations = {
        names.CLAIM_UID: claim_uid,
        names.CAPACITY: capacity,
        names.LIST_HASH: hashed,
        names.KEPT_LISTS: ",".join(sorted(serving)),
        names.RETRY: chatbot.metadata.annotations.get(names.RETRY, ""),
    }
    return child(chatbot, JOB, names.download(name, hashed), DOWNLOAD, {"spec": body}, annotations)


def download_service(chatbot: Chatbot) -> dict[str, Any]:
    """Headless: by it the backend's pods find the downloader, whose progress they show."""
    name = names.download(chatbot.metadata.name, list_hash(chatbot.spec))
    port = {"name": "internal", "port": INTERNAL_PORT, "targetPort": INTERNAL_PORT, "protocol": "TCP"}
    selector = {**names.selector(chatbot.metadata.name, DOWNLOAD), "batch.kubernetes.io/job-name": name}
    spec = {"clusterIP": "None", "selector": selector, "ports": [port], "publishNotReadyAddresses": True}
    return child(chatbot, SERVICE, name, DOWNLOAD, {"spec": spec})


def download_extras(chatbot: Chatbot, settings: Settings) -> list[dict[str, Any]]:
    """What a download needs besides its Job."""
    return [download_service(chatbot), download_policy(chatbot, settings, _addresses(chatbot.spec.local, settings))]


def _addresses(local: LocalSpec, settings: Settings) -> list[str]:
    """Where the models come from, as URLs."""
    if not engine.is_ollama(local):
        return [settings.hub_url]
    download = local.source.download
    scheme = "http" if download and download.insecure else "https"
    hosts = {full_name(model, download.registry if download else "").split("/")[0] for model in local.models}
    return [f"{scheme}://{host}" for host in sorted(hosts)]


def _ollama(chatbot: Chatbot, settings: Settings) -> dict[str, Any]:
    """Ollama fetches its models itself; it listens on the pod's loopback, and the downloader tells it what."""
    container_image, policy = engine.engine_image(chatbot, settings)
    env = {
        "HOME": engine.HOME,
        "OLLAMA_HOST": f"127.0.0.1:{engine.OLLAMA_PORT}",
        "OLLAMA_MODELS": str(engine.MODELS_FOLDER),
        **_ways(chatbot),
        **engine.QUIET_OLLAMA,
    }
    mounts = [_models(), {"name": "engine-home", "mountPath": engine.HOME}]
    if chatbot.spec.network.ca_bundle_config_map_ref:
        env["SSL_CERT_DIR"] = f"{_SYSTEM_CERTIFICATES}:{_CA_FOLDER}"
        mounts.append({"name": "ca", "mountPath": _CA_FOLDER, "readOnly": True})
    return {
        "name": engine.ENGINE,
        "image": container_image,
        "imagePullPolicy": policy,
        "restartPolicy": "Always",
        "args": ["serve"],
        "env": [{"name": k, "value": v} for k, v in env.items()],
        "resources": engine.engine_resources(chatbot.spec.local.resources),
        "securityContext": dict(CONTAINER_SECURITY),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _downloader(chatbot: Chatbot, settings: Settings, serving: list[str]) -> dict[str, Any]:
    spec, ollama = chatbot.spec, engine.is_ollama(chatbot.spec.local)
    mounts = [_models(), {"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - a volume of this pod alone
    if spec.local.token_secret_ref:
        mounts.append({"name": "token", "mountPath": _TOKEN_FOLDER, "readOnly": True})
    if spec.network.ca_bundle_config_map_ref:
        mounts.append({"name": "ca", "mountPath": _CA_FOLDER, "readOnly": True})
    whole = resources(effective.backend_resources(spec, "local"))
    return {
        "name": DOWNLOAD,
        "image": image(spec.pods, settings.runtime_image),
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["download"],
        "env": [{"name": k, "value": v} for k, v in _environment(chatbot, settings, serving).items()],
        "ports": [{"name": "internal", "containerPort": INTERNAL_PORT, "protocol": "TCP"}],
        "resources": engine.runtime_resources() if ollama else whole,
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _environment(chatbot: Chatbot, settings: Settings, serving: list[str]) -> dict[str, str]:
    spec = chatbot.spec
    source = spec.local.source.download
    env = {
        "CHATBOT_NAME": chatbot.metadata.name,
        "CHATBOT_NAMESPACE": chatbot.metadata.namespace,
        "CHATBOT_MODELS": ",".join(spec.local.models),
        "CHATBOT_LIST_HASH": list_hash(spec),
        "CHATBOT_KEEP_LISTS": ",".join(serving),
        "CHATBOT_MODELS_DIR": str(engine.MODELS_FOLDER),
        "HOME": "/tmp",  # noqa: S108 - the Hub's library keeps what it knows of itself there
    }
    if engine.is_ollama(spec.local):
        env["CHATBOT_OLLAMA_URL"] = f"http://127.0.0.1:{engine.OLLAMA_PORT}"
        env["CHATBOT_REGISTRY"] = source.registry if source else ""
        env["CHATBOT_REGISTRY_INSECURE"] = "true" if source and source.insecure else ""
    else:
        env["CHATBOT_HUB_URL"] = settings.hub_url
        env |= _ways(chatbot)
    if spec.local.token_secret_ref:
        env["CHATBOT_TOKEN_FILE"] = f"{_TOKEN_FOLDER}/token"
    if spec.network.ca_bundle_config_map_ref:
        env["CHATBOT_CA_FILE"] = f"{_CA_FOLDER}/ca.crt"
    return {name: value for name, value in env.items() if value}


def _ways(chatbot: Chatbot) -> dict[str, str]:
    """The proxies on the way out."""
    network = chatbot.spec.network
    ways = {"HTTP_PROXY": network.http_proxy, "HTTPS_PROXY": network.https_proxy, "NO_PROXY": network.no_proxy}
    return {name: value for name, value in ways.items() if value}


def _models() -> Mapping[str, Any]:
    return {"name": engine.MODELS, "mountPath": str(engine.MODELS_FOLDER)}


def _volumes(chatbot: Chatbot, claim: str) -> list[dict[str, Any]]:
    spec = chatbot.spec
    volumes: list[dict[str, Any]] = [
        {"name": engine.MODELS, "persistentVolumeClaim": {"claimName": claim}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    if engine.is_ollama(spec.local):
        volumes.append({"name": "engine-home", "emptyDir": {"sizeLimit": "64Mi"}})
    # Optional, so that a pod with a missing Secret or ConfigMap starts and says so instead of hanging.
    if token := spec.local.token_secret_ref:
        one = [{"key": token.key, "path": "token"}]
        volumes.append({"name": "token", "secret": {"secretName": token.name, "items": one, "optional": True}})
    if bundle := spec.network.ca_bundle_config_map_ref:
        one = [{"key": bundle.key, "path": "ca.crt"}]
        volumes.append({"name": "ca", "configMap": {"name": bundle.name, "items": one, "optional": True}})
    return volumes
