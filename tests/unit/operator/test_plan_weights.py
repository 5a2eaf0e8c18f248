"""What is planned for downloads and claims, and what of them is kept, case by case."""

import json
from dataclasses import replace
from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.actions import Apply, Delete
from chatbot_operator.api.reasons import Reason
from chatbot_operator.kinds import (
    CLAIM,
)
from chatbot_operator.plan import plan
from chatbot_operator.revision import list_hash, revision
from tests.support.plans import (
    claim_ref,
    downloading,
    end_download,
    job_ref,
    moved,
    partly,
    planned,
    steps,
    template_of,
)
from tests.support.simulated_world import EVERY_PHASE, settled


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


async def test_a_failed_download_is_not_made_anew_because_what_serves_has_changed() -> None:
    world = await settled({"phase": "local", "local": {"models": ["phi"]}})
    world.edit({"local": {"models": ["phi", "qwen"]}})
    await partly(world)
    world.controllers.jobs()
    end_download(world, well=False)
    gone = replace(world.observed, backend=None, pods=())
    assert moved(world).lists_kept == set(world.observed.jobs[0].kept_lists) != set()
    assert moved(world, gone).lists_kept == set()
    for observed in (world.observed, gone):
        decided = plan(world.chatbot, observed, world.now, world.settings, EVERY_PHASE)
        assert "delete Job" not in steps(decided)


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
    assert [m["name"] for m in json.loads(records["annotations"][key])["models"]] == ["phi"]
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
