"""Names, labels and annotations of everything the operator makes. Pure: it must not know the cluster."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from chatbot_operator.kinds import GROUP

MANAGER = "chatbot-operator"
"""Field manager of every server-side apply."""

SCALE_MANAGER = "chatbot-operator-scale"
"""Field manager of patches of the scale subresource, so that an apply never owns `replicas`."""

CHATBOT_LABEL = f"{GROUP}/chatbot"
PHASE_LABEL = f"{GROUP}/phase"
REVISION_LABEL = f"{GROUP}/revision"
CLAIM_LABEL = f"{GROUP}/claim"
COMPONENT_LABEL = "app.kubernetes.io/component"
SELECTOR = f"app.kubernetes.io/managed-by={MANAGER}"
"""Label selector of every watch and list of children."""

DOWNLOAD = "download"
"""Component of what fetches models, and the container that does."""

SETTINGS_KEY = "settings.json"
"""Key of the settings' ConfigMap, and so the name of the file that pods read."""

KEPT_LISTS = f"{GROUP}/kept-lists"
TEMPLATE_INPUTS = f"{GROUP}/template-inputs"
APPLIED_HASH = f"{GROUP}/applied-hash"
CONF_HASH = f"{GROUP}/nginx-conf"
SETTINGS_NUDGE = f"{GROUP}/settings"
FAILED_REVISION = f"{GROUP}/failed-revision"
CLAIM_UID = f"{GROUP}/claim-uid"
CAPACITY = f"{GROUP}/capacity"
LIST_HASH = f"{GROUP}/list-hash"
DOWNLOADED = f"{GROUP}/downloaded-"
"""Prefix of a claim's annotations: one for each list of models that is on it whole."""

RETRY = f"{GROUP}/retry"
PAUSED = f"{GROUP}/paused"


def short_hash(value: Any) -> str:
    """Eight hex digits that name a JSON value: 45 + `-download-` + 8 characters make a name of 63."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def backend(chatbot: str) -> str:
    """Name of the backend's Deployment, Service, autoscaler, budget, account, settings and policy."""
    return f"{chatbot}-backend"


def web(chatbot: str) -> str:
    """Name of the chat page's Deployment, Service, autoscaler, budget, account, configuration and policy."""
    return f"{chatbot}-web"


def peers(chatbot: str) -> str:
    """Name of the headless Service by which backend pods count each other."""
    return f"{chatbot}-peers"


def claim(chatbot: str, storage_class: str | None, access_mode: str) -> str:
    """Name of the claim of the weights: another class or mode is another claim."""
    return f"{chatbot}-models-{short_hash([storage_class, access_mode])}"


def download(chatbot: str, list_hash: str) -> str:
    """Name of the Job that fetches one list of models, and of its Service and policy."""
    return f"{chatbot}-download-{list_hash}"


def selector(chatbot: str, component: str) -> dict[str, str]:
    """The labels that select the pods of one component; never changed, since a selector cannot be."""
    return {"app.kubernetes.io/instance": chatbot, COMPONENT_LABEL: component, "app.kubernetes.io/managed-by": MANAGER}


def labels(chatbot: str, component: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The labels of one child; `extra` are the user's, which cannot replace ours."""
    return {
        **(extra or {}),
        "app.kubernetes.io/name": "chatbot",
        **selector(chatbot, component),
        CHATBOT_LABEL: chatbot,
    }
