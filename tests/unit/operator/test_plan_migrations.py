"""What is planned for a Chatbot, case by case. Each world is one that the operator itself has brought about; then one
thing about it is changed, and the plan is asked for."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.actions import Annotate, Apply, Delete, Scale
from chatbot_operator.api import Phase
from chatbot_operator.api.reasons import Reason
from chatbot_operator.checks import verdicts
from chatbot_operator.checks.base import Context
from chatbot_operator.desired.deployment import ENGINELESS
from chatbot_operator.kinds import (
    AUTOSCALER,
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    POD,
    REPLICA_SET,
    SERVICE,
    Ref,
    ref_of,
)
from chatbot_operator.migration import Migration, failed_marker, migrate, wanted_claim
from chatbot_operator.observed import Observed, Pod, Template
from chatbot_operator.plan import Plan, plan, verified_revisions
from chatbot_operator.revision import list_hash, revision
from chatbot_operator.settings import Settings
from tests.support.simulated_world import EVERY_PHASE, KEY, REF, World, settled

BACKEND = Ref(DEPLOYMENT, KEY.namespace, names.backend(KEY.name))
SCALER = Ref(AUTOSCALER, *BACKEND[1:])
PHASES: tuple[Phase, ...] = ("mock", "hf", "local")


def planned(world: World, built: Collection[Phase] = EVERY_PHASE) -> Plan:
    return plan(world.chatbot, world.observed, world.now, world.settings, built)


def moved(world: World, observed: Observed | None = None) -> Migration:
    return migrate(world.chatbot, observed or world.observed, EVERY_PHASE, world.settings.allowed_hosts)


def claim_ref(world: World) -> Ref:
    return Ref(CLAIM, KEY.namespace, wanted_claim(world.chatbot))


def job_ref(world: World) -> Ref:
    return Ref(JOB, KEY.namespace, names.download(KEY.name, list_hash(world.chatbot.spec)))


def template_of(decided: Plan) -> str:
    """The provider's revision in the Deployment that is planned; empty if none is."""
    bodies = [a.body for a in decided.actions if isinstance(a, Apply) and a.ref.kind == DEPLOYMENT]
    return bodies[0]["spec"]["template"]["metadata"]["labels"][names.REVISION_LABEL] if bodies else ""


def steps(decided: Plan) -> list[str]:
    """What differs between cases, in order: pods, autoscaler, download, deletes."""
    lines = []
    for action in decided.actions:
        match action:
            case Scale(_, replicas):
                lines.append(f"scale {replicas}")
            case Delete(ref):
                lines.append(f"delete {ref.kind}")
            case Apply() if action.ref.kind in (DEPLOYMENT, AUTOSCALER, JOB, CLAIM):
                lines.append(f"apply {action.ref.kind}")
            case Annotate():
                lines.append("nudge")
    return lines


async def partly(world: World, rounds: int = 1) -> World:
    """The operator acts, and nobody else has done anything yet."""
    for _ in range(rounds):
        world.deliver()
        await world.reconcile()
    world.deliver()
    return world


async def downloading(start: Phase = "hf", **local: Any) -> World:
    """An edit to phase local whose download runs while the old phase serves."""
    world = await settled({"phase": start, "local": local})
    world.edit({"phase": "local"})
    await partly(world)
    world.controllers.jobs()
    return world


def end_download(world: World, *, well: bool = True) -> None:
    world.controllers.faults.downloads_fail = not well
    world.controllers.faults.late_jobs = False
    world.controllers.jobs()
    world.controllers.faults.downloads_fail = False
    assert world.observed.jobs[0].state == ("complete" if well else "failed")


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


async def test_claim_exists_and_download_failed_the_old_phase_keeps_serving() -> None:
    world = await downloading()
    end_download(world, well=False)
    decided = planned(world)
    assert template_of(decided) == ""
    assert not any(line.startswith("delete") for line in steps(decided))
    ready = decided.status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.DOWNLOAD_FAILED
    assert decided.status.serving_phase == "hf"


async def test_a_failed_download_is_made_anew_after_the_retry_annotation() -> None:
    world = await downloading()
    end_download(world, well=False)
    assert "delete Job" not in steps(planned(world))
    world.edit(annotations={names.RETRY: "1"})
    assert "delete Job" in steps(planned(world))
    await partly(world)
    assert [j.state for j in world.observed.jobs] == ["running"]
    assert [j.retry for j in world.observed.jobs] == ["1"]


