"""The Job that fetches the weights of one list of models into the claim. Pure."""

from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, DOWNLOAD, child
from chatbot_operator.desired.deployment import CONTAINER_SECURITY, USER, image, placement, pod_security, resources
from chatbot_operator.kinds import JOB
from chatbot_operator.revision import list_hash
from chatbot_operator.settings import Settings

PERMANENT_EXIT = 42
"""Exit code of the downloader for a failure that another try cannot mend: a model that does not exist."""


def download_job(chatbot: Chatbot, settings: Settings, *, claim: str, claim_uid: str) -> dict[str, Any]:
    """The Job for the spec's list of models. It never changes once made: another list is another name.

    It asks for the serving pods' placement and size, since the first pod ties a late-binding volume to its node.
    """
    spec, name, hashed = chatbot.spec, chatbot.metadata.name, list_hash(chatbot.spec)
    source = spec.local.source.download if spec.local.source and spec.local.source.download else None
    env = {
        "CHATBOT_NAME": name,
        "CHATBOT_NAMESPACE": chatbot.metadata.namespace,
        "CHATBOT_LIST_HASH": hashed,
        "CHATBOT_MODELS": " ".join(spec.local.models),
        "CHATBOT_REGISTRY": source.registry if source else "",
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(USER),
        "containers": [
            {
                "name": DOWNLOAD,
                "image": image(spec.pods, settings.runtime_image),
                "imagePullPolicy": settings.image_pull_policy,
                "args": ["download"],
                "env": [{"name": k, "value": v} for k, v in env.items()],
                "resources": resources(effective.backend_resources(chatbot.spec, "local")),
                "securityContext": CONTAINER_SECURITY,
                "volumeMounts": [{"name": "models", "mountPath": "/models"}],
            }
        ],
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": claim}}],
        **placement(chatbot, BACKEND),
    }
    on_exit = {"containerName": DOWNLOAD, "operator": "In", "values": [PERMANENT_EXIT]}
    body = {
        "backoffLimit": source.backoff_limit if source else 4,
        "activeDeadlineSeconds": source.active_deadline_seconds if source else 3600,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": on_exit}]},
        "template": {"metadata": {"labels": names.labels(name, DOWNLOAD, spec.pods.labels)}, "spec": pod},
    }
    annotations = {
        names.CLAIM_UID: claim_uid,
        names.LIST_HASH: hashed,
        names.RETRY: chatbot.metadata.annotations.get(names.RETRY, ""),
    }
    return child(chatbot, JOB, names.download(name, hashed), DOWNLOAD, {"spec": body}, annotations)
