"""Carrying decisions out: how few calls, what is repaired, what is left alone, what happens when a call fails."""

from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.cluster import ClusterError, Conflict, Forbidden, Invalid, Terminating, Throttled, Transient
from chatbot_operator.kinds import AUTOSCALER, CONFIG_MAP, DEPLOYMENT, SERVICE, Ref
from chatbot_operator.leader import NotLeader
from chatbot_operator.reconciler import GOING_SECONDS
from tests.support.simulated_world import KEY, REF, World, settled

BACKEND = Ref(DEPLOYMENT, KEY.namespace, names.backend(KEY.name))
SERVICE_REF = Ref(SERVICE, *KEY)


def reason(world: World) -> str:
    ready = world.chatbot.status.condition("Ready")
    assert ready is not None
    return ready.reason


def event_reasons(world: World) -> list[str]:
    return [o["reason"] for r, o in world.api.objects.items() if r.kind.name == "Event"]


def refuse(world: World, ref: Ref, error: ClusterError) -> None:
    def before(verb: str, called: Ref, _: Any) -> None:
        if called == ref and verb == "apply":
            raise error

    world.api.before = before


async def test_a_create_costs_one_apply_for_each_child_and_no_look() -> None:
    world = World({"phase": "mock"})
    await world.reconcile()
    children = [c for c in world.api.calls if c[1].kind.name not in ("Chatbot", "Event")]
    applied = [ref for verb, ref in children if verb == "apply"]
    assert len(applied) == len(set(applied)) == 9
    assert {verb for verb, _ in children} <= {"apply", "scale"}
    assert len([verb for verb, _ in children if verb == "scale"]) <= 1


async def test_a_settled_chatbot_costs_no_call() -> None:
    world = await settled({"phase": "mock"})
    before = len(world.api.calls)
    for _ in range(5):
        world.seconds += 60
        await world.reconcile()
    assert not world.api.calls[before:]


async def test_a_restart_over_a_settled_chatbot_costs_no_call() -> None:
    world = await settled({"phase": "mock"})
    before = len(world.api.calls)
    world.start_operator()
    await world.reconcile()
    assert not world.api.calls[before:]


async def test_without_the_lease_nothing_is_called() -> None:
    world = World({"phase": "mock"})
    world.leader.holding = False
    with pytest.raises(NotLeader):
        await world.reconcile()
    assert not world.api.calls


async def test_a_child_that_was_deleted_by_hand_is_made_again_and_told_of() -> None:
    world = await settled({"phase": "mock"})
    world.api.delete_by_hand(SERVICE_REF)
    await world.settle()
    assert SERVICE_REF in world.api.objects
    assert "DriftRepaired" in event_reasons(world)


async def test_a_field_of_ours_that_was_edited_is_put_right_and_told_of() -> None:
    world = await settled({"phase": "mock"})
    world.api.change(SERVICE_REF, {"spec": {"type": "NodePort"}})
    await world.settle()
    assert world.api.objects[SERVICE_REF]["spec"]["type"] == "ClusterIP"
    assert "DriftRepaired" in event_reasons(world)


async def test_a_field_of_somebody_else_is_left_alone() -> None:
    world = await settled({"phase": "mock"})
    before = len(world.api.writes())
    world.api.change(SERVICE_REF, {"metadata": {"annotations": {"example.com/note": "mine"}}})
    await world.settle()
    assert not world.api.writes()[before:]
    assert world.api.objects[SERVICE_REF]["metadata"]["annotations"]["example.com/note"] == "mine"


async def test_a_webhook_that_alters_our_field_is_applied_to_once_after_a_restart_and_no_more() -> None:
    world = World({"phase": "mock"})

    def admit(obj: dict[str, Any]) -> None:
        if obj["kind"] == "Deployment":
            obj["spec"]["template"]["spec"]["enableServiceLinks"] = True

    world.api.admit = admit
    await world.settle()
    before = len(world.api.writes())
    world.start_operator()
    for _ in range(4):
        await world.reconcile()
        world.deliver()
    assert [c for c in world.api.writes()[before:] if c[1].kind.name != "Event"] == [("apply", BACKEND)]