async def test_a_failed_download_is_made_anew_after_an_edit_of_its_template() -> None:
    world = await downloading()
    end_download(world, well=False)
    world.edit({"local": {"source": {"download": {"backoffLimit": 9}}}})
    assert "delete Job" in steps(planned(world))


async def test_a_running_download_is_not_changed_by_an_edit_of_its_template() -> None:
    world = await downloading()
    world.edit({"local": {"source": {"download": {"backoffLimit": 9}}}})
    decided = planned(world)
    assert "apply Job" not in steps(decided)
    assert "delete Job" not in steps(decided)


async def test_a_complete_download_is_recorded_on_the_claim_before_its_job_goes() -> None:
    world = await downloading()
    end_download(world)
    decided = planned(world)
    records = next(a.body for a in decided.actions if isinstance(a, Apply) and a.ref.kind == CLAIM)["metadata"]
    key = names.DOWNLOADED + list_hash(world.chatbot.spec)
    assert json.loads(records["annotations"][key]) == {"models": ["phi"]}
    assert "delete Job" not in steps(decided)
    assert moved(world).template == "target"


async def test_a_job_lost_to_its_time_to_live_after_the_record_is_not_run_again() -> None:
    world = await downloading()
    end_download(world)
    await partly(world)
    world.api.drop(job_ref(world))
    decided = planned(world)
    assert "apply Job" not in steps(decided)
    assert moved(world).model.reason == Reason.DOWNLOADED


async def test_a_job_lost_before_the_record_is_run_again() -> None:
    world = await downloading()
    world.api.drop(job_ref(world))
    world.controllers.collect_garbage()
    assert "apply Job" in steps(planned(world))


async def test_a_job_for_another_claim_of_the_same_name_does_not_count() -> None:
    world = await downloading()
    end_download(world)
    world.api.drop(claim_ref(world))
    decided = planned(world)
    assert template_of(decided) == ""
    await partly(world)
    assert template_of(planned(world)) == ""
    assert world.observed.jobs[0].claim_uid == world.api.objects[claim_ref(world)]["metadata"]["uid"]


async def test_only_one_download_at_a_time_writes_a_claim() -> None:
    world = await downloading()
    first = job_ref(world)
    world.edit({"local": {"models": ["qwen"]}})
    decided = planned(world)
    assert [a.ref for a in decided.actions if isinstance(a, Delete)] == [first]
    assert "apply Job" not in steps(decided)
    await partly(world)
    assert first not in world.api.objects
    assert world.observed.downloaders, "the pod of the first still runs"
    assert "apply Job" not in steps(planned(world))
    world.controllers.collect_garbage()
    assert "apply Job" in steps(planned(world))


async def test_a_record_is_dropped_when_a_later_download_may_have_removed_its_list() -> None:
    world = await settled({"phase": "local", "local": {"models": ["phi"]}})
    old = names.DOWNLOADED + list_hash(world.chatbot.spec)
    world.edit({"local": {"models": ["qwen"]}})
    await partly(world)
    assert old in world.api.objects[claim_ref(world)]["metadata"]["annotations"], "it serves, so it stays on the claim"
    await world.settle()
    annotations = world.api.objects[claim_ref(world)]["metadata"]["annotations"]
    assert old not in annotations
    assert names.DOWNLOADED + list_hash(world.chatbot.spec) in annotations


async def test_another_list_downloads_beside_what_serves() -> None:
    world = await settled({"phase": "local", "local": {"models": ["phi"]}})
    serving = revision(world.chatbot.spec)
    world.edit({"local": {"models": ["phi", "qwen"]}})
    await partly(world)
    assert template_of(planned(world)) == ""
    assert world.observed.backend is not None
    assert world.observed.backend.revision == serving
    assert len(world.observed.claims) == 1


