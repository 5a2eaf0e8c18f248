"""What brings a host name's requests to the public Service: an HTTPRoute or an Ingress. Pure."""

from typing import Any

from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, child
from chatbot_operator.kinds import HTTP_ROUTE, INGRESS


def route(chatbot: Chatbot) -> dict[str, Any] | None:
    """The route of `expose.host`; None without one."""
    expose, name = chatbot.spec.expose, chatbot.metadata.name
    if not expose.host:
        return None
    if expose.gateway_ref:
        gateway = expose.gateway_ref
        parent = {"group": HTTP_ROUTE.group, "kind": "Gateway", "name": gateway.name}
        if gateway.namespace:
            parent["namespace"] = gateway.namespace
        # Without a limit of its own: gateways cut an answer off at 15 s unless told otherwise, and a stream is longer.
        rule = {
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [{"group": "", "kind": "Service", "name": name, "port": expose.port, "weight": 1}],
            "timeouts": {"request": "0s"},
        }
        body: dict[str, Any] = {"parentRefs": [parent], "hostnames": [expose.host], "rules": [rule]}
        return child(chatbot, HTTP_ROUTE, name, BACKEND, {"spec": body}, expose.annotations)
    backend = {"service": {"name": name, "port": {"number": expose.port}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    body = {"ingressClassName": expose.ingress_class_name, "rules": [{"host": expose.host, "http": {"paths": paths}}]}
    if expose.tls_secret_name:
        body["tls"] = [{"hosts": [expose.host], "secretName": expose.tls_secret_name}]
    return child(chatbot, INGRESS, name, BACKEND, {"spec": body}, expose.annotations)
