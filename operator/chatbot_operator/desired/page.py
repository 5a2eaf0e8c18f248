"""The Deployment of the chat page: nginx with the page's files. Pure. It never sets `replicas`."""

from typing import Any

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import WEB, child
from chatbot_operator.desired.deployment import (
    CONTAINER_SECURITY,
    HUNG_SECONDS,
    image,
    placement,
    pod_security,
    resources,
)
from chatbot_operator.desired.nginx import WEB_PORT, WebServer
from chatbot_operator.kinds import DEPLOYMENT
from chatbot_operator.revision import web_inputs
from chatbot_operator.settings import Settings

USER = 10101
"""nginx's in its own image."""

_CONFIG_FOLDER: str = WebServer.model_fields["config_dir"].default
_SCRATCH_FOLDER: str = WebServer.model_fields["scratch_dir"].default


def web_deployment(chatbot: Chatbot, settings: Settings, conf: str) -> dict[str, Any]:
    """A page is never missing while its pods are replaced, also where the backend's are (`rollout: Replace`).

    nginx reads `conf` when it starts, so another one makes other pods.
    """
    name = chatbot.metadata.name
    body = {
        "selector": {"matchLabels": names.selector(name, WEB)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "progressDeadlineSeconds": settings.progress_deadline_seconds,
        "revisionHistoryLimit": 2,
        "template": _template(chatbot, settings, conf),
    }
    annotations = {names.TEMPLATE_INPUTS: web_inputs(chatbot.spec)}
    return child(chatbot, DEPLOYMENT, names.web(name), WEB, {"spec": body}, annotations)


def _template(chatbot: Chatbot, settings: Settings, conf: str) -> dict[str, Any]:
    name, pods = chatbot.metadata.name, chatbot.spec.pods
    annotations = {**pods.annotations, names.CONF_HASH: names.short_hash(conf)}
    return {
        "metadata": {"labels": names.labels(name, WEB, pods.labels), "annotations": annotations},
        "spec": {
            "serviceAccountName": names.web(name),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": settings.grace_seconds,
            "securityContext": pod_security(USER),
            "containers": [_nginx(chatbot, settings)],
            "volumes": [
                {"name": "config", "configMap": {"name": names.web(name)}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            ],
            **placement(chatbot, WEB),
        },
    }


def _nginx(chatbot: Chatbot, settings: Settings) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "timeoutSeconds": 2, "failureThreshold": 3}
    # The mark makes nginx close connections after their answer, so that clients open the next one elsewhere.
    drain = f"touch {_SCRATCH_FOLDER}/draining; sleep {settings.pre_stop_seconds}"
    return {
        "name": "nginx",
        "image": image(chatbot.spec.pods, settings.web_image),
        "imagePullPolicy": settings.image_pull_policy,
        "ports": [{"name": "http", "containerPort": WEB_PORT, "protocol": "TCP"}],
        "resources": resources(chatbot.spec.web.resources),
        "readinessProbe": {**probe, "periodSeconds": 1},
        "livenessProbe": {**probe, "periodSeconds": 10, "terminationGracePeriodSeconds": HUNG_SECONDS},
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", drain]}}},
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "config", "mountPath": _CONFIG_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": _SCRATCH_FOLDER},
        ],
    }
