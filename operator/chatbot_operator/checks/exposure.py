"""How the chatbot is reached, as the cluster has it: load balancer, Ingress, HTTPRoute, the chat page. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from chatbot_operator.api.reasons import Reason
from chatbot_operator.checks.base import Context, Verdict
from chatbot_operator.desired.base import WEB
from chatbot_operator.kinds import HTTP_ROUTE, RawObject
from chatbot_operator.names import CHATBOT_LABEL, COMPONENT_LABEL
from chatbot_operator.observe import public_service, route


def web_not_ready(c: Context) -> Verdict | None:
    """The chat page is wanted, and its pods do not get ready, or the address does not lead to them."""
    if not c.chatbot.spec.web.enabled:
        return None
    web, name = c.observed.web, c.chatbot.metadata.name
    if web.ready_pods() and web.live and web.live.rolled_out and c.front == WEB:
        return None
    meanwhile = "" if c.front == WEB else " The API answers at the address meanwhile."
    return Verdict(
        Reason.WEB_NOT_READY,
        f"{len(web.ready_pods())} pods of the chat page are ready.{meanwhile} See: kubectl get pods -n {c.namespace} "
        f"-l {CHATBOT_LABEL}={name},{COMPONENT_LABEL}={WEB}",
    )


def address_pending(c: Context) -> Verdict | None:
    """The load balancer or Ingress has no address yet, or nobody has taken up the HTTPRoute."""
    expose, name = c.chatbot.spec.expose, c.chatbot.metadata.name
    if expose.type == "LoadBalancer" and not balancer_address(public_service(c.observed, name)):
        return Verdict(
            Reason.ADDRESS_PENDING,
            f"Service {name} of type LoadBalancer has no address yet. If that lasts, the cluster has no load "
            "balancer: use expose.type: NodePort.",
        )
    if not expose.host:
        return None
    live = route(c.observed, name)
    if expose.gateway_ref:
        if HTTP_ROUTE in c.observed.absent or (live is not None and any(_answers(live))):
            return None
        gateway = expose.gateway_ref
        where = f"{gateway.namespace or c.namespace}/{gateway.name}"
        return Verdict(
            Reason.ADDRESS_PENDING,
            f"No controller has taken up HTTPRoute {name} yet. If that lasts, check that Gateway {where} exists and "
            f"is programmed: kubectl get gateway -n {gateway.namespace or c.namespace} {gateway.name}",
        )
    if balancer_address(live):
        return None
    return Verdict(
        Reason.ADDRESS_PENDING,
        f"Ingress {name} has no address yet. If that lasts, check that expose.ingressClassName, "
        f"{expose.ingress_class_name}, has a controller: kubectl get ingressclass",
    )


def route_not_accepted(c: Context) -> Verdict | None:
    """The Gateway refuses the HTTPRoute, or the cluster does not know such a thing."""
    if not c.chatbot.spec.expose.gateway_ref:
        return None
    if HTTP_ROUTE in c.observed.absent:
        return Verdict(
            Reason.ROUTE_NOT_ACCEPTED,
            "This cluster has no HTTPRoute. Install the Gateway API with a controller, or use "
            "expose.ingressClassName in place of expose.gatewayRef.",
        )
    live = route(c.observed, c.chatbot.metadata.name)
    for condition in _answers(live) if live else ():
        if condition["type"] in ("Accepted", "ResolvedRefs") and condition["status"] == "False":
            said = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ").rstrip(".")
            return Verdict(
                Reason.ROUTE_NOT_ACCEPTED,
                f"The Gateway does not accept the HTTPRoute: {said}. Check expose.gatewayRef and expose.host, and the "
                "allowedRoutes of the Gateway's listeners.",
            )
    return None


def _answers(live: RawObject) -> Iterator[Mapping[str, Any]]:
    """What controllers say of the HTTPRoute as it is now; not of an earlier version of it."""
    generation = live["metadata"].get("generation", 0)
    for parent in live.get("status", {}).get("parents", ()):
        yield from (c for c in parent.get("conditions", ()) if c.get("observedGeneration", generation) >= generation)


def balancer_address(service: object) -> str:
    """Host name or IP address that a load balancer gave to a Service; empty while there is none."""
    status = service.get("status", {}) if isinstance(service, dict) else {}
    ingress = status.get("loadBalancer", {}).get("ingress") or [{}]
    return str(ingress[0].get("hostname") or ingress[0].get("ip") or "")
