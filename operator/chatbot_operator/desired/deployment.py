"""The Deployment of the backend: the runtime's pods. Pure. It never sets `replicas`: the scale subresource does."""

from collections.abc import Mapping
from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.api import Chatbot, Pods, Resources
from chatbot_operator.desired import engine
from chatbot_operator.desired.base import BACKEND, child
from chatbot_operator.desired.service import HTTP_PORT, INTERNAL_PORT
from chatbot_operator.kinds import DEPLOYMENT
from chatbot_operator.revision import list_hash, revision, template_inputs
from chatbot_operator.settings import Settings

USER = 10001
CONTAINER = "runtime"
ENGINELESS = "engineless"
"""The revision of pods that run while the weights are still on their way."""

_TOKEN_FOLDER = "/etc/chatbot/token"  # noqa: S105 - a folder
_CA_FOLDER = "/etc/chatbot/ca"

HUNG_SECONDS = 5
"""What liveness gives up gets this long to end, not the pod's whole grace: what hangs finishes no answer in it."""

_START_SECONDS = 120
"""Liveness begins once the runtime has answered, or after this: on a busy node it would kill every start, for ever."""

_DRAIN_MARGIN_SECONDS = 5
"""The runtime ends what still streams this long before the kubelet kills it, so that a client gets an error event."""


def backend_deployment(
    chatbot: Chatbot, settings: Settings, template: Mapping[str, Any], failed_revision: str = ""
) -> dict[str, Any]:
    """A Deployment around a pod template: this spec's, or an earlier one to step back to from `failed_revision`."""
    spec = chatbot.spec
    surge = spec.backend.rollout == "Surge"
    body = {
        "selector": {"matchLabels": names.selector(chatbot.metadata.name, BACKEND)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0 if surge else 1, "maxSurge": 1 if surge else 0},
        },
        "progressDeadlineSeconds": settings.progress_deadline_seconds,
        "revisionHistoryLimit": 2,
        "template": template,
    }
    annotations = {names.TEMPLATE_INPUTS: template_inputs(spec)}
    if failed_revision:
        annotations[names.FAILED_REVISION] = failed_revision
    return child(chatbot, DEPLOYMENT, names.backend(chatbot.metadata.name), BACKEND, {"spec": body}, annotations)


def backend_template(chatbot: Chatbot, settings: Settings, *, with_engine: bool = True) -> dict[str, Any]:
    """The pod template of the spec's phase; admitted by Pod Security `restricted`.

    Without its engine, in phase local, the runtime says that the model is on its way.
    """
    spec, name = chatbot.spec, chatbot.metadata.name
    own_revision = revision(spec) if with_engine else ENGINELESS
    ours = {names.PHASE_LABEL: spec.phase, names.REVISION_LABEL: own_revision}
    annotations = {**spec.pods.annotations, "kubectl.kubernetes.io/default-container": CONTAINER}
    local = spec.phase == "local" and with_engine
    if local and effective.downloads(spec):
        annotations[names.LIST_HASH] = list_hash(spec)
    beside = {"initContainers": [engine.engine_container(chatbot, settings, CONTAINER_SECURITY)]} if local else {}
    together = engine.same_node(chatbot) if local else {}
    claim = engine.claim_label(chatbot) if local else {}
    return {
        "metadata": {
            "labels": {**names.labels(name, BACKEND, spec.pods.labels), **ours, **claim},
            "annotations": annotations,
        },
        "spec": {
            "serviceAccountName": names.backend(name),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": settings.grace_seconds,
            "securityContext": pod_security(USER),
            **beside,
            "containers": [_runtime(chatbot, settings, own_revision)],
            "volumes": [*_volumes(chatbot), *(engine.volumes(chatbot) if local else ())],
            **placement(chatbot, BACKEND),
            **together,
        },
    }


