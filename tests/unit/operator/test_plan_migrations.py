"""What is planned when a Chatbot moves from one phase to another, case by case."""

import pytest

from chatbot_operator.actions import Delete
from chatbot_operator.api import Phase
from chatbot_operator.desired.deployment import ENGINELESS
from chatbot_operator.revision import revision
from tests.support.plans import (
    PHASES,
    claim_ref,
    downloading,
    end_download,
    job_ref,
    partly,
    planned,
    steps,
    template_of,
)
from tests.support.simulated_world import World, settled


@pytest.mark.parametrize("wanted", PHASES)
@pytest.mark.parametrize("start", PHASES)
async def test_a_one_field_edit_of_the_phase_gets_there_from_every_phase(start: Phase, wanted: Phase) -> None:
    world = await settled({"phase": start})
    world.edit({"phase": wanted})
    await world.settle()
    status = world.chatbot.status
    assert (status.serving_phase, world.observed.backend and world.observed.backend.revision) == (
        wanted,
        revision(world.chatbot.spec),
    )
    ready = status.condition("Ready")
    assert ready is not None
    assert ready.status == "True"


@pytest.mark.parametrize(
    ("start", "wanted"),
    [
        pytest.param("mock", "hf", id="from mock to hf the new template is applied at once"),
        pytest.param("hf", "mock", id="from hf to mock the new template is applied at once"),
        pytest.param("local", "mock", id="from local to mock the new template is applied at once"),
        pytest.param("local", "hf", id="from local to hf the new template is applied at once"),
    ],
)
async def test_a_phase_without_weights_is_not_waited_for(start: Phase, wanted: Phase) -> None:
    world = await settled({"phase": start})
    world.edit({"phase": wanted})
    decided = planned(world)
    assert template_of(decided) == revision(world.chatbot.spec)
    assert not any(isinstance(a, Delete) for a in decided.actions)


@pytest.mark.parametrize("start", ["mock", "hf"])
async def test_weights_on_their_way_keep_the_old_template_out_of_the_plan(start: Phase) -> None:
    world = await settled({"phase": start})
    world.edit({"phase": "local"})
    decided = planned(world)
    assert template_of(decided) == ""
    assert "apply PersistentVolumeClaim" in steps(decided)
    assert "apply Job" not in steps(decided), "the Job carries the claim's uid, so it comes after the claim"
    await partly(world)
    assert job_ref(world) in world.api.objects
    assert template_of(planned(world)) == ""


async def test_with_nothing_serving_the_runtime_goes_out_without_its_engine() -> None:
    world = World({"phase": "local"})
    assert template_of(planned(world)) == ENGINELESS
    await partly(world)
    end_download_of_new(world)
    assert template_of(planned(world)) == revision(world.chatbot.spec)


def end_download_of_new(world: World) -> None:
    world.controllers.volumes()
    world.controllers.jobs()
    end_download(world)


async def test_engineless_pods_are_never_planned_while_something_serves() -> None:
    for start in ("mock", "hf"):
        assert template_of(planned(await downloading(start))) == ""


async def test_engineless_also_when_what_served_is_scaled_to_nothing() -> None:
    world = await settled({"phase": "hf", "suspend": True})
    world.edit({"phase": "local"})
    assert template_of(planned(world)) == ENGINELESS


async def test_a_change_of_mind_mid_download_needs_no_code_of_its_own() -> None:
    world = await downloading("hf")
    job = job_ref(world)
    world.edit({"phase": "hf"})
    decided = planned(world)
    assert template_of(decided) == revision(world.chatbot.spec)
    assert job in [a.ref for a in decided.actions if isinstance(a, Delete)], "what serves is the target: prune at once"
    await world.settle()
    assert job not in world.api.objects


async def test_a_change_of_mind_to_a_third_phase_prunes_the_download_only_after_the_rollout() -> None:
    world = await downloading("hf")
    world.edit({"phase": "mock"})
    assert not any(isinstance(a, Delete) for a in planned(world).actions)
    await world.settle()
    assert job_ref(world) not in world.api.objects


async def test_nothing_is_pruned_until_the_target_is_rolled_out() -> None:
    world = await settled({"phase": "local", "local": {"storage": {"retain": False}}})
    world.edit({"phase": "mock"})
    for _ in range(3):
        await partly(world)
        world.controllers.deployment()
        assert claim_ref(world) in world.api.objects
    await world.settle()
    assert claim_ref(world) not in world.api.objects


async def test_another_secret_for_the_token_is_another_provider_that_must_answer_first() -> None:
    world = await settled({"phase": "hf"})
    before = revision(world.chatbot.spec)
    world.edit({"hf": {"tokenSecretRef": {"name": "another"}}})
    assert revision(world.chatbot.spec) != before
    world.edit({"hf": {"requestsPerMinute": 5, "timeoutSeconds": 5}})
    after = revision(world.chatbot.spec)
    world.edit({"hf": {"requestsPerMinute": 6, "timeoutSeconds": 6}})
    assert revision(world.chatbot.spec) == after, "limits reach running pods"
