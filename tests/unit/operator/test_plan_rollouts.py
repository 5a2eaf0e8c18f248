"""What is planned for the pods, case by case: their order, their number, steps back and pauses."""

from collections.abc import Mapping
from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.actions import Apply, Scale
from chatbot_operator.api.reasons import Reason
from chatbot_operator.checks import verdicts
from chatbot_operator.checks.base import Context
from chatbot_operator.desired.deployment import ENGINELESS
from chatbot_operator.kinds import (
    DEPLOYMENT,
    REPLICA_SET,
    SERVICE,
    Ref,
    ref_of,
)
from chatbot_operator.migration import failed_marker
from chatbot_operator.revision import revision
from tests.support.plans import (
    BACKEND,
    SCALER,
    downloading,
    moved,
    partly,
    planned,
    steps,
    template_of,
)
from tests.support.simulated_world import EVERY_PHASE, KEY, World, settled


def strategy_of(world: World) -> dict[str, int]:
    body = next(a.body for a in planned(world).actions if isinstance(a, Apply) and a.ref.kind == DEPLOYMENT)
    strategy: dict[str, int] = body["spec"]["strategy"]["rollingUpdate"]
    return strategy


@pytest.mark.parametrize(
    ("rollout", "strategy"),
    [
        pytest.param("Surge", {"maxUnavailable": 0, "maxSurge": 1}, id="Surge puts the new pod beside the old one"),
        pytest.param("Replace", {"maxUnavailable": 1, "maxSurge": 0}, id="Replace takes the old pod away first"),
    ],
)
def test_rollout_decides_which_pod_goes_first(rollout: str, strategy: dict[str, int]) -> None:
    assert strategy_of(World({"phase": "hf", "backend": {"rollout": rollout}})) == strategy


async def stuck_half_way() -> World:
    """One new pod answers, the next finds no place, and the progress deadline passes."""
    world = await settled({"phase": "mock"})
    world.controllers.faults.capacity = 1
    world.edit({"phase": "hf"})
    await partly(world)
    world.controllers.settle()
    world.controllers.deadline()
    return world


async def test_stuck_half_way_between_two_providers_it_steps_back() -> None:
    world = await stuck_half_way()
    old = next(t.revision for t in world.observed.templates if t.phase == "mock")
    decided = planned(world)
    assert template_of(decided) == old
    body = next(a.body for a in decided.actions if isinstance(a, Apply) and a.ref.kind == DEPLOYMENT)
    assert body["metadata"]["annotations"][names.FAILED_REVISION] == failed_marker(world.chatbot)
    ready = decided.status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.STEPPED_BACK
    assert names.RETRY in ready.message


async def test_there_is_no_way_back_to_pods_without_an_engine() -> None:
    world = World({"phase": "local"})
    await partly(world)
    world.controllers.settle()  # the runtime without its engine is ready, and the weights arrive
    await partly(world, 2)
    fixed = {"autoscaling": {"enabled": False}, "replicas": 2}
    world.controllers.faults.capacity = 1
    world.edit({"backend": fixed})
    await partly(world, 2)
    world.controllers.settle()
    world.controllers.deadline()
    world.deliver()
    live = world.observed.backend
    assert live is not None
    assert live.revision == revision(world.chatbot.spec)
    assert live.deadline_exceeded
    assert {p.revision for p in world.observed.ready_pods()} == {live.revision, ENGINELESS}
    assert template_of(planned(world)) in ("", live.revision)


def serving(world: World) -> str:
    return world.chatbot.status.serving_phase


async def test_after_stepping_back_it_stays_there_and_tries_again_only_when_asked() -> None:
    world = await stuck_half_way()
    await world.settle()
    assert serving(world) == "mock"
    assert template_of(planned(world)) == ""
    world.controllers.faults.capacity = 100
    await world.settle()
    assert serving(world) == "mock"
    world.edit(annotations={names.RETRY: "1"})
    assert template_of(planned(world)) == revision(world.chatbot.spec)
    await world.settle()
    assert serving(world) == "hf"
    assert names.FAILED_REVISION not in world.api.objects[BACKEND]["metadata"]["annotations"]


async def test_after_stepping_back_another_spec_is_tried_at_once() -> None:
    world = await stuck_half_way()
    await world.settle()
    world.edit({"hf": {"models": ["another/model"]}})
    await world.settle()
    labels = world.api.objects[BACKEND]["spec"]["template"]["metadata"]["labels"]
    assert labels[names.REVISION_LABEL] == revision(world.chatbot.spec)


async def test_new_pods_of_which_none_gets_ready_stay_as_probes_beside_the_old_ones() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"phase": "hf"})
    world.controllers.faults.broken.add(revision(world.chatbot.spec))
    await partly(world)
    world.controllers.settle()
    world.controllers.deadline()
    decided = planned(world)
    assert moved(world).template == "target"
    ready = decided.status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.STALLED
    assert decided.status.serving_phase == "mock"
    world.controllers.faults.broken.clear()
    await world.settle()
    assert world.chatbot.status.serving_phase == "hf", "what was wrong is mended, and the change finishes by itself"