async def test_a_strangers_object_is_never_written() -> None:
    world = World({"phase": "mock"})
    stranger = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": KEY.name, "namespace": KEY.namespace}}
    kept = world.api.store({**stranger, "spec": {"ports": []}})
    for _ in range(3):
        await world.reconcile()
        world.deliver()
    assert world.api.objects[SERVICE_REF] == kept
    assert reason(world) == "NameConflict"
    # Tried once; as long as the name is taken it is only looked at.
    assert [verb for verb, ref in world.api.calls if ref == SERVICE_REF] == ["apply", "get", "get", "get"]
    world.api.drop(SERVICE_REF)
    await world.settle()
    assert SERVICE_REF in world.api.objects
    assert reason(world) == "Serving"


async def test_a_strangers_object_that_cannot_be_looked_at_stays_a_strangers() -> None:
    world = World({"phase": "mock"})
    stranger = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": KEY.name, "namespace": KEY.namespace}}
    kept = world.api.store({**stranger, "spec": {"ports": []}})
    await world.reconcile()

    def before(verb: str, ref: Ref, _: Any) -> None:
        if verb == "get":
            raise Transient("no answer")

    world.api.before = before
    outcome = await world.reconcile()
    assert not outcome.failed
    assert world.api.objects[SERVICE_REF] == kept
    assert reason(world) == "NameConflict"


async def test_a_child_of_ours_that_no_list_shows_is_found_and_gets_its_labels_back() -> None:
    world = await settled({"phase": "mock"})
    uid = world.api.objects[SERVICE_REF]["metadata"]["uid"]
    world.api.change(SERVICE_REF, {"metadata": {"labels": None}})
    world.start_operator()
    await world.reconcile()
    found = world.api.objects[SERVICE_REF]["metadata"]
    assert (found["uid"], found["labels"][names.CHATBOT_LABEL]) == (uid, KEY.name)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(Forbidden("x is forbidden: User y cannot patch z", verb="patch"), "PermissionDenied", id="RBAC"),
        pytest.param(Forbidden("exceeded quota: small"), "QuotaExceeded", id="quota"),
        pytest.param(Forbidden("denied by a policy"), "AdmissionRefused", id="policy"),
        pytest.param(Invalid("spec.type: not supported"), "AdmissionRefused", id="invalid"),
    ],
)
async def test_a_refusal_becomes_the_reason_and_the_other_children_are_still_written(
    error: ClusterError, expected: str
) -> None:
    world = World({"phase": "mock"})
    refuse(world, SERVICE_REF, error)
    outcome = await world.reconcile()
    assert outcome.failed
    assert reason(world) == expected
    assert BACKEND in world.api.objects
    world.api.before = lambda *_: None
    await world.settle()
    assert reason(world) == "Serving"


@pytest.mark.parametrize("error", [Conflict("modified"), Transient("no answer"), Throttled("slow", retry_after=9)])
async def test_trouble_of_the_infrastructure_is_a_retry_and_no_reason(error: ClusterError) -> None:
    world = World({"phase": "mock"})
    refuse(world, SERVICE_REF, error)
    outcome = await world.reconcile()
    assert outcome.failed
    assert outcome.retry_after == (9 if isinstance(error, Throttled) else None)
    world.api.before = lambda *_: None
    await world.settle()
    assert reason(world) == "Serving"


async def test_a_namespace_that_is_going_is_left_alone_for_a_while_whatever_goes_with_it() -> None:
    world = World({"phase": "mock"})
    refuse(world, SERVICE_REF, Terminating("because it is being terminated"))
    outcome = await world.reconcile()
    assert outcome.retry_after == GOING_SECONDS
    assert world.api.calls[-1] == ("apply", SERVICE_REF), "nothing is written after it"