async def test_the_record_of_a_claim_that_was_deleted_meanwhile_does_not_go_to_the_one_made_anew() -> None:
    world = await downloading()
    end_download(world)
    world.deliver()
    world.api.drop(claim_ref(world))
    await world.reconcile()  # it has not heard of that yet
    key = names.DOWNLOADED + list_hash(world.chatbot.spec)
    live = world.api.objects.get(claim_ref(world), {"metadata": {}})
    assert key not in live["metadata"].get("annotations", {})
    await world.settle()
    assert key in world.api.objects[claim_ref(world)]["metadata"]["annotations"]
    assert world.chatbot.status.serving_phase == "local"


@pytest.mark.parametrize(
    "storage",
    [
        pytest.param({"storageClassName": "fast"}, id="another class is another claim"),
        pytest.param({"accessMode": "ReadWriteMany"}, id="another access mode is another claim"),
    ],
)
async def test_another_claim_is_filled_before_the_old_one_goes(storage: dict[str, str]) -> None:
    world = await settled({"phase": "local"})
    old = claim_ref(world)
    world.edit({"local": {"storage": storage}})
    await partly(world)
    assert claim_ref(world) != old
    assert old in world.api.objects
    assert template_of(planned(world)) == ""
    await world.settle()
    assert old not in world.api.objects
    assert claim_ref(world) in world.api.objects


@pytest.mark.parametrize(("retain", "kept"), [(True, True), (False, False)])
async def test_retain_decides_whether_the_claim_outlives_the_phase(retain: bool, kept: bool) -> None:
    world = await settled({"phase": "local", "local": {"storage": {"retain": retain}}})
    world.edit({"phase": "mock"})
    await world.settle()
    assert (claim_ref(world) in world.api.objects) is kept


async def test_a_retained_claim_is_not_owned_so_that_it_outlives_the_chatbot() -> None:
    world = await settled({"phase": "local"})
    assert "ownerReferences" not in world.api.objects[claim_ref(world)]["metadata"]
    world.edit({"local": {"storage": {"retain": False}}})
    await world.settle()
    assert world.api.objects[claim_ref(world)]["metadata"]["ownerReferences"][0]["uid"] == "the-chatbot"


async def test_a_retained_claim_with_its_record_makes_the_way_back_a_plain_rollout() -> None:
    world = await settled({"phase": "local"})
    world.edit({"phase": "mock"})
    await world.settle()
    world.edit({"phase": "local"})
    decided = planned(world)
    assert template_of(decided) in ("", revision(world.chatbot.spec))
    assert "apply Job" not in steps(decided)
    assert moved(world).model.arrived


async def test_a_larger_retained_claim_keeps_its_size() -> None:
    world = await settled({"phase": "local", "local": {"storage": {"size": "40Gi"}}})
    world.edit({"phase": "mock"})
    await world.settle()
    world.edit({"phase": "local", "local": {"storage": {"size": "20Gi"}}})
    await world.settle()
    assert world.api.objects[claim_ref(world)]["spec"]["resources"]["requests"]["storage"] == "40Gi"


async def test_a_claim_grows_with_the_spec() -> None:
    world = await settled({"phase": "local"})
    world.edit({"local": {"storage": {"size": "50Gi"}}})
    await world.settle()
    assert world.api.objects[claim_ref(world)]["spec"]["resources"]["requests"]["storage"] == "50Gi"


async def test_prefetch_downloads_while_another_phase_serves_and_goes_on() -> None:
    world = await settled({"phase": "hf"})
    world.edit({"local": {"prefetch": True}})
    decided = planned(world)
    assert "apply PersistentVolumeClaim" in steps(decided)
    assert template_of(decided) == revision(world.chatbot.spec)
    assert decided.status.serving_phase == "hf"
    await world.settle()
    assert (
        names.DOWNLOADED + list_hash(world.chatbot.spec)
        in (world.api.objects[claim_ref(world)]["metadata"]["annotations"])
    )
    world.edit({"phase": "local"})
    assert "apply Job" not in steps(planned(world))


@pytest.mark.parametrize("source", [{"claim": {"name": "mine"}}, {"image": {"reference": "registry/phi:1"}}])
async def test_weights_that_are_already_there_need_neither_claim_nor_job(source: dict[str, Any]) -> None:
    world = await settled({"phase": "hf"})
    world.edit({"phase": "local", "local": {"source": source}})
    assert not {"apply Job", "apply PersistentVolumeClaim"} & set(steps(planned(world)))
    assert moved(world).template == "target"


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


