"""When a change of status is written: bad news at once, a darkness once it is sure, counts after a while."""

from itertools import pairwise

from chatbot_operator import names
from chatbot_operator.kinds import DEPLOYMENT, POD, Ref
from chatbot_operator.reconciler import PROGRESS_SECONDS, SURE_SECONDS
from tests.support.plans import downloading, partly
from tests.support.simulated_world import KEY, World, settled

BACKEND = Ref(DEPLOYMENT, KEY.namespace, names.backend(KEY.name))


def said(world: World, type_: str) -> str:
    condition = world.chatbot.status.condition(type_)
    return condition.status if condition else ""


def pods_ready(world: World, status: str, *, keep: int = 0) -> None:
    """Every pod but the first `keep` says that it is ready, or that it is not."""
    for pod in world.api.of_kind(POD)[keep:]:
        ref = Ref(POD, KEY.namespace, pod["metadata"]["name"])
        world.api.change(ref, {"status": {"conditions": [{"type": "Ready", "status": status}]}})
    world.deliver()


async def turn(world: World) -> float | None:
    """One turn of the operator without any time passing; when it wants the next."""
    world.seconds -= 1
    return (await world.reconcile()).requeue_after


async def test_that_nobody_can_chat_is_said_once_it_is_sure() -> None:
    world = await settled({"phase": "mock"})
    pods_ready(world, "False")
    wait = await turn(world)
    assert said(world, "Available") == "True", "the pod that takes their place may have been ready before they went"
    assert wait is not None
    assert 0 < wait <= SURE_SECONDS
    world.seconds += SURE_SECONDS
    await turn(world)
    assert said(world, "Available") == "False"


async def test_a_darkness_that_was_none_is_never_said() -> None:
    world = await settled({"phase": "mock"})
    pods_ready(world, "False")
    await turn(world)
    pods_ready(world, "True")
    world.seconds += SURE_SECONDS
    await turn(world)
    pods_ready(world, "False")
    await turn(world)
    assert said(world, "Available") == "True", "each darkness begins anew"


async def test_that_what_was_asked_for_no_longer_serves_is_said_at_once() -> None:
    world = await settled({"phase": "mock"})
    status = {**world.api.objects[BACKEND]["status"], "availableReplicas": 1, "readyReplicas": 1}
    world.api.change(BACKEND, {"status": status})
    pods_ready(world, "False", keep=1)
    await turn(world)
    assert (said(world, "Ready"), said(world, "Available")) == ("False", "True")


async def test_how_far_a_download_is_is_written_every_ten_seconds_at_most_and_is_not_lost() -> None:
    world = await downloading("mock")
    await partly(world, 2)
    written = []
    for second in range(1, 25):
        world.controllers.fetched = second
        await world.reconcile()
        world.deliver()
        shown = world.chatbot.status.download
        assert shown is not None
        written.append(shown.completed_bytes)
    news = [at for at in range(1, len(written)) if written[at] != written[at - 1]]
    assert len(news) >= 2
    assert all(later - at >= PROGRESS_SECONDS for at, later in pairwise(news))
    assert all(second + 1 - shown <= PROGRESS_SECONDS + 1 for second, shown in enumerate(written) if shown)