def _runtime(chatbot: Chatbot, settings: Settings, own_revision: str) -> dict[str, Any]:
    env = {
        "CHATBOT_NAME": chatbot.metadata.name,
        "CHATBOT_NAMESPACE": chatbot.metadata.namespace,
        "CHATBOT_PHASE": chatbot.spec.phase,
        "CHATBOT_REVISION": own_revision,
        "CHATBOT_SETTINGS_FILE": "/etc/chatbot/settings/settings.json",
        "CHATBOT_KEYS_DIR": "/etc/chatbot/keys",
        "CHATBOT_PRE_STOP_SECONDS": str(settings.pre_stop_seconds),
        "CHATBOT_GRACE_SECONDS": str(max(1, settings.grace_seconds - _DRAIN_MARGIN_SECONDS)),
    }
    probe = {"timeoutSeconds": 2, "failureThreshold": 3}
    live = {"httpGet": {"path": "/livez", "port": "internal"}}
    mounts = [
        {"name": "settings", "mountPath": "/etc/chatbot/settings", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of this pod alone
    ]
    if chatbot.spec.access.keys_secret_ref:
        mounts.append({"name": "keys", "mountPath": "/etc/chatbot/keys", "readOnly": True})
    if own_revision == ENGINELESS:
        env |= {"CHATBOT_MODELS": ",".join(chatbot.spec.local.models), "CHATBOT_SERVER": "none"}
    elif chatbot.spec.phase == "local":
        env |= engine.runtime_environment(chatbot)
        mounts += engine.runtime_mounts(chatbot)
    if chatbot.spec.phase == "hf":
        env |= _hf_environment(chatbot)
        mounts.append({"name": "token", "mountPath": _TOKEN_FOLDER, "readOnly": True})
        if chatbot.spec.network.ca_bundle_config_map_ref:
            mounts.append({"name": "ca", "mountPath": _CA_FOLDER, "readOnly": True})
    return {
        "name": CONTAINER,
        "image": image(chatbot.spec.pods, settings.runtime_image),
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["serve"],
        "env": [{"name": k, "value": v} for k, v in env.items()],
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "internal", "containerPort": INTERNAL_PORT, "protocol": "TCP"},
        ],
        "resources": _runtime_resources(chatbot),
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "internal"}, "periodSeconds": 1, **probe},
        "startupProbe": {**live, "periodSeconds": 1, **probe, "failureThreshold": _START_SECONDS},
        "livenessProbe": {**live, "periodSeconds": 5, **probe, "terminationGracePeriodSeconds": HUNG_SECONDS},
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _runtime_resources(chatbot: Chatbot) -> dict[str, Any]:
    """The whole pod's, but for phase local, where the runtime needs its part also before there is an engine."""
    if chatbot.spec.phase == "local":
        return engine.runtime_resources()
    return resources(effective.backend_resources(chatbot.spec, chatbot.spec.phase))


def _hf_environment(chatbot: Chatbot) -> dict[str, str]:
    """What decides where the answers come from, and how that is reached."""
    spec, network = chatbot.spec, chatbot.spec.network
    env = {
        "CHATBOT_MODELS": ",".join(spec.hf.models),
        "CHATBOT_BASE_URL": spec.hf.base_url,
        "CHATBOT_TOKEN_FILE": f"{_TOKEN_FOLDER}/token",
        "CHATBOT_PEERS": f"{names.peers(chatbot.metadata.name)}.{chatbot.metadata.namespace}.svc",
        "HTTP_PROXY": network.http_proxy,
        "HTTPS_PROXY": network.https_proxy,
        "NO_PROXY": network.no_proxy,
        "CHATBOT_CA_FILE": f"{_CA_FOLDER}/ca.crt" if network.ca_bundle_config_map_ref else None,
    }
    return {name: value for name, value in env.items() if value}


def _volumes(chatbot: Chatbot) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "settings", "configMap": {"name": names.backend(chatbot.metadata.name)}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    # Optional, so that a pod with a missing Secret or ConfigMap starts and says so instead of hanging.
    if keys := chatbot.spec.access.keys_secret_ref:
        volumes.append({"name": "keys", "secret": {"secretName": keys.name, "optional": True}})
    if chatbot.spec.phase == "hf":
        token, bundle = chatbot.spec.hf.token_secret_ref, chatbot.spec.network.ca_bundle_config_map_ref
        one = [{"key": token.key, "path": "token"}]
        volumes.append({"name": "token", "secret": {"secretName": token.name, "items": one, "optional": True}})
        if bundle:
            one = [{"key": bundle.key, "path": "ca.crt"}]
            volumes.append({"name": "ca", "configMap": {"name": bundle.name, "items": one, "optional": True}})
    return volumes


def placement(chatbot: Chatbot, component: str) -> dict[str, Any]:
    """Where the pods may run: as the spec says, else spread over the nodes, apart from others of their component."""
    pods = chatbot.spec.pods
    selector = {"matchLabels": names.selector(chatbot.metadata.name, component)}
    spread = [{**c.manifest(), "labelSelector": selector} for c in pods.topology_spread_constraints] or [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": selector,
            # Counts only pods of the same rollout, so that old ones do not push the new ones together.
            "matchLabelKeys": ["pod-template-hash"],
        }
    ]
    placement: dict[str, Any] = {"topologySpreadConstraints": spread}
    if pods.node_selector:
        placement["nodeSelector"] = dict(pods.node_selector)
    if pods.tolerations:
        placement["tolerations"] = [t.manifest() for t in pods.tolerations]
    if pods.priority_class_name:
        placement["priorityClassName"] = pods.priority_class_name
    if pods.image_pull_secrets:
        placement["imagePullSecrets"] = [s.manifest() for s in pods.image_pull_secrets]
    return placement


def pod_security(user: int) -> dict[str, Any]:
    """No root, no special system calls; volumes belong to the user."""
    ids = {"runAsUser": user, "runAsGroup": user, "fsGroup": user}
    return {"runAsNonRoot": True, **ids, "seccompProfile": {"type": "RuntimeDefault"}}


CONTAINER_SECURITY: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def image(pods: Pods, default: str) -> str:
    """A default image, behind the prefix for mirrors if there is one."""
    return engine.mirrored(pods.image_registry, default)


def resources(wanted: Resources) -> dict[str, Any]:
    """Requests and limits of a pod with one container. Memory is limited to what is requested, CPU is not limited."""
    requests = wanted.requests.manifest()
    limits = {"memory": wanted.requests.memory} | wanted.limits.manifest()
    return {"requests": requests, "limits": limits}
