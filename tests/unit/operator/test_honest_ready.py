"""Ready is never True for a spec of which something has not been written."""

from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.cluster import ClusterError, Conflict, NotFound, Throttled, Transient
from chatbot_operator.kinds import CONFIG_MAP, DEPLOYMENT, Kind, Ref
from tests.support.simulated_world import KEY, World, settled

EDITS: list[tuple[Kind, dict[str, Any]]] = [
    (CONFIG_MAP, {"mock": {"replies": ["after"]}}),
    (DEPLOYMENT, {"mock": {"resources": {"requests": {"cpu": "50m"}}}}),
]
ERRORS: list[ClusterError] = [
    Transient("etcdserver: leader changed"),
    Throttled("too many requests", retry_after=1),
    Conflict("the object has been modified"),
    NotFound("not found"),
]


def ready(world: World) -> tuple[str, str]:
    condition = world.chatbot.status.condition("Ready")
    assert condition is not None
    return condition.status, condition.reason


def message(world: World) -> str:
    condition = world.chatbot.status.condition("Ready")
    assert condition is not None
    return condition.message


def about_this_spec(world: World) -> bool:
    condition = world.chatbot.status.condition("Ready")
    assert condition is not None
    return condition.observed_generation == world.chatbot.metadata.generation


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(("kind", "edit"), EDITS, ids=["settings", "template"])
async def test_a_write_that_fails_keeps_ready_false_until_it_succeeds(
    kind: Kind, edit: dict[str, Any], error: ClusterError
) -> None:
    world = await settled({"phase": "mock"})
    assert ready(world)[0] == "True"
    assert about_this_spec(world)

    def before(verb: str, ref: Ref, _: Any) -> None:
        if verb == "apply" and ref == Ref(kind, KEY.namespace, names.backend(KEY.name)):
            raise error

    world.api.before = before
    world.edit({"phase": "mock"} | edit)
    world.deliver()
    for _ in range(3):
        await world.reconcile()
        world.deliver()
        if isinstance(error, Throttled):  # not even the status is written before the time is over
            assert not about_this_spec(world)
        else:
            assert ready(world) == ("False", "RollingOut")
            assert message(world).endswith("It is tried again.")
            assert ("by somebody at the same moment" in message(world)) == isinstance(error, Conflict)
    world.api.before = lambda *_: None
    await world.settle()
    assert ready(world)[0] == "True"
    assert about_this_spec(world)
