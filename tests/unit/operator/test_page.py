"""The chat page's pods and the address that leads to them: never an address without an answer."""

import json
from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.actions import Apply, Delete, Scale
from chatbot_operator.api.reasons import Reason
from chatbot_operator.desired.base import BACKEND, WEB
from chatbot_operator.kinds import AUTOSCALER, CONFIG_MAP, DEPLOYMENT, POD, REPLICA_SET, SERVICE, Ref
from chatbot_runtime.contract import RuntimeSettings
from tests.support import scenes
from tests.support.scenes import Scene, serving
from tests.support.simulated_api import clone
from tests.support.simulated_controllers import is_ready
from tests.support.simulated_world import KEY, World, settled

MOCK = {"phase": "mock"}
NO_PAGE = {**MOCK, "web": {"enabled": False}}
PAGE = {**MOCK, "web": {"enabled": True}}
PUBLIC = Ref(SERVICE, KEY.namespace, KEY.name)
DEPLOYED = Ref(DEPLOYMENT, KEY.namespace, names.web(KEY.name))
CONFIG = Ref(CONFIG_MAP, KEY.namespace, names.web(KEY.name))


def applied(scene: Scene) -> dict[Ref, Any]:
    return {a.ref: a.body for a in scene.plan().actions if isinstance(a, Apply)}


def leads_to(scene: Scene) -> str:
    return str(applied(scene)[PUBLIC]["spec"]["selector"][names.COMPONENT_LABEL])


def settings(scene: Scene) -> RuntimeSettings:
    config = applied(scene)[Ref(CONFIG_MAP, KEY.namespace, names.backend(KEY.name))]
    return RuntimeSettings.model_validate_json(config["data"][names.SETTINGS_KEY])


def test_the_page_has_seven_objects_and_without_it_there_is_none_of_them() -> None:
    own = {(ref.kind.name, ref.name) for ref in applied(serving()) if ref.name == names.web(KEY.name)}
    assert {kind for kind, _ in own} == {
        *("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"),
        *("ServiceAccount", "ConfigMap", "NetworkPolicy"),
    }
    assert not [ref for ref in applied(serving(NO_PAGE)) if ref.name == names.web(KEY.name)]


def test_the_page_waits_for_the_address_of_the_backends_service() -> None:
    scene = Scene()
    assert DEPLOYED not in applied(scene)
    scene.apply()
    assert f"server {scenes.ADDRESS}:8000" in applied(scene)[CONFIG]["data"]["nginx.conf"]


def test_an_ipv6_address_is_bracketed_and_nginx_listens_on_both() -> None:
    scene = Scene()
    scene.apply()
    scene.objects[Ref(SERVICE, KEY.namespace, names.backend(KEY.name))]["spec"]["clusterIP"] = "2001:db8::1"
    conf = applied(scene)[CONFIG]["data"]["nginx.conf"]
    assert "server [2001:db8::1]:8000" in conf
    assert "listen [::]:8080 ipv6only=off" in conf


def test_a_new_address_of_the_backend_makes_other_pods_and_another_title_does_not() -> None:
    scene = serving()
    before = applied(scene)[DEPLOYED]["spec"]["template"]
    scene.raw["spec"]["web"] = {"title": "Support"}
    assert applied(scene)[DEPLOYED]["spec"]["template"] == before
    assert json.loads(applied(scene)[CONFIG]["data"]["config.json"])["title"] == "Support"
    scene.objects[Ref(SERVICE, KEY.namespace, names.backend(KEY.name))]["spec"]["clusterIP"] = "192.0.2.81"
    assert applied(scene)[DEPLOYED]["spec"]["template"] != before


def test_the_address_of_a_new_chatbot_leads_to_the_page_from_the_first() -> None:
    assert leads_to(Scene()) == WEB
    assert leads_to(Scene(NO_PAGE)) == BACKEND


