"""What holds for every plan: whom it leaves alone, what it depends on, whom it tells of settings."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.actions import Annotate, Delete, Scale
from chatbot_operator.api import Phase
from chatbot_operator.api.reasons import Reason
from chatbot_operator.kinds import (
    CONFIG_MAP,
    POD,
    SERVICE,
    Ref,
)
from chatbot_operator.observed import Pod, Template
from chatbot_operator.plan import plan, verified_revisions
from chatbot_operator.revision import revision
from chatbot_operator.settings import Settings
from tests.support.plans import (
    BACKEND,
    PHASES,
    claim_ref,
    partly,
    planned,
    steps,
    template_of,
)
from tests.support.simulated_world import EVERY_PHASE, KEY, REF, World, settled


@pytest.mark.parametrize("phase", PHASES)
async def test_an_object_that_is_being_deleted_is_never_acted_on(phase: Phase) -> None:
    world = await settled({"phase": phase})
    for ref in world.observed.children:
        world.api.change(ref, {"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}})
    world.edit({"phase": "mock" if phase != "mock" else "hf", "suspend": True})
    gone = {ref for ref, o in world.api.objects.items() if "deletionTimestamp" in o["metadata"]}
    assert gone
    assert not gone & {a.ref for a in planned(world).actions}


async def test_a_strangers_object_makes_a_name_conflict_and_is_not_pruned() -> None:
    world = await settled({"phase": "mock"})
    service = Ref(SERVICE, *KEY)
    theirs = {"metadata": {"ownerReferences": [{"uid": "other", "controller": True, "kind": "X", "name": "x"}]}}
    world.api.change(service, theirs)
    decided = planned(world)
    ready = decided.status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.NAME_CONFLICT
    assert str(service) in ready.message
    assert service not in [a.ref for a in decided.actions if isinstance(a, Delete)]


async def test_a_claim_that_carries_another_chatbots_name_is_a_strangers() -> None:
    world = await settled({"phase": "local"})
    world.api.change(claim_ref(world), {"metadata": {"labels": {names.CHATBOT_LABEL: "somebody"}}})
    assert claim_ref(world) in world.observed.strangers


async def test_a_paused_chatbot_is_told_of_and_not_touched() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"phase": "hf"}, annotations={names.PAUSED: "true"})
    decided = planned(world)
    assert decided.actions == ()
    ready = decided.status.condition("Ready")
    assert ready is not None
    assert names.PAUSED in ready.message


@pytest.mark.parametrize("phase", ["hf", "local"])
async def test_a_phase_that_is_not_built_keeps_what_serves(phase: Phase) -> None:
    world = await settled({"phase": "mock"})
    world.edit({"phase": phase, "local": {"prefetch": True}})
    decided = planned(world, built={"mock"})
    assert template_of(decided) == ""
    assert not {"apply Job", "apply PersistentVolumeClaim", "delete HorizontalPodAutoscaler"} & set(steps(decided))
    assert not any(isinstance(a, Scale) for a in decided.actions)
    ready = decided.status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.NOT_IMPLEMENTED
    assert decided.status.serving_phase == "mock"


def test_a_phase_that_is_not_built_makes_no_pods_at_all() -> None:
    assert template_of(planned(World({"phase": "hf"}), built={"mock"})) == ""


@pytest.mark.parametrize("spec", [{"phase": p} for p in PHASES])
async def test_deciding_twice_on_the_same_world_is_the_same(spec: dict[str, Any]) -> None:
    world = World(spec)
    for _ in range(3):
        assert planned(world) == planned(world)
        await partly(world)
        world.controllers.settle()


@pytest.mark.parametrize("spec", [{"phase": p} for p in PHASES])
async def test_a_status_that_was_deleted_changes_no_action(spec: dict[str, Any]) -> None:
    world = await settled(spec)
    before = planned(world)
    world.api.change(REF, {"status": None})
    assert planned(world).actions == before.actions
    await partly(world)
    ready = world.chatbot.status.condition("Ready")
    assert ready is not None
    assert ready.status == "True"


def pod(revision_: str, phase: str, *, ready: bool = True, deleting: bool = False) -> Callable[[Pod], Pod]:
    return lambda p: replace(p, revision=revision_, phase=phase, ready=ready, deleting=deleting)


async def test_verified_are_the_providers_of_ready_pods_and_known_ones_that_may_come_back() -> None:
    world = await settled({"phase": "hf"})
    observed = world.observed
    one, template = observed.pods[0], observed.templates[0]

    def seen(pods: tuple[Pod, ...], templates: tuple[Template, ...], verified: tuple[str, ...]) -> tuple[str, ...]:
        return verified_revisions(replace(observed, pods=pods, templates=templates, verified=verified))

    assert seen((pod("b", "hf")(one), pod("a", "hf")(one)), (), ()) == ("a", "b")
    assert seen((pod("a", "hf", ready=False)(one),), (), ()) == ()
    assert seen((pod("a", "hf", deleting=True)(one),), (), ()) == ()
    assert seen((pod("m", "mock")(one),), (), ("m",)) == (), "a mock needs no proof"
    assert seen((), (replace(template, revision="old"),), ("old", "forgotten")) == ("old",)


async def test_the_settings_name_what_has_proved_itself() -> None:
    world = await settled({"phase": "hf"})
    config = world.api.objects[Ref(CONFIG_MAP, *BACKEND[1:])]["data"][names.SETTINGS_KEY]
    assert json.loads(config)["verifiedRevisions"] == [revision(world.chatbot.spec)]


async def test_ready_pods_with_old_settings_are_nudged_once_and_again_after_ten_seconds() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"systemPrompt": "Be brief."})
    await partly(world)
    world.reports.update(world.controllers.reports())
    pods = [p for p in world.observed.pods if p.nudge]
    assert len(pods) == 2
    told = replace(
        world.observed, pods=tuple(replace(p, report=world.reports[p.instance]) for p in world.observed.pods)
    )

    def nudges(seconds: int) -> int:
        decided = plan(world.chatbot, told, world.now + timedelta(seconds=seconds), Settings(), EVERY_PHASE)
        return sum(isinstance(a, Annotate) for a in decided.actions)

    assert nudges(5) == 0
    assert nudges(15) == 2
    assert all(p.ref.kind == POD for p in pods)
