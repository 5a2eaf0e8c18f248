"""Two installs: who serves when their namespaces overlap, and what the other one says."""

import logging
from typing import Any

import pytest

from chatbot_operator.cluster import Forbidden, Transient
from chatbot_operator.installs import WATCHES, Install, Installs, annotation, first_in_the_way, install_of
from chatbot_operator.kinds import LEASE, Ref
from chatbot_operator.leader import Leader, NotLeader
from tests.support.simulated_api import SimulatedApi

MINE = Ref(LEASE, "young", "chatbot-operator")


def install(name: str, created: str, *watches: str) -> Install:
    return Install(name, "chatbot-operator", created, frozenset(watches))


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (("a", "b"), ("b", "c"), "b"),
        (("b", "a"), ("a", "b"), "a, b"),
        (("a",), ("b",), ""),
        (("a",), (), "a"),
        ((), ("a",), "a"),
        ((), (), "every namespace"),
    ],
)
def test_what_two_installs_share(one: tuple[str, ...], other: tuple[str, ...], shared: str) -> None:
    assert install("x", "1", *one).shares(install("y", "2", *other)) == shared


def test_the_oldest_of_those_that_overlap_is_in_the_way_and_no_younger_one() -> None:
    mine = install("mine", "2026-01-02", "a")
    older = [install("b", "2026-01-01T02", "a"), install("c", "2026-01-01T01"), install("d", "2025-01-01", "other")]
    assert first_in_the_way(mine, older) == older[1]
    assert first_in_the_way(mine, [install("later", "2026-01-03", "a")]) is None


def test_of_two_of_the_same_second_one_and_only_one_serves() -> None:
    one, two = install("one", "2026-01-01"), install("two", "2026-01-01")
    assert (first_in_the_way(one, [two]), first_in_the_way(two, [one])) == (None, one)


def lease(namespace: str, created: str, watches: str | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"namespace": namespace, "name": "chatbot-operator", "creationTimestamp": created}
    metadata["labels"] = {"app.kubernetes.io/name": "chatbot-operator"}
    if watches is not None:
        metadata["annotations"] = {WATCHES: watches}
    return {"apiVersion": LEASE.api_version, "kind": "Lease", "metadata": metadata, "spec": {}}


def test_a_lease_says_what_its_install_serves() -> None:
    for watches in ((), ("a",), ("a", "b")):
        found = install_of(lease("ns", "2026-01-01", annotation(watches)))
        assert found == install("ns", "2026-01-01", *watches)
    assert install_of(lease("ns", "2026-01-01", None)) is None


class World:
    """A young install of namespace `a`."""

    def __init__(self) -> None:
        self.api, self.now, self.freed = SimulatedApi(), 0.0, 0
        self.put("young", "2026-02-01", "a")
        self.installs = Installs(self.api, MINE, ("a",), every=15, clock=lambda: self.now, on_free=self._free)

    def _free(self) -> None:
        self.freed += 1

    def put(self, namespace: str, created: str, watches: str) -> None:
        obj = lease(namespace, created, watches)
        self.api.objects[Ref(LEASE, namespace, "chatbot-operator")] = obj


async def test_nothing_may_be_written_before_the_others_were_looked_at() -> None:
    world = World()
    assert not world.installs.free()
    await world.installs.look()
    assert (world.installs.free(), world.freed) == (True, 1)
    await world.installs.look()
    assert world.freed == 1


async def test_an_overlap_is_refused_told_again_each_minute_and_over_when_the_other_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.put("old", "2026-01-01", "a,b")
    with caplog.at_level(logging.INFO):
        for world.now in (0, 15, 30, 61):
            await world.installs.look()
    assert (world.installs.free(), world.freed) == (False, 0)
    assert len(caplog.messages) == 2
    assert "Lease old/chatbot-operator serves a already" in caplog.messages[0]
    assert "watchNamespaces" in caplog.messages[0]
    del world.api.objects[Ref(LEASE, "old", "chatbot-operator")]
    await world.installs.look()
    assert (world.installs.free(), world.freed) == (True, 1)


async def test_one_that_grows_into_ours_stops_us() -> None:
    world = World()
    world.put("old", "2026-01-01", "b")
    await world.installs.look()
    assert world.installs.free()
    world.put("old", "2026-01-01", "*")
    await world.installs.look()
    assert not world.installs.free()


async def test_without_the_right_to_see_others_it_serves_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    def forbidden(*_: Any) -> None:
        raise Forbidden("leases is forbidden")

    world.api.before = forbidden
    await world.installs.look()
    await world.installs.look()
    assert world.installs.free()
    assert len([m for m in caplog.messages if "go unnoticed" in m]) == 1


async def test_what_cannot_be_listed_stays_as_it_was_known() -> None:
    world = World()
    world.put("old", "2026-01-01", "*")
    await world.installs.look()

    def down(*_: Any) -> None:
        raise Transient("no answer")

    world.api.before = down
    with pytest.raises(Transient):
        await world.installs.look()
    assert not world.installs.free()


async def test_the_holder_of_the_lease_writes_nothing_while_it_is_refused_and_keeps_the_lease() -> None:
    api, allowed, gains = SimulatedApi(), False, []
    leader = Leader(
        api,
        MINE,
        "one",
        term=15,
        renew_every=4,
        clock=lambda: 0.0,
        on_gain=lambda: gains.append(1),
        annotations={WATCHES: "a"},
        may=lambda: allowed,
    )
    await leader.step()
    await leader.step()
    assert api.objects[MINE]["spec"]["holderIdentity"] == "one"
    assert api.objects[MINE]["metadata"]["annotations"] == {WATCHES: "a"}
    assert len(gains) == 1, "a renewal is no gain"
    with pytest.raises(NotLeader):
        leader.require()
    allowed = True
    assert leader.holds()
