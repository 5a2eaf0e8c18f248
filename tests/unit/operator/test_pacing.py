"""Rollouts that only the operator's own version causes are paced over all Chatbots; everything else is not."""

from chatbot_operator import names
from chatbot_operator.kinds import CHATBOT, DEPLOYMENT, Key, Ref
from chatbot_operator.settings import Settings
from tests.support.simulated_world import KEY, World, settled

OTHER = Key(KEY.namespace, "other")
BACKEND = Ref(DEPLOYMENT, KEY.namespace, names.backend(KEY.name))
OTHERS_BACKEND = Ref(DEPLOYMENT, KEY.namespace, names.backend(OTHER.name))


async def with_another_that_rolls(world: World) -> None:
    """A second Chatbot whose Deployment is never rolled out: nobody runs its pods."""
    metadata = {"name": OTHER.name, "namespace": OTHER.namespace, "uid": "another"}
    raw = {"apiVersion": CHATBOT.api_version, "kind": "Chatbot", "metadata": metadata}
    world.api.store({**raw, "spec": {"phase": "mock", "web": {"enabled": False}}})
    world.deliver()
    await world.reconciler.reconcile(OTHER)
    assert OTHERS_BACKEND in world.api.objects


def image(world: World) -> str:
    found: str = world.api.objects[BACKEND]["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


async def upgraded_world() -> World:
    """The operator is restarted with another image for the pods while another Chatbot is being rolled out."""
    world = await settled({"phase": "mock"})
    await with_another_that_rolls(world)
    world.settings = Settings(runtime_image="example.com/runtime:2")
    world.start_operator()
    await world.reconciler.reconcile(OTHER)
    return world


async def test_a_new_image_waits_until_the_other_rollout_is_over() -> None:
    world = await upgraded_world()
    outcome = await world.reconcile()
    assert image(world) != "example.com/runtime:2"
    assert outcome.requeue_after is not None
    status = {"observedGeneration": 99, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    world.api.change(OTHERS_BACKEND, {"spec": {"replicas": 2}, "status": status})
    world.deliver()
    await world.reconciler.reconcile(OTHER)
    await world.reconcile()
    assert image(world) == "example.com/runtime:2"


async def test_an_edit_of_the_spec_does_not_wait() -> None:
    world = await upgraded_world()
    world.edit({"mock": {"resources": {"requests": {"cpu": "50m"}}}})
    world.deliver()
    await world.reconcile()
    assert image(world) == "example.com/runtime:2"


async def test_a_repair_of_what_was_edited_by_hand_does_not_wait() -> None:
    world = await settled({"phase": "mock"})
    await with_another_that_rolls(world)
    world.api.change(BACKEND, {"spec": {"revisionHistoryLimit": 9}})
    world.deliver()
    await world.reconcile()
    assert world.api.objects[BACKEND]["spec"]["revisionHistoryLimit"] == 2
