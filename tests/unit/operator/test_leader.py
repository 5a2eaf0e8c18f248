"""Who may write: two candidates on one Lease, each with a clock of its own."""

from typing import Any

import pytest

from chatbot_operator.cluster import Transient
from chatbot_operator.kinds import LEASE, Ref
from chatbot_operator.leader import Leader, NotLeader
from tests.support.simulated_api import SimulatedApi

REF = Ref(LEASE, "chatbot-system", "chatbot-operator")
TERM = 15.0


class Clock:
    """Seconds that a test sets."""

    def __init__(self, now: float = 0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Candidate:
    """One process."""

    def __init__(self, api: SimulatedApi, identity: str, clock: Clock) -> None:
        self.gains = 0
        self.clock = clock
        self.leader = Leader(
            api, REF, identity, term=TERM, renew_every=4, clock=clock, on_gain=self._gain, annotations={}
        )

    def _gain(self) -> None:
        self.gains += 1

    async def step(self) -> bool:
        """One turn; whether it may write afterwards."""
        await self.leader.step()
        return self.leader.holds()


def holder(api: SimulatedApi) -> str:
    found: str = api.objects[REF]["spec"].get("holderIdentity", "")
    return found


@pytest.fixture
def api() -> SimulatedApi:
    return SimulatedApi()


async def test_the_first_one_makes_the_lease_and_takes_it(api: SimulatedApi) -> None:
    one = Candidate(api, "one", Clock())
    assert not one.leader.holds()
    assert await one.step()
    assert (holder(api), one.gains) == ("one", 1)


async def test_the_second_waits_as_long_as_the_first_renews(api: SimulatedApi) -> None:
    one, two = Candidate(api, "one", Clock()), Candidate(api, "two", Clock(5000))
    for _ in range(20):
        assert await one.step()
        assert not await two.step()
        one.clock.now += 4
        two.clock.now += 4
    assert two.gains == 0


async def test_a_dead_holder_is_followed_after_its_term_and_not_before(api: SimulatedApi) -> None:
    one, two = Candidate(api, "one", Clock()), Candidate(api, "two", Clock())
    await one.step()
    await two.step()
    two.clock.now = TERM - 0.1
    assert not await two.step()
    two.clock.now = TERM + 0.1
    assert await two.step()
    assert holder(api) == "two"


async def test_one_that_was_paused_past_its_term_may_not_write_even_before_anybody_took_over(api: SimulatedApi) -> None:
    one = Candidate(api, "one", Clock())
    await one.step()
    one.clock.now = TERM + 1
    assert not one.leader.holds()
    with pytest.raises(NotLeader, match="one"):
        one.leader.require()


async def test_one_that_comes_back_after_another_took_over_waits(api: SimulatedApi) -> None:
    one, two = Candidate(api, "one", Clock()), Candidate(api, "two", Clock())
    await one.step()
    await two.step()
    two.clock.now = one.clock.now = TERM + 1
    assert await two.step()
    assert not await one.step()
    assert not one.leader.holds()


async def test_a_renewal_that_comes_too_late_is_a_gain_so_that_nothing_refused_meanwhile_is_lost(
    api: SimulatedApi,
) -> None:
    one = Candidate(api, "one", Clock())
    await one.step()
    one.clock.now = 4
    await one.step()
    assert one.gains == 1
    one.clock.now = 4 + TERM + 1
    assert await one.step()
    assert one.gains == 2


async def test_of_two_that_take_over_at_once_one_wins(api: SimulatedApi) -> None:
    dead, one, two = (Candidate(api, name, Clock()) for name in ("dead", "one", "two"))
    await dead.step()
    await one.step()
    await two.step()
    one.clock.now = two.clock.now = TERM + 1

    def before(verb: str, _: Ref, body: Any) -> None:
        # While `one` is about to write, `two` does.
        if verb == "replace" and body["spec"]["holderIdentity"] == "one":
            api.before = lambda *_: None
            api.change(REF, {"spec": {"holderIdentity": "two", "renewTime": "now", "leaseTransitions": 9}})

    api.before = before
    assert not await one.step()
    assert holder(api) == "two"


async def test_an_api_server_that_fails_costs_the_lease_only_after_the_term(api: SimulatedApi) -> None:
    one = Candidate(api, "one", Clock())
    await one.step()

    def down(*_: Any) -> None:
        raise Transient("no answer")

    api.before = down
    one.clock.now = TERM - 1
    with pytest.raises(Transient):
        await one.step()
    assert one.leader.holds()
    one.clock.now = TERM + 1
    assert not one.leader.holds()


async def test_the_lease_is_given_back_and_the_next_one_need_not_wait(api: SimulatedApi) -> None:
    one, two = Candidate(api, "one", Clock()), Candidate(api, "two", Clock())
    await one.step()
    await two.step()
    await one.leader.release()
    assert not one.leader.holds()
    assert await two.step()


async def test_what_is_not_ours_is_not_given_back(api: SimulatedApi) -> None:
    one = Candidate(api, "one", Clock())
    await one.step()
    api.change(REF, {"spec": {"holderIdentity": "two"}})
    await one.leader.release()
    assert holder(api) == "two"


async def test_the_wall_clocks_of_the_others_do_not_matter(api: SimulatedApi) -> None:
    one, two = Candidate(api, "one", Clock()), Candidate(api, "two", Clock())
    await one.step()
    for stamp in ("1999-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z", "soon"):
        api.change(REF, {"spec": {"renewTime": stamp}})
        two.clock.now += TERM + 1
        assert not await two.step()  # it has just changed: somebody is alive


def slow(api: SimulatedApi, verb: str, clock: Clock, seconds: float) -> None:
    """The next call of this verb takes so long on somebody's clock."""

    def before(called: str, *_: Any) -> None:
        if called == verb:
            clock.now += seconds
            api.before = lambda *_: None

    api.before = before


async def test_the_holder_counts_from_before_a_renewal_that_took_long(api: SimulatedApi) -> None:
    one = Candidate(api, "one", Clock())
    slow(api, "replace", one.clock, 10)
    assert await one.step()
    assert one.clock.now == 10
    one.clock.now = TERM - 0.1
    assert one.leader.holds()
    one.clock.now = TERM + 0.1
    assert not one.leader.holds()


async def test_a_standby_counts_from_after_a_look_that_took_long(api: SimulatedApi) -> None:
    """What it sees at last may be a renewal that began after the look had: the holder counts from that."""
    one, two = Candidate(api, "one", Clock()), Candidate(api, "two", Clock())
    await one.step()
    slow(api, "get", two.clock, 5)
    assert not await two.step()
    two.clock.now = 5 + TERM - 0.1
    assert not await two.step()
    two.clock.now = 5 + TERM + 0.1
    assert await two.step()