def test_where_the_backend_answers_the_page_takes_over_once_a_pod_of_it_is_ready() -> None:
    scene = serving(NO_PAGE)
    scene.raw["spec"] = PAGE
    assert leads_to(scene) == BACKEND
    assert settings(scene).access.trusted_hops == 0
    scene.apply()
    scene.page(ready=0, sick=2)
    assert leads_to(scene) == BACKEND
    scene.page(ready=1, sick=1)
    assert leads_to(scene) == WEB
    assert settings(scene).access.trusted_hops == 1


def test_a_page_that_is_not_wanted_any_more_goes_only_after_the_address_leads_elsewhere() -> None:
    scene = serving()
    scene.raw["spec"] = NO_PAGE
    plan = scene.plan()
    assert leads_to(scene) == BACKEND
    assert not [a for a in plan.actions if isinstance(a, Delete)]
    scene.apply()
    gone = {a.ref for a in scene.plan().actions if isinstance(a, Delete)}
    assert DEPLOYED in gone
    assert gone == {ref for ref in scene.objects if ref.name == names.web(KEY.name) and ref.kind != POD}


def test_a_suspended_chatbot_keeps_one_pod_of_the_page_which_says_so() -> None:
    scene = serving()
    scene.apply()
    scene.raw["spec"] = {**MOCK, "suspend": True}
    actions = scene.plan().actions
    assert Scale(DEPLOYED, 1) in actions
    assert Delete in {type(a) for a in actions if a.ref == Ref(AUTOSCALER, KEY.namespace, names.web(KEY.name))}
    assert json.loads(applied(scene)[CONFIG]["data"]["config.json"])["suspended"] is True


def test_without_an_autoscaler_the_page_has_the_fewest_pods_that_it_may_have() -> None:
    scene = serving({**MOCK, "web": {"autoscaling": {"enabled": False, "minReplicas": 3}}})
    assert Scale(DEPLOYED, 3) in scene.plan().actions
    assert Ref(AUTOSCALER, KEY.namespace, names.web(KEY.name)) not in applied(scene)


def test_an_autoscaler_that_is_there_owns_the_number_of_pods() -> None:
    scene = serving()
    scene.apply()
    scene.objects[DEPLOYED]["spec"]["replicas"] = 7
    assert not [a for a in scene.plan().actions if isinstance(a, Scale)]


def test_without_a_ready_pod_of_the_page_nobody_can_chat_and_the_status_says_so() -> None:
    scene = serving()
    scene.page(ready=0, sick=2)
    for index in range(2):
        scene.pod(index, deployment=scenes.WEB)["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    status = scene.plan().status
    available = status.condition("Available")
    assert available is not None
    assert (available.status, available.reason) == ("False", Reason.WEB_NOT_READY)
    scene.objects[DEPLOYED]["status"]["conditions"] = [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    ]
    ready = scene.plan().status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.WEB_NOT_READY
    assert "app.kubernetes.io/component=web" in ready.message


def test_a_page_whose_image_cannot_be_pulled_says_which_pod_and_the_api_goes_on() -> None:
    scene = serving(NO_PAGE)
    scene.raw["spec"] = PAGE
    scene.apply()
    scene.page(ready=0, sick=1)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    scene.pod(0, deployment=scenes.WEB)["status"]["containerStatuses"] = [{"name": "nginx", "state": waiting}]
    status = scene.plan().status
    ready, available = status.condition("Ready"), status.condition("Available")
    assert ready is not None
    assert available is not None
    assert ready.reason == Reason.IMAGE_PULL_FAILED
    assert "demo-web" in ready.message
    assert available.status == "True"
    assert status.endpoints is not None
    assert status.endpoints.web == ""


def test_the_memory_of_the_page_is_told_from_that_of_the_phase() -> None:
    scene = serving()
    scene.page(ready=1, sick=1)
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    scene.pod(1, deployment=scenes.WEB)["status"] |= {
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{"name": "nginx", "restartCount": 1, "lastState": {"terminated": ended}}],
    }
    ready = scene.plan().status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.OUT_OF_MEMORY
    assert "spec.web.resources.requests.memory" in ready.message


def test_the_page_costs_money_too() -> None:
    page, none = serving().plan().status.cost, serving(NO_PAGE).plan().status.cost
    assert page is not None
    assert none is not None
    assert int(page.monthly) > int(none.monthly)


