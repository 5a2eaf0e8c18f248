"""Events are read only of children that stay sick, and only as often as is set."""

from chatbot_operator.cluster import Transient
from chatbot_operator.complaints import LOOKED_AT_ONCE, Complaints
from tests.support.scenes import Scene
from tests.support.simulated_api import SimulatedApi

LOOK_SECONDS = 10.0


class Look:
    """A Chatbot with one pod that is ready and some that are not, and the Events about the first of these."""

    def __init__(self, pods: int = 1) -> None:
        scene = Scene()
        scene.apply()
        scene.deployment(total=pods + 1, updated=pods + 1, available=1)
        scene.replica_set(ready=1, sick=pods)
        self.uids = [pod.uid for pod in scene.observed.current_pods() if not pod.ready]
        self.observed = scene.observed
        self.api = SimulatedApi()
        self.complaints = Complaints()

    def say(self, kind: str, reason: str) -> None:
        self.api.events.append({"type": kind, "reason": reason, "note": "why", "regarding": {"uid": self.uids[0]}})

    async def at(self, now: float, *, settled: bool = False) -> bool:
        return await self.complaints.look_into(
            self.observed, self.api, settled=settled, now=now, look_seconds=LOOK_SECONDS
        )


async def test_the_newest_warning_counts_and_is_news_once() -> None:
    look = Look()
    for kind, reason in (("Warning", "FailedMount"), ("Warning", "BackOff"), ("Normal", "Pulled")):
        look.say(kind, reason)
    assert [await look.at(now) for now in (0, 10, 20)] == [False, True, False]
    assert look.complaints.by_uid == {look.uids[0]: "BackOff: why"}


async def test_what_is_sick_for_a_moment_is_not_looked_into() -> None:
    look = Look()
    for now in (0.0, 9.9):
        await look.at(now)
    assert not look.api.calls
    for now in (10.0, 19.9, 20.0):
        await look.at(now)
    assert len(look.api.calls) == 2


async def test_what_has_settled_complains_no_more_and_begins_anew() -> None:
    look = Look()
    look.say("Warning", "FailedMount")
    for now in (0, 10):
        await look.at(now)
    assert not await look.at(11, settled=True)
    assert not look.complaints.by_uid
    assert [await look.at(now) for now in (12, 21, 22)] == [False, False, True]


async def test_of_many_only_a_few_are_asked_about_and_a_refusal_is_no_end() -> None:
    look = Look(pods=LOOKED_AT_ONCE + 2)

    def refuse(*_: object) -> None:
        raise Transient("later")

    look.api.before = refuse
    assert [await look.at(now) for now in (0, 10)] == [False, False]
    assert len(look.api.calls) == LOOKED_AT_ONCE
