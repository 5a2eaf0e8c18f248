"""How a chatbot is reached from outside: load balancer, Ingress, HTTPRoute, and what the status says of each."""

from typing import Any

import pytest

from chatbot_operator.actions import Apply, Delete
from chatbot_operator.api.reasons import Reason
from chatbot_operator.kinds import HTTP_ROUTE, INGRESS, SERVICE, Ref
from tests.support.scenes import Scene, serving
from tests.support.simulated_world import KEY

OPEN = {"mode": "Anonymous"}
GATEWAY = {"host": "chat.example.com", "gatewayRef": {"name": "public", "namespace": "gateways"}}
CLASS = {"host": "chat.example.com", "ingressClassName": "nginx"}
ROUTE = Ref(HTTP_ROUTE, KEY.namespace, KEY.name)
WAY_IN = Ref(INGRESS, KEY.namespace, KEY.name)


def exposed(**expose: Any) -> Scene:
    scene = serving({"phase": "mock", "access": OPEN, "expose": expose})
    scene.apply()
    return scene


def said(scene: Scene) -> tuple[str, str, str, str]:
    """Status and reason of Exposed, reason of Ready, URL."""
    status = scene.plan().status
    exposed, ready = status.condition("Exposed"), status.condition("Ready")
    assert exposed is not None
    assert ready is not None
    return exposed.status, exposed.reason, ready.reason, status.url


def parent(*conditions: tuple[str, str, str], generation: int = 1) -> dict[str, Any]:
    told = [
        {"type": t, "status": s, "reason": r, "message": "It said so.", "observedGeneration": generation}
        for t, s, r in conditions
    ]
    return {"parents": [{"controllerName": "example.com/gateway", "conditions": told}]}


def test_a_host_with_a_gateway_is_an_http_route_to_the_public_service_without_a_time_limit() -> None:
    spec = exposed(**GATEWAY, annotations={"example.com/pool": "a"}).objects[ROUTE]
    assert spec["spec"]["parentRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "gateways"}
    ]
    assert spec["spec"]["hostnames"] == ["chat.example.com"]
    (rule,) = spec["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s"}
    assert [(b["name"], b["port"]) for b in rule["backendRefs"]] == [(KEY.name, 80)]
    assert spec["metadata"]["annotations"]["example.com/pool"] == "a"


def test_a_host_with_a_class_is_an_ingress_to_the_public_service() -> None:
    scene = exposed(**CLASS, tlsSecretName="chat-tls", port=8080, annotations={"example.com/pool": "a"})
    spec = scene.objects[WAY_IN]["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": ["chat.example.com"], "secretName": "chat-tls"}]
    (rule,) = spec["rules"]
    assert rule["host"] == "chat.example.com"
    assert rule["http"]["paths"][0]["backend"] == {"service": {"name": KEY.name, "port": {"number": 8080}}}
    assert "example.com/pool" not in scene.objects[Ref(SERVICE, *KEY)]["metadata"].get("annotations", {})
    assert scene.plan().status.url == "https://chat.example.com"


def test_an_ingress_has_an_address_once_its_controller_says_so() -> None:
    scene = exposed(**CLASS)
    assert said(scene)[:3] == ("False", Reason.ADDRESS_PENDING, Reason.ADDRESS_PENDING)
    scene.objects[WAY_IN]["status"] = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
    assert said(scene) == ("True", Reason.ADDRESS_ASSIGNED, Reason.SERVING, "http://chat.example.com")


def test_a_route_that_nobody_has_taken_up_is_pending_and_names_the_gateway() -> None:
    scene = exposed(**GATEWAY)
    assert said(scene)[:3] == ("False", Reason.ADDRESS_PENDING, Reason.ADDRESS_PENDING)
    ready = scene.plan().status.condition("Ready")
    assert ready is not None
    assert "kubectl get gateway -n gateways public" in ready.message


@pytest.mark.parametrize("type_", ["Accepted", "ResolvedRefs"])
def test_a_route_that_the_gateway_refuses_quotes_it(type_: str) -> None:
    scene = exposed(**GATEWAY)
    scene.objects[ROUTE]["status"] = parent((type_, "False", "NotAllowedByListeners"))
    assert said(scene)[:3] == ("False", Reason.ROUTE_NOT_ACCEPTED, Reason.ROUTE_NOT_ACCEPTED)
    ready = scene.plan().status.condition("Ready")
    assert ready is not None
    assert "NotAllowedByListeners: It said so." in ready.message


def test_a_route_that_the_gateway_accepts_is_an_address() -> None:
    scene = exposed(**GATEWAY)
    scene.objects[ROUTE]["status"] = parent(("Accepted", "True", "Accepted"), ("ResolvedRefs", "True", "ResolvedRefs"))
    assert said(scene) == ("True", Reason.ADDRESS_ASSIGNED, Reason.SERVING, "http://chat.example.com")


def test_what_a_gateway_said_of_an_earlier_route_does_not_count() -> None:
    scene = exposed(**GATEWAY)
    scene.objects[ROUTE]["metadata"]["generation"] = 2
    scene.objects[ROUTE]["status"] = parent(("Accepted", "True", "Accepted"))
    assert said(scene)[1] == Reason.ADDRESS_PENDING


def test_a_cluster_without_http_routes_is_told_what_to_install() -> None:
    scene = serving({"phase": "mock", "access": OPEN, "expose": GATEWAY})
    scene.absent = frozenset({HTTP_ROUTE})
    assert ROUTE not in {a.ref for a in scene.plan().actions if isinstance(a, Apply)}
    assert said(scene)[2] == Reason.ROUTE_NOT_ACCEPTED
    ready = scene.plan().status.condition("Ready")
    assert ready is not None
    assert "Install the Gateway API" in ready.message


@pytest.mark.parametrize(("expose", "ref"), [(GATEWAY, ROUTE), (CLASS, WAY_IN)])
def test_a_host_that_is_not_wanted_any_more_takes_its_route_with_it(expose: dict[str, Any], ref: Ref) -> None:
    scene = exposed(**expose)
    scene.raw["spec"] = {"phase": "mock"}
    assert ref in {a.ref for a in scene.plan().actions if isinstance(a, Delete)}


def test_a_load_balancer_is_pending_until_it_has_an_address() -> None:
    scene = exposed(type="LoadBalancer")
    assert said(scene)[1:3] == (Reason.ADDRESS_PENDING, Reason.ADDRESS_PENDING)
    scene.objects[Ref(SERVICE, *KEY)]["status"] = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
    assert said(scene) == ("True", Reason.ADDRESS_ASSIGNED, Reason.SERVING, "http://203.0.113.7")
    endpoints = scene.plan().status.endpoints
    assert endpoints is not None
    assert (endpoints.web, endpoints.openai) == ("http://203.0.113.7", "http://203.0.113.7/v1")
