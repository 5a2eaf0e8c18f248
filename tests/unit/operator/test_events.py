"""Events about a Chatbot: the same ones are a series, many are too many, and a failure to post one is no failure."""

import pytest

from chatbot_operator.api import Chatbot
from chatbot_operator.api.reasons import EventReason
from chatbot_operator.cluster import Forbidden, NotFound
from chatbot_operator.events import PER_MINUTE, SERIES_SECONDS, Recorder
from chatbot_operator.kinds import EVENT, Key
from chatbot_operator.messages import Message
from tests.support.simulated_api import SimulatedApi

CHATBOT = Chatbot.model_validate(
    {"metadata": {"name": "demo", "namespace": "ns", "uid": "u"}, "spec": {"phase": "mock"}}
)
REPAIRED = Message(EventReason.DRIFT_REPAIRED, "Service demo was edited and is put right.")


class World:
    def __init__(self) -> None:
        self.api, self.now = SimulatedApi(), 0.0
        self.recorder = Recorder(self.api, "operator-1", clock=lambda: self.now)

    @property
    def events(self) -> list[dict[str, object]]:
        return self.api.of_kind(EVENT)


@pytest.fixture
def world() -> World:
    return World()


async def test_an_event_is_about_the_chatbot_and_says_who_reports(world: World) -> None:
    await world.recorder.post(CHATBOT, REPAIRED)
    (event,) = world.events
    assert event["regarding"] == {
        "apiVersion": "chatbot-operator.dev/v1alpha1",
        "kind": "Chatbot",
        "namespace": "ns",
        "name": "demo",
        "uid": "u",
    }
    assert (event["reason"], event["type"], event["note"]) == ("DriftRepaired", "Normal", REPAIRED.note)
    assert event["reportingInstance"] == "operator-1"


async def test_the_same_again_is_counted_and_not_made_again(world: World) -> None:
    for _ in range(3):
        await world.recorder.post(CHATBOT, REPAIRED)
        world.now += 60
    (event,) = world.events
    series = event["series"]
    assert isinstance(series, dict)
    assert series["count"] == 3


async def test_after_a_long_while_it_is_a_new_one(world: World) -> None:
    await world.recorder.post(CHATBOT, REPAIRED)
    world.now += SERIES_SECONDS + 1
    await world.recorder.post(CHATBOT, REPAIRED)
    assert len(world.events) == 2


async def test_more_than_so_many_in_a_minute_are_left_out(world: World) -> None:
    for i in range(3 * PER_MINUTE):
        await world.recorder.post(CHATBOT, Message(EventReason.DRIFT_REPAIRED, f"{i}"))
    assert len(world.events) == PER_MINUTE
    world.now += 61
    await world.recorder.post(CHATBOT, REPAIRED)
    assert len(world.events) == PER_MINUTE + 1
    world.recorder.forget(Key("ns", "demo"))


@pytest.mark.parametrize("error", [Forbidden("no"), NotFound("expired")])
async def test_one_that_cannot_be_posted_is_forgotten(world: World, error: Exception) -> None:
    def refuse(*_: object) -> None:
        raise error

    world.api.before = refuse
    await world.recorder.post(CHATBOT, REPAIRED)
    world.api.before = lambda *_: None
    await world.recorder.post(CHATBOT, REPAIRED)
    assert len(world.events) == 1


async def test_a_series_whose_event_has_expired_begins_anew(world: World) -> None:
    await world.recorder.post(CHATBOT, REPAIRED)
    world.api.objects.clear()
    await world.recorder.post(CHATBOT, REPAIRED)
    await world.recorder.post(CHATBOT, REPAIRED)
    assert len(world.events) == 1