async def test_a_chatbot_that_is_going_is_not_acted_on() -> None:
    world = await settled({"phase": "mock"})
    before = len(world.api.calls)
    world.edit({"phase": "hf"})
    world.api.change(REF, {"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}})
    world.deliver()
    await world.reconcile()
    assert not world.api.calls[before:]


async def test_a_spec_that_cannot_be_read_becomes_the_reason_and_what_serves_goes_on() -> None:
    world = await settled({"phase": "mock"})
    raw = {**world.api.objects[REF], "spec": {"phase": "future"}}
    world.api.store(raw)
    before = {r: o for r, o in world.api.objects.items() if r != REF}
    world.deliver()
    await world.reconcile()
    conditions = {c["type"]: c for c in world.api.objects[REF]["status"]["conditions"]}
    assert conditions["Ready"]["reason"] == "InvalidSpec"
    assert conditions["Available"]["status"] == "True"
    assert {r: o for r, o in world.api.objects.items() if r != REF} == before


async def test_the_count_of_pods_is_only_ever_set_by_scale() -> None:
    world = World({"phase": "mock"})
    seen: list[Ref] = []

    def before(verb: str, ref: Ref, body: Any) -> None:
        if verb == "apply" and ref == BACKEND:
            assert "replicas" not in body["spec"]
            seen.append(ref)

    world.api.before = before
    await world.settle()
    world.edit({"phase": "hf"})
    await world.settle()
    assert len(seen) == 2
    assert Ref(AUTOSCALER, *BACKEND[1:]) in world.api.objects
    assert Ref(CONFIG_MAP, *BACKEND[1:]) in world.api.objects


async def test_whoever_is_told_to_wait_writes_nothing_before_that() -> None:
    world = World({"phase": "mock"})
    refuse(world, SERVICE_REF, Throttled("slow", retry_after=9))
    await world.reconcile()
    assert world.api.calls[-1] == ("apply", SERVICE_REF)


async def test_nothing_is_made_for_a_chatbot_that_is_gone_though_no_watch_has_told_of_it() -> None:
    world = await settled({"phase": "mock"})
    world.api.drop(SERVICE_REF)
    world.deliver()
    world.api.drop(REF)
    await world.reconcile()
    assert SERVICE_REF not in world.api.objects
    assert world.snapshot().chatbot is None


async def test_nothing_is_made_for_a_chatbot_that_another_one_has_followed() -> None:
    world = await settled({"phase": "mock"})
    world.api.drop(SERVICE_REF)
    world.deliver()
    successor = {**world.api.objects[REF], "metadata": {**KEY._asdict(), "uid": "the-next-one"}}
    world.api.drop(REF)
    world.api.store(successor)
    outcome = await world.reconcile()
    assert SERVICE_REF not in world.api.objects
    assert outcome.requeue_after is not None
    await world.reconcile()
    owner = world.api.objects[SERVICE_REF]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == "the-next-one"


async def test_a_change_never_makes_an_object_anew_that_is_gone_though_no_watch_has_told_of_it() -> None:
    world = await settled({"phase": "mock"})
    world.api.drop(BACKEND)
    world.edit({"mock": {"resources": {"requests": {"cpu": "50m"}}}})
    world.api.streams.pop(DEPLOYMENT).clear()
    world.deliver()
    outcome = await world.reconcile()
    assert outcome.failed
    assert BACKEND not in world.api.objects
    await world.settle()
    assert BACKEND in world.api.objects


async def test_the_status_of_a_chatbot_that_is_gone_is_never_written_to_its_successor() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"suspend": True})
    world.deliver()
    successor = {**world.api.objects[REF], "metadata": {**KEY._asdict(), "uid": "the-next-one"}, "status": {}}
    world.api.drop(REF)
    world.api.store(successor)
    said = len(world.api.events)
    await world.reconcile()
    assert world.api.objects[REF]["status"] == {}
    assert len(world.api.events) == said
