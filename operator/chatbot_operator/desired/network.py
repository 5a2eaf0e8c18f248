"""The NetworkPolicies: nothing in or out but what a phase needs. Pure."""

from typing import Any

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, child
from chatbot_operator.desired.service import HTTP_PORT, INTERNAL_PORT
from chatbot_operator.kinds import NETWORK_POLICY
from chatbot_operator.settings import Settings

_NAMESPACE_NAME = "kubernetes.io/metadata.name"


def backend_policy(chatbot: Chatbot, settings: Settings) -> dict[str, Any]:
    """Requests from anywhere, state and metrics for the operator and the scrapers, and no way out: mock needs none."""
    operator = {
        "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: settings.namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "chatbot-operator"}},
    }
    scrapers = [{"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: n}}} for n in settings.scrape_namespaces]
    body = {
        "podSelector": {"matchLabels": names.selector(chatbot.metadata.name, BACKEND)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"ports": [{"port": HTTP_PORT, "protocol": "TCP"}]},
            {"from": [operator, *scrapers], "ports": [{"port": INTERNAL_PORT, "protocol": "TCP"}]},
        ],
        "egress": [],
    }
    return child(chatbot, NETWORK_POLICY, names.backend(chatbot.metadata.name), BACKEND, {"spec": body})
