"""What the backend's pods may reach: nothing in mock, the endpoint in hf, and for as long as a pod needs it."""

from typing import Any

from chatbot_operator.actions import Apply
from chatbot_operator.kinds import NETWORK_POLICY, POD, Ref
from tests.support.scenes import Scene, migrating, serving
from tests.support.simulated_world import KEY

MOCK: dict[str, Any] = {"phase": "mock"}
HF: dict[str, Any] = {"phase": "hf", "hf": {"models": ["team/model"]}}
INSIDE = {**HF, "hf": {"models": ["m"], "baseURL": "http://vllm.models.svc:8000/v1"}}


def ways_out(scene: Scene) -> set[int]:
    """The ports of the policy's egress rules, names (53) left out."""
    policy = next(
        a.body for a in scene.plan().actions if isinstance(a, Apply) and a.ref == Ref(NETWORK_POLICY, *BACKEND)
    )
    return {p["port"] for rule in policy["spec"]["egress"] for p in rule["ports"]} - {53}


BACKEND = (KEY.namespace, f"{KEY.name}-backend")


def test_a_mock_has_no_way_out() -> None:
    assert ways_out(serving(MOCK)) == set()


def test_a_hosted_model_is_reached_at_its_port_alone() -> None:
    assert ways_out(serving(HF)) == {443}


def test_a_proxy_is_reached_too() -> None:
    network = {"httpsProxy": "http://proxy.example.com:3128"}
    assert ways_out(serving({**HF, "network": network})) == {443, 3128}


def test_the_way_is_open_before_the_first_pod_that_needs_it() -> None:
    scene = serving(MOCK)
    scene.raw["spec"] = HF
    assert ways_out(scene) == {443}


def test_the_way_stays_open_for_pods_that_finish_their_answers() -> None:
    scene = migrating(HF, MOCK)
    for pod in [o for r, o in scene.objects.items() if r.kind == POD]:
        pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    assert ways_out(scene) == {443}
    for ref in [p.ref for p in scene.observed.pods if p.phase == "hf"]:
        del scene.objects[ref]
    assert ways_out(scene) == set()


def test_moving_to_another_endpoint_keeps_the_way_to_the_old_one() -> None:
    scene = migrating(HF, INSIDE)
    scene.settings = scene.settings.model_copy(update={"allowed_hosts": ("vllm.models.svc",)})
    assert ways_out(scene) == {443, 8000}


def test_forbidding_it_closes_every_way_at_once() -> None:
    scene = migrating(HF, MOCK)
    scene.raw["spec"] = {**MOCK, "privacy": {"externalInference": "Forbidden"}}
    assert ways_out(scene) == set()


def test_an_endpoint_that_is_not_allowed_opens_nothing() -> None:
    scene = serving(MOCK)
    scene.raw["spec"] = {**HF, "hf": {"models": ["m"], "baseURL": "https://evil.example:8443/v1"}}
    assert ways_out(scene) == set()