async def test_fewer_pods_come_before_the_template_of_a_phase_that_runs_fewer() -> None:
    world = await settled({"phase": "hf", "local": {"prefetch": True}})
    world.edit({"phase": "local"})
    decided = planned(world)
    assert "scale 1" in steps(decided)
    assert template_of(decided) == "", "the new phase may be far larger, so the count goes down first"
    assert steps(decided).index("apply HorizontalPodAutoscaler") < steps(decided).index("scale 1")
    scaler = next(a.body for a in decided.actions if isinstance(a, Apply) and a.ref == SCALER)
    assert scaler["spec"]["maxReplicas"] == 1
    world.api.change(BACKEND, {"spec": {"replicas": 1}})
    for controller in (world.controllers.deployment, world.controllers.replica_sets, world.controllers.deployment):
        controller()
    assert template_of(planned(world)) == revision(world.chatbot.spec)


async def test_while_the_weights_are_on_their_way_the_old_phases_count_of_pods_holds() -> None:
    world = await downloading("hf")
    decided = planned(world)
    scaler = next(a.body for a in decided.actions if isinstance(a, Apply) and a.ref == SCALER)
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 10)
    assert not any(isinstance(a, Scale) for a in decided.actions)


async def test_suspend_takes_the_autoscaler_away_and_then_the_pods() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"suspend": True})
    lines = steps(planned(world))
    assert lines.index("delete HorizontalPodAutoscaler") < lines.index("scale 0")
    await world.settle()
    assert not world.observed.pods
    assert Ref(SERVICE, *KEY) in world.api.objects
    assert world.chatbot.status.serving_phase == ""


async def test_resume_goes_to_the_minimum_and_then_the_autoscaler_comes_back() -> None:
    world = await settled({"phase": "mock", "suspend": True})
    world.edit({"suspend": False})
    lines = steps(planned(world))
    assert lines.index("scale 2") < lines.index("apply HorizontalPodAutoscaler")
    await world.settle()
    assert len(world.observed.ready_pods()) == 2


async def test_with_autoscaling_off_the_count_is_the_specs() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"backend": {"autoscaling": {"enabled": False}, "replicas": 5}})
    lines = steps(planned(world))
    assert "delete HorizontalPodAutoscaler" in lines
    assert "scale 5" in lines
    world.edit({"backend": {"replicas": 1}})
    await world.settle()
    assert len(world.observed.ready_pods()) == 1
    assert SCALER not in world.api.objects


async def test_the_autoscalers_count_is_left_to_it() -> None:
    world = await settled({"phase": "mock"})
    world.api.change(BACKEND, {"spec": {"replicas": 7}})
    assert not any(isinstance(a, Scale) for a in planned(world).actions)


async def test_replicas_are_never_a_part_of_an_apply() -> None:
    for spec in ({"phase": "mock"}, {"phase": "hf", "backend": {"autoscaling": {"enabled": False}, "replicas": 3}}):
        world = World(spec)
        body = next(a.body for a in planned(world).actions if isinstance(a, Apply) and a.ref.kind == DEPLOYMENT)
        assert "replicas" not in body["spec"]


@pytest.mark.parametrize("late", [{"status": {"replicas": 3}}, {"status": {"observedGeneration": 0}}])
async def test_the_next_template_waits_while_a_set_of_pods_is_still_counted_as_it_was(late: dict[str, Any]) -> None:
    """Going back to a template whose pods are just going, Kubernetes would take away those that serve."""
    world = await settled({"phase": "mock"})
    world.edit({"mock": {"resources": {"requests": {"cpu": "50m"}}}})
    (replica_set,) = world.api.of_kind(REPLICA_SET)
    before = {k: replica_set["status"][k] for k in late["status"]}
    world.api.change(ref_of(replica_set), late)
    world.deliver()
    assert applied(world)[BACKEND]["spec"]["paused"]
    built = frozenset(EVERY_PHASE)
    context = Context(world.chatbot, world.observed, moved(world), world.settings, world.now, built)
    assert Reason.ROLLING_OUT in {v.reason for v in verdicts(context)}
    world.api.change(ref_of(replica_set), {"status": before})
    world.deliver()
    assert "paused" not in applied(world)[BACKEND]["spec"]


def applied(world: World) -> dict[Ref, Mapping[str, Any]]:
    return {action.ref: action.body for action in planned(world).actions if isinstance(action, Apply)}


async def test_a_change_in_the_midst_of_a_rollout_pauses_it_and_goes_on_once_its_counts_have_settled() -> None:
    world = await settled({"phase": "mock"})
    before = world.api.objects[BACKEND]["spec"]["template"]
    world.edit({"phase": "hf"})
    await partly(world)
    moving = world.api.objects[BACKEND]["spec"]["template"]
    world.edit({"phase": "mock"})
    await partly(world)
    held = world.api.objects[BACKEND]["spec"]
    assert held["paused"]
    assert held["template"] == moving, "what is on its way is not changed yet"
    await partly(world)
    assert world.api.objects[BACKEND]["spec"] == held, "the controller has not said yet that it holds"
    await world.settle()
    after = world.api.objects[BACKEND]["spec"]
    assert after["template"] == before
    assert "paused" not in after
    assert world.chatbot.status.serving_phase == "mock"


async def test_a_rollout_that_was_paused_for_a_change_that_is_not_to_be_goes_on() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"phase": "hf"})
    await partly(world)
    world.edit({"phase": "mock"})
    await partly(world)
    assert world.api.objects[BACKEND]["spec"]["paused"]
    world.edit({"phase": "hf", "hf": {"baseURL": "https://not.allowed.example/v1"}})
    await world.settle()
    assert "paused" not in world.api.objects[BACKEND]["spec"]
    assert world.chatbot.status.serving_phase == "hf", "the one that was on its way"
