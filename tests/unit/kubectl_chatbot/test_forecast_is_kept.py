"""What `switch --dry-run` foretells is what the operator then does: in the simulated world, from every phase to every
other."""

import json
from itertools import permutations
from typing import Any

import pytest

from chatbot_operator.kinds import RawObject, Ref
from kubectl_chatbot.forecast import forecast
from kubectl_chatbot.rehearsal import World as Known
from tests.support.simulated_world import KEY, World, settled

PAIRS = tuple(permutations(("mock", "hf", "local"), 2))
SHAPES: dict[str, dict[str, Any]] = {
    "defaults, with a page": {"web": {"enabled": True}},
    "nothing is retained": {"local": {"storage": {"retain": False}}},
    "a fixed number of pods": {"backend": {"autoscaling": {"enabled": False}, "replicas": 3}},
    "weights fetched ahead": {"local": {"prefetch": True}},
}
OTHERS = {"Pod", "ReplicaSet", "Event", "Chatbot", "Lease"}
Told = tuple[str, str, str]


@pytest.mark.parametrize(("phase", "target"), PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_every_object_that_a_switch_touches_is_foretold_and_no_other(shape: str, phase: str, target: Any) -> None:
    world = await settled({"phase": phase, **SHAPES[shape]})
    changes = forecast(world.chatbot, target, Known(world.snapshot()), world.settings, world.now).changes
    foretold = {told(c.verb, c.ref) for c in changes if c.verb not in ("keep", "scale")}
    assert foretold == await touched(world, target)


async def test_a_claim_that_stays_is_told_of() -> None:
    world = await settled({"phase": "local"})
    changes = forecast(world.chatbot, "mock", Known(world.snapshot()), world.settings, world.now).changes
    (kept,) = [c for c in changes if c.verb == "keep"]
    assert (kept.ref.kind.name, "20Gi" in kept.detail) == ("PersistentVolumeClaim", True)


async def test_what_waits_for_the_weights_is_later_than_the_download() -> None:
    world = await settled({"phase": "mock"})
    changes = forecast(world.chatbot, "local", Known(world.snapshot()), world.settings, world.now).changes
    order = [(c.verb, c.ref.kind.name) for c in changes]
    assert order.index(("create", "Job")) < order.index(("scale", "Deployment")) < order.index(("change", "Deployment"))
    assert {c.later for c in changes if (c.verb, c.ref.kind.name) == ("change", "Deployment")} == {True}


async def test_the_phase_that_serves_already_changes_nothing() -> None:
    world = await settled({"phase": "hf"})
    assert forecast(world.chatbot, "hf", Known(world.snapshot()), world.settings, world.now).changes == ()


async def touched(world: World, target: str) -> set[Told]:
    """What the operator does to objects after the edit; what comes and goes on the way counts as created."""
    before, born = children(world), set[Ref]()
    world.api.after = lambda _, ref: born.update({ref} & children(world).keys() - before.keys())
    world.edit({"phase": target})
    await world.settle()
    after = children(world)
    found = {told("create", ref) for ref in born} | {told("delete", ref) for ref in before if ref not in after}
    for ref in before.keys() & after.keys():
        found |= {told(verb, ref) for verb in differences(before[ref], after[ref])}
    return found


def told(verb: str, ref: Ref) -> Told:
    return verb, ref.kind.name, ref.name


def children(world: World) -> dict[Ref, RawObject]:
    return {r: o for r, o in world.api.objects.items() if r.kind.name not in OTHERS and r.namespace == KEY.namespace}


def differences(one: RawObject, other: RawObject) -> set[str]:
    """The verb that leads from one to the other."""
    return {"change"} if wishes(one) != wishes(other) else set()


def wishes(obj: RawObject) -> Any:
    """What people would see change: not the count of pods, which is the autoscaler's, nor the operator's own notes."""
    if obj["kind"] == "Deployment":
        return obj["spec"]["template"]
    settings = obj.get("data", {}).get("settings.json")
    if settings is None:
        return obj.get("spec"), obj.get("data")
    return {k: v for k, v in json.loads(settings).items() if k not in ("verifiedRevisions", "download")}
