"""The Services: the public address, the inner ones of backend and page, and the one by which pods count each other.
Pure."""

from typing import Any

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, WEB, child
from chatbot_operator.desired.nginx import WEB_PORT
from chatbot_operator.kinds import SERVICE

HTTP_PORT = 8000
INTERNAL_PORT = 8001
_HTTP = {"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}


def public_service(chatbot: Chatbot, front: str) -> dict[str, Any]:
    """The one public address, whichever component answers there; it never changes its name.

    Class, source ranges and traffic policy are refused by the API server on a type that does not use them.
    """
    expose = chatbot.spec.expose
    spec: dict[str, Any] = {
        "type": expose.type,
        "selector": names.selector(chatbot.metadata.name, front),
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


def web_service(chatbot: Chatbot) -> dict[str, Any]:
    """The chat page's pods by a name of their own, whatever the public address selects."""
    ports = [{**_HTTP, "port": WEB_PORT}]
    spec = {"type": "ClusterIP", "selector": names.selector(chatbot.metadata.name, WEB), "ports": ports}
    return child(chatbot, SERVICE, names.web(chatbot.metadata.name), WEB, {"spec": spec})


def peers_service(chatbot: Chatbot) -> dict[str, Any]:
    """Headless: its DNS name has one address for each ready backend pod."""
    spec = {"clusterIP": "None", "selector": names.selector(chatbot.metadata.name, BACKEND), "ports": [dict(_HTTP)]}
    return child(chatbot, SERVICE, names.peers(chatbot.metadata.name), BACKEND, {"spec": spec})