async def test_a_claim_stays_while_a_pod_that_is_ending_still_mounts_it() -> None:
    world = await settled({"phase": "local", "local": {"storage": {"retain": False}}})
    lingering = world.observed.pods[0]
    world.edit({"phase": "mock"})
    observed = world.observed
    assert observed.backend is not None
    arrived = replace(observed.backend, revision=revision(world.chatbot.spec), phase="mock")
    going = replace(lingering, deleting=True, ready=False)
    there = replace(observed, backend=arrived, pods=(going,))
    decided = plan(world.chatbot, there, world.now, world.settings, EVERY_PHASE)
    assert moved(world, there).arrived
    assert "delete PersistentVolumeClaim" not in steps(decided)
    decided = plan(world.chatbot, replace(there, pods=()), world.now, world.settings, EVERY_PHASE)
    assert "delete PersistentVolumeClaim" in steps(decided)


async def test_a_claim_stays_while_the_pod_of_a_download_that_was_given_up_still_writes_it() -> None:
    world = await downloading("mock", storage={"retain": False})
    world.edit({"phase": "mock"})
    claim = claim_ref(world)
    await partly(world)
    assert job_ref(world) not in world.api.objects
    assert world.observed.downloaders
    assert "deletionTimestamp" not in world.api.objects[claim]["metadata"]
    await world.settle()
    assert claim not in world.api.objects


def strategy_of(world: World) -> dict[str, int]:
    body = next(a.body for a in planned(world).actions if isinstance(a, Apply) and a.ref.kind == DEPLOYMENT)
    strategy: dict[str, int] = body["spec"]["strategy"]["rollingUpdate"]
    return strategy


@pytest.mark.parametrize(
    ("rollout", "strategy"),
    [
        pytest.param("Surge", {"maxUnavailable": 0, "maxSurge": 1}, id="Surge puts the new pod beside the old one"),
        pytest.param("Replace", {"maxUnavailable": 1, "maxSurge": 0}, id="Replace takes the old pod away first"),
    ],
)
def test_rollout_decides_which_pod_goes_first(rollout: str, strategy: dict[str, int]) -> None:
    assert strategy_of(World({"phase": "hf", "backend": {"rollout": rollout}})) == strategy


async def stuck_half_way() -> World:
    """One new pod answers, the next finds no place, and the progress deadline passes."""
    world = await settled({"phase": "mock"})
    world.controllers.faults.capacity = 1
    world.edit({"phase": "hf"})
    await partly(world)
    world.controllers.settle()
    world.controllers.deadline()
    return world


async def test_stuck_half_way_between_two_providers_it_steps_back() -> None:
    world = await stuck_half_way()
    old = next(t.revision for t in world.observed.templates if t.phase == "mock")
    decided = planned(world)
    assert template_of(decided) == old
    body = next(a.body for a in decided.actions if isinstance(a, Apply) and a.ref.kind == DEPLOYMENT)
    assert body["metadata"]["annotations"][names.FAILED_REVISION] == failed_marker(world.chatbot)
    ready = decided.status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.STEPPED_BACK
    assert names.RETRY in ready.message


def serving(world: World) -> str:
    return world.chatbot.status.serving_phase


async def test_after_stepping_back_it_stays_there_and_tries_again_only_when_asked() -> None:
    world = await stuck_half_way()
    await world.settle()
    assert serving(world) == "mock"
    assert template_of(planned(world)) == ""
    world.controllers.faults.capacity = 100
    await world.settle()
    assert serving(world) == "mock"
    world.edit(annotations={names.RETRY: "1"})
    assert template_of(planned(world)) == revision(world.chatbot.spec)
    await world.settle()
    assert serving(world) == "hf"
    assert names.FAILED_REVISION not in world.api.objects[BACKEND]["metadata"]["annotations"]


async def test_after_stepping_back_another_spec_is_tried_at_once() -> None:
    world = await stuck_half_way()
    await world.settle()
    world.edit({"hf": {"models": ["another/model"]}})
    await world.settle()
    labels = world.api.objects[BACKEND]["spec"]["template"]["metadata"]["labels"]
    assert labels[names.REVISION_LABEL] == revision(world.chatbot.spec)


