"""The Services: the public address, the backend's inner one, and the one by which pods count each other. Pure."""

from typing import Any

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, child
from chatbot_operator.kinds import SERVICE

HTTP_PORT = 8000
INTERNAL_PORT = 8001
_HTTP = {"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}


def public_service(chatbot: Chatbot) -> dict[str, Any]:
    """The one public address; it never changes its name.

    Class, source ranges and traffic policy are refused by the API server on a type that does not use them.
    """
    expose = chatbot.spec.expose
    spec: dict[str, Any] = {
        "type": expose.type,
        "selector": names.selector(chatbot.metadata.name, BACKEND),
        "ports": [{**_HTTP, "port": expose.port}],
    }
    if expose.type != "ClusterIP":
        spec["externalTrafficPolicy"] = expose.external_traffic_policy
    if expose.type == "LoadBalancer":
        if expose.load_balancer_class:
            spec["loadBalancerClass"] = expose.load_balancer_class
        if expose.load_balancer_source_ranges:
            spec["loadBalancerSourceRanges"] = list(expose.load_balancer_source_ranges)
    annotations = dict(expose.annotations) if not expose.host else {}
    return child(chatbot, SERVICE, chatbot.metadata.name, BACKEND, {"spec": spec}, annotations)


def backend_service(chatbot: Chatbot) -> dict[str, Any]:
    """What the web pods proxy to."""
    spec = {"type": "ClusterIP", "selector": names.selector(chatbot.metadata.name, BACKEND), "ports": [dict(_HTTP)]}
    return child(chatbot, SERVICE, names.backend(chatbot.metadata.name), BACKEND, {"spec": spec})


def peers_service(chatbot: Chatbot) -> dict[str, Any]:
    """Headless: its DNS name has one address for each ready backend pod."""
    spec = {"clusterIP": "None", "selector": names.selector(chatbot.metadata.name, BACKEND), "ports": [dict(_HTTP)]}
    return child(chatbot, SERVICE, names.peers(chatbot.metadata.name), BACKEND, {"spec": spec})