def test_nothing_is_ready_before_the_page_is() -> None:
    scene = serving()
    scene.page(ready=1, sick=1)
    ready = scene.plan().status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.ROLLING_OUT
    assert "chat page" in ready.message


def test_a_change_in_the_midst_of_a_rollout_of_the_page_holds_it_first() -> None:
    scene = serving()
    scene.objects[DEPLOYED]["status"] |= {"replicas": 3, "updatedReplicas": 1}
    old = clone(scene.objects[Ref(REPLICA_SET, KEY.namespace, "demo-web-1")])
    old["metadata"] |= {"name": "demo-web-0", "uid": "earlier", "resourceVersion": "6"}
    old["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "0"}
    old["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] = "page0"
    scene.store(old)
    before = scene.objects[DEPLOYED]["spec"]["template"]
    scene.raw["spec"] = {**MOCK, "web": {"resources": {"requests": {"cpu": "50m"}}}}
    held = applied(scene)[DEPLOYED]["spec"]
    assert (held["paused"], held["template"]) == (True, before)
    scene.apply()
    scene.objects[Ref(REPLICA_SET, KEY.namespace, "demo-web-0")]["status"]["replicas"] = 0
    scene.objects[DEPLOYED]["status"]["observedGeneration"] = scene.objects[DEPLOYED]["metadata"]["generation"]
    assert "paused" not in applied(scene)[DEPLOYED]["spec"]


def answers(world: World) -> bool:
    """Whether the public Service has a ready pod."""
    selector = world.api.objects[PUBLIC]["spec"]["selector"]
    pods = (p for p in world.api.of_kind(POD) if selector.items() <= p["metadata"]["labels"].items())
    return any(is_ready(p) and "deletionTimestamp" not in p["metadata"] for p in pods)


CHANGES: tuple[dict[str, Any], ...] = (
    {"web": {"enabled": False}},
    {"web": {"enabled": True}},
    {"web": {"enabled": True, "title": "Other"}},
    {"web": {"enabled": True, "resources": {"requests": {"cpu": "50m"}}}},
    {"web": {"enabled": True, "autoscaling": {"enabled": False}}},
    {"phase": "hf"},
    {"phase": "mock"},
    {"backend": {"rollout": "Replace"}},
    {"backend": {"rollout": "Surge"}},
    {"pods": {"labels": {"team": "a"}}},
    {"pods": {"labels": {"team": "b"}}},
)


@pytest.mark.parametrize("seed", range(60))
async def test_however_the_page_is_switched_somebody_answers_at_the_address(seed: int) -> None:
    world = await settled(PAGE, seed=seed)
    for _ in range(6):
        world.edit(world.rng.choice(CHANGES))
        for _ in range(world.rng.randint(1, 25)):
            if world.rng.random() < 0.05:
                world.start_operator()
            if world.rng.random() < 0.3:
                world.deliver(lag=True)
                await world.reconcile()
            else:
                world.controllers.step()
            assert answers(world), f"nobody answers after {world.api.calls[-5:]}"
    await world.settle()
    enabled = world.chatbot.spec.web.enabled
    assert (DEPLOYED in world.api.objects) == enabled
    wanted = WEB if enabled else BACKEND
    assert world.api.objects[PUBLIC]["spec"]["selector"][names.COMPONENT_LABEL] == wanted
    ready = world.chatbot.status.condition("Ready")
    assert ready is not None
    assert ready.status == "True", ready.message


def test_a_page_that_is_on_its_way_is_progress() -> None:
    scene = serving(PAGE)
    scene.page(ready=1, sick=1)
    progressing = scene.plan().status.condition("Progressing")
    assert progressing is not None
    assert (progressing.status, progressing.reason) == ("True", Reason.ROLLING_OUT)
    scene.page(ready=2)
    progressing = scene.plan().status.condition("Progressing")
    assert progressing is not None
    assert (progressing.status, progressing.reason) == ("False", Reason.SETTLED)