async def test_new_pods_of_which_none_gets_ready_stay_as_probes_beside_the_old_ones() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"phase": "hf"})
    world.controllers.faults.broken.add(revision(world.chatbot.spec))
    await partly(world)
    world.controllers.settle()
    world.controllers.deadline()
    decided = planned(world)
    assert moved(world).template == "target"
    ready = decided.status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.STALLED
    assert decided.status.serving_phase == "mock"
    world.controllers.faults.broken.clear()
    await world.settle()
    assert world.chatbot.status.serving_phase == "hf", "what was wrong is mended, and the change finishes by itself"


async def test_fewer_pods_come_before_the_template_of_a_phase_that_runs_fewer() -> None:
    world = await settled({"phase": "hf", "local": {"prefetch": True}})
    world.edit({"phase": "local"})
    decided = planned(world)
    assert "scale 1" in steps(decided)
    assert template_of(decided) == "", "the new phase may be far larger, so the count goes down first"
    assert steps(decided).index("apply HorizontalPodAutoscaler") < steps(decided).index("scale 1")
    scaler = next(a.body for a in decided.actions if isinstance(a, Apply) and a.ref == SCALER)
    assert scaler["spec"]["maxReplicas"] == 1
    world.api.change(BACKEND, {"spec": {"replicas": 1}})
    for controller in (world.controllers.deployment, world.controllers.replica_sets, world.controllers.deployment):
        controller()
    assert template_of(planned(world)) == revision(world.chatbot.spec)


async def test_while_the_weights_are_on_their_way_the_old_phases_count_of_pods_holds() -> None:
    world = await downloading("hf")
    decided = planned(world)
    scaler = next(a.body for a in decided.actions if isinstance(a, Apply) and a.ref == SCALER)
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 10)
    assert not any(isinstance(a, Scale) for a in decided.actions)


async def test_suspend_takes_the_autoscaler_away_and_then_the_pods() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"suspend": True})
    lines = steps(planned(world))
    assert lines.index("delete HorizontalPodAutoscaler") < lines.index("scale 0")
    await world.settle()
    assert not world.observed.pods
    assert Ref(SERVICE, *KEY) in world.api.objects
    assert world.chatbot.status.serving_phase == ""


async def test_resume_goes_to_the_minimum_and_then_the_autoscaler_comes_back() -> None:
    world = await settled({"phase": "mock", "suspend": True})
    world.edit({"suspend": False})
    lines = steps(planned(world))
    assert lines.index("scale 2") < lines.index("apply HorizontalPodAutoscaler")
    await world.settle()
    assert len(world.observed.ready_pods()) == 2


async def test_with_autoscaling_off_the_count_is_the_specs() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"backend": {"autoscaling": {"enabled": False}, "replicas": 5}})
    lines = steps(planned(world))
    assert "delete HorizontalPodAutoscaler" in lines
    assert "scale 5" in lines
    world.edit({"backend": {"replicas": 1}})
    await world.settle()
    assert len(world.observed.ready_pods()) == 1
    assert SCALER not in world.api.objects


async def test_the_autoscalers_count_is_left_to_it() -> None:
    world = await settled({"phase": "mock"})
    world.api.change(BACKEND, {"spec": {"replicas": 7}})
    assert not any(isinstance(a, Scale) for a in planned(world).actions)


async def test_replicas_are_never_a_part_of_an_apply() -> None:
    for spec in ({"phase": "mock"}, {"phase": "hf", "backend": {"autoscaling": {"enabled": False}, "replicas": 3}}):
        world = World(spec)
        body = next(a.body for a in planned(world).actions if isinstance(a, Apply) and a.ref.kind == DEPLOYMENT)
        assert "replicas" not in body["spec"]


