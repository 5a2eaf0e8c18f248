"""The NetworkPolicies: nothing in or out but what a phase needs. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, DOWNLOAD, WEB, child
from chatbot_operator.desired.nginx import WEB_PORT
from chatbot_operator.desired.service import HTTP_PORT, INTERNAL_PORT
from chatbot_operator.endpoints import endpoint
from chatbot_operator.kinds import NETWORK_POLICY
from chatbot_operator.revision import list_hash
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
_INTERNAL = {"port": INTERNAL_PORT, "protocol": "TCP"}
HTTPS_PORT = 443
LOOPBACK = "127.0.0.1"
"""Where the engine of phase local listens: in the pod itself."""
_NAMES = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


def backend_policy(
    chatbot: Chatbot, settings: Settings, templates: Iterable[Mapping[str, Any]], *, downloads: bool = False
) -> dict[str, Any]:
    """Requests from anywhere, state and metrics for the operator and the scrapers, and out only to where the pods
    send prompts: mock and local send none.

    `templates` are those of the pods that run and of those that are wanted: whoever finishes an answer keeps its way.
    `downloads`: a downloader runs, whose state the pods show.
    """
    body = {
        "podSelector": {"matchLabels": names.selector(chatbot.metadata.name, BACKEND)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"ports": [{"port": HTTP_PORT, "protocol": "TCP"}]},
            {"from": _watchers(settings), "ports": [_INTERNAL]},
        ],
        "egress": [*_egress(chatbot, templates), *(_to_downloader(chatbot) if downloads else ())],
    }
    return child(chatbot, NETWORK_POLICY, names.backend(chatbot.metadata.name), BACKEND, {"spec": body})


def download_policy(chatbot: Chatbot, settings: Settings, addresses: Iterable[str]) -> dict[str, Any]:
    """State for the operator, the scrapers and the chatbot's own pods, and out to where models come from.

    `addresses` are URLs. They may lead on to other hosts, but those are asked by https.
    """
    name, network = chatbot.metadata.name, chatbot.spec.network
    ways = [*addresses, network.http_proxy or "", network.https_proxy or ""]
    targets = filter(None, (endpoint(way) for way in ways if way))
    ports = sorted({HTTPS_PORT, *(target.port for target in targets)})
    own = {"podSelector": {"matchLabels": names.selector(name, BACKEND)}}
    body = {
        "podSelector": {"matchLabels": names.selector(name, DOWNLOAD)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [*_watchers(settings), own], "ports": [_INTERNAL]}],
        "egress": _anywhere(ports),
    }
    return child(chatbot, NETWORK_POLICY, names.download(name, list_hash(chatbot.spec)), DOWNLOAD, {"spec": body})


def _watchers(settings: Settings) -> list[dict[str, Any]]:
    """Who may read the state and the metrics of pods."""
    operator = {
        "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: settings.namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "chatbot-operator"}},
    }
    scrapers = [{"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: n}}} for n in settings.scrape_namespaces]
    return [operator, *scrapers]


def _to_downloader(chatbot: Chatbot) -> list[dict[str, Any]]:
    downloader = {"podSelector": {"matchLabels": names.selector(chatbot.metadata.name, DOWNLOAD)}}
    return [{"ports": list(_NAMES)}, {"to": [downloader], "ports": [_INTERNAL]}]


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
    return _anywhere(ports)


def _anywhere(ports: Iterable[int]) -> list[dict[str, Any]]:
    out = [{"port": port, "protocol": "TCP"} for port in ports]
    return [{"ports": list(_NAMES)}, {"to": [dict(peer) for peer in _ANYWHERE], "ports": out}]


def _ports(template: Mapping[str, Any]) -> Iterator[int]:
    """The ports that the pods of a template send prompts to."""
    for container in template["spec"]["containers"]:
        for variable in container.get("env", ()):
            target = endpoint(variable.get("value") or "") if variable["name"] in _WAYS_OUT else None
            if target is not None and target.host != LOOPBACK:
                yield target.port
