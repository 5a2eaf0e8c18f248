"""The NetworkPolicies: nothing in or out but what a phase needs. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, WEB, child
from chatbot_operator.desired.nginx import WEB_PORT
from chatbot_operator.desired.service import HTTP_PORT, INTERNAL_PORT
from chatbot_operator.endpoints import endpoint
from chatbot_operator.kinds import NETWORK_POLICY
from chatbot_operator.settings import Settings

_NAMESPACE_NAME = "kubernetes.io/metadata.name"

_WAYS_OUT = ("CHATBOT_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY")
"""The variables of a pod that name an address which it sends prompts to."""

_ANYWHERE: tuple[Mapping[str, Any], ...] = (
    # A policy knows no names, so any address may be meant; but never those where clouds keep a node's credentials.
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::/32", "fd20:ce::/32"]}},
    # Some network plugins do not count pods among the addresses.
    {"namespaceSelector": {}},
)
_NAMES = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


def backend_policy(chatbot: Chatbot, settings: Settings, templates: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Requests from anywhere, state and metrics for the operator and the scrapers, and out only to where the pods
    send prompts: mock sends none.

    `templates` are those of the pods that run and of those that are wanted: whoever finishes an answer keeps its way.
    """
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
        "egress": _egress(chatbot, templates),
    }
    return child(chatbot, NETWORK_POLICY, names.backend(chatbot.metadata.name), BACKEND, {"spec": body})


def web_policy(chatbot: Chatbot) -> dict[str, Any]:
    """Requests from anywhere, and out only to the backend's pods: the page asks nobody else, not even for a name."""
    name = chatbot.metadata.name
    backend = {"podSelector": {"matchLabels": names.selector(name, BACKEND)}}
    body = {
        "podSelector": {"matchLabels": names.selector(name, WEB)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": WEB_PORT, "protocol": "TCP"}]}],
        "egress": [{"to": [backend], "ports": [{"port": HTTP_PORT, "protocol": "TCP"}]}],
    }
    return child(chatbot, NETWORK_POLICY, names.web(name), WEB, {"spec": body})


def _egress(chatbot: Chatbot, templates: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if chatbot.spec.privacy.external_inference == "Forbidden":
        return []  # at once, also for pods that still finish an answer from outside
    ports = sorted({port for template in templates for port in _ports(template)})
    if not ports:
        return []
    out = [{"port": port, "protocol": "TCP"} for port in ports]
    return [{"ports": list(_NAMES)}, {"to": [dict(peer) for peer in _ANYWHERE], "ports": out}]


def _ports(template: Mapping[str, Any]) -> Iterator[int]:
    """The ports that the pods of a template send prompts to."""
    for container in template["spec"]["containers"]:
        for variable in container.get("env", ()):
            target = endpoint(variable.get("value") or "") if variable["name"] in _WAYS_OUT else None
            if target is not None:
                yield target.port