@pytest.mark.parametrize("phase", PHASES)
async def test_an_object_that_is_being_deleted_is_never_acted_on(phase: Phase) -> None:
    world = await settled({"phase": phase})
    for ref in world.observed.children:
        world.api.change(ref, {"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}})
    world.edit({"phase": "mock" if phase != "mock" else "hf", "suspend": True})
    gone = {ref for ref, o in world.api.objects.items() if "deletionTimestamp" in o["metadata"]}
    assert gone
    assert not gone & {a.ref for a in planned(world).actions}


async def test_a_strangers_object_makes_a_name_conflict_and_is_not_pruned() -> None:
    world = await settled({"phase": "mock"})
    service = Ref(SERVICE, *KEY)
    theirs = {"metadata": {"ownerReferences": [{"uid": "other", "controller": True, "kind": "X", "name": "x"}]}}
    world.api.change(service, theirs)
    decided = planned(world)
    ready = decided.status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.NAME_CONFLICT
    assert str(service) in ready.message
    assert service not in [a.ref for a in decided.actions if isinstance(a, Delete)]


async def test_a_claim_that_carries_another_chatbots_name_is_a_strangers() -> None:
    world = await settled({"phase": "local"})
    world.api.change(claim_ref(world), {"metadata": {"labels": {names.CHATBOT_LABEL: "somebody"}}})
    assert claim_ref(world) in world.observed.strangers


async def test_a_paused_chatbot_is_told_of_and_not_touched() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"phase": "hf"}, annotations={names.PAUSED: "true"})
    decided = planned(world)
    assert decided.actions == ()
    ready = decided.status.condition("Ready")
    assert ready is not None
    assert names.PAUSED in ready.message


@pytest.mark.parametrize("phase", ["hf", "local"])
async def test_a_phase_that_is_not_built_keeps_what_serves(phase: Phase) -> None:
    world = await settled({"phase": "mock"})
    world.edit({"phase": phase, "local": {"prefetch": True}})
    decided = planned(world, built={"mock"})
    assert template_of(decided) == ""
    assert not {"apply Job", "apply PersistentVolumeClaim", "delete HorizontalPodAutoscaler"} & set(steps(decided))
    assert not any(isinstance(a, Scale) for a in decided.actions)
    ready = decided.status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.NOT_IMPLEMENTED
    assert decided.status.serving_phase == "mock"


def test_a_phase_that_is_not_built_makes_no_pods_at_all() -> None:
    assert template_of(planned(World({"phase": "hf"}), built={"mock"})) == ""


@pytest.mark.parametrize("spec", [{"phase": p} for p in PHASES])
async def test_deciding_twice_on_the_same_world_is_the_same(spec: dict[str, Any]) -> None:
    world = World(spec)
    for _ in range(3):
        assert planned(world) == planned(world)
        await partly(world)
        world.controllers.settle()


@pytest.mark.parametrize("spec", [{"phase": p} for p in PHASES])
async def test_a_status_that_was_deleted_changes_no_action(spec: dict[str, Any]) -> None:
    world = await settled(spec)
    before = planned(world)
    world.api.change(REF, {"status": None})
    assert planned(world).actions == before.actions
    await partly(world)
    ready = world.chatbot.status.condition("Ready")
    assert ready is not None
    assert ready.status == "True"


def pod(revision_: str, phase: str, *, ready: bool = True, deleting: bool = False) -> Callable[[Pod], Pod]:
    return lambda p: replace(p, revision=revision_, phase=phase, ready=ready, deleting=deleting)


async def test_verified_are_the_providers_of_ready_pods_and_known_ones_that_may_come_back() -> None:
    world = await settled({"phase": "hf"})
    observed = world.observed
    one, template = observed.pods[0], observed.templates[0]

    def seen(pods: tuple[Pod, ...], templates: tuple[Template, ...], verified: tuple[str, ...]) -> tuple[str, ...]:
        return verified_revisions(replace(observed, pods=pods, templates=templates, verified=verified))

    assert seen((pod("b", "hf")(one), pod("a", "hf")(one)), (), ()) == ("a", "b")
    assert seen((pod("a", "hf", ready=False)(one),), (), ()) == ()
    assert seen((pod("a", "hf", deleting=True)(one),), (), ()) == ()
    assert seen((pod("m", "mock")(one),), (), ("m",)) == (), "a mock needs no proof"
    assert seen((), (replace(template, revision="old"),), ("old", "forgotten")) == ("old",)


async def test_the_settings_name_what_has_proved_itself() -> None:
    world = await settled({"phase": "hf"})
    config = world.api.objects[Ref(CONFIG_MAP, *BACKEND[1:])]["data"][names.SETTINGS_KEY]
    assert json.loads(config)["verifiedRevisions"] == [revision(world.chatbot.spec)]


async def test_ready_pods_with_old_settings_are_nudged_once_and_again_after_ten_seconds() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"systemPrompt": "Be brief."})
    await partly(world)
    world.reports.update(world.controllers.reports())
    pods = [p for p in world.observed.pods if p.nudge]
    assert len(pods) == 2
    told = replace(
        world.observed, pods=tuple(replace(p, report=world.reports[p.instance]) for p in world.observed.pods)
    )

    def nudges(seconds: int) -> int:
        decided = plan(world.chatbot, told, world.now + timedelta(seconds=seconds), Settings(), EVERY_PHASE)
        return sum(isinstance(a, Annotate) for a in decided.actions)

    assert nudges(5) == 0
    assert nudges(15) == 2
    assert all(p.ref.kind == POD for p in pods)


@pytest.mark.parametrize("late", [{"status": {"replicas": 3}}, {"status": {"observedGeneration": 0}}])
async def test_the_next_template_waits_while_a_set_of_pods_is_still_counted_as_it_was(late: dict[str, Any]) -> None:
    """Going back to a template whose pods are just going, Kubernetes would take away those that serve."""
    world = await settled({"phase": "mock"})
    world.edit({"mock": {"resources": {"requests": {"cpu": "50m"}}}})
    (replica_set,) = world.api.of_kind(REPLICA_SET)
    before = {k: replica_set["status"][k] for k in late["status"]}
    world.api.change(ref_of(replica_set), late)
    world.deliver()
    assert applied(world)[BACKEND]["spec"]["paused"]
    built = frozenset(EVERY_PHASE)
    context = Context(world.chatbot, world.observed, moved(world), world.settings, world.now, built)
    assert Reason.ROLLING_OUT in {v.reason for v in verdicts(context)}
    world.api.change(ref_of(replica_set), {"status": before})
    world.deliver()
    assert "paused" not in applied(world)[BACKEND]["spec"]


def applied(world: World) -> dict[Ref, Mapping[str, Any]]:
    return {action.ref: action.body for action in planned(world).actions if isinstance(action, Apply)}


async def test_a_change_in_the_midst_of_a_rollout_pauses_it_and_goes_on_once_its_counts_have_settled() -> None:
    world = await settled({"phase": "mock"})
    before = world.api.objects[BACKEND]["spec"]["template"]
    world.edit({"phase": "hf"})
    await partly(world)
    moving = world.api.objects[BACKEND]["spec"]["template"]
    world.edit({"phase": "mock"})
    await partly(world)
    held = world.api.objects[BACKEND]["spec"]
    assert held["paused"]
    assert held["template"] == moving, "what is on its way is not changed yet"
    await partly(world)
    assert world.api.objects[BACKEND]["spec"] == held, "the controller has not said yet that it holds"
    await world.settle()
    after = world.api.objects[BACKEND]["spec"]
    assert after["template"] == before
    assert "paused" not in after
    assert world.chatbot.status.serving_phase == "mock"


async def test_a_rollout_that_was_paused_for_a_change_that_is_not_to_be_goes_on() -> None:
    world = await settled({"phase": "mock"})
    world.edit({"phase": "hf"})
    await partly(world)
    world.edit({"phase": "mock"})
    await partly(world)
    assert world.api.objects[BACKEND]["spec"]["paused"]
    world.edit({"phase": "hf", "hf": {"baseURL": "https://not.allowed.example/v1"}})
    await world.settle()
    assert "paused" not in world.api.objects[BACKEND]["spec"]
    assert world.chatbot.status.serving_phase == "hf", "the one that was on its way"


async def test_another_secret_for_the_token_is_another_provider_that_must_answer_first() -> None:
    world = await settled({"phase": "hf"})
    before = revision(world.chatbot.spec)
    world.edit({"hf": {"tokenSecretRef": {"name": "another"}}})
    assert revision(world.chatbot.spec) != before
    world.edit({"hf": {"requestsPerMinute": 5, "timeoutSeconds": 5}})
    after = revision(world.chatbot.spec)
    world.edit({"hf": {"requestsPerMinute": 6, "timeoutSeconds": 6}})
    assert revision(world.chatbot.spec) == after, "limits reach running pods"
