"""What is said of a download, from its queue to its end, and what begins it anew."""

from datetime import timedelta

import pytest

from chatbot_operator import names
from chatbot_operator.actions import Annotate, Apply, Delete
from chatbot_operator.api.reasons import EventReason, Reason
from chatbot_operator.kinds import JOB, Ref
from chatbot_operator.messages import messages
from chatbot_runtime.contract import DownloadedModel, DownloadReason
from tests.support.downloads import Download, progress
from tests.support.scenes import serving
from tests.support.simulated_api import Object
from tests.support.simulated_world import KEY

GIB = 2**30
SICK = {"phase": "Pending", "containerStatuses": [{"name": "x", "state": {"waiting": {"reason": "ErrImagePull"}}}]}


def test_a_download_without_a_pod_is_queued() -> None:
    assert Download().condition()[0] == Reason.QUEUED


def test_a_download_whose_pod_runs_is_downloading_and_its_progress_is_in_the_status() -> None:
    download = Download()
    assert download.scene.plan().status.download is not None  # zeros, as long as nobody has said more
    download.pod(progress=progress(percent=42.9, completed_bytes=429, total_bytes=1000))
    status = download.scene.plan().status
    assert status.download is not None
    assert status.download.manifest() == {"percent": 42, "completedBytes": 429, "totalBytes": 1000}
    for type_ in ("Ready", "ModelReady"):
        assert download.condition(type_)[0] == Reason.DOWNLOADING
    progressing = status.condition("Progressing")
    assert progressing is not None
    assert (progressing.status, progressing.reason) == ("True", Reason.DOWNLOADING)


def test_the_progress_is_not_shown_any_more_once_the_download_has_ended() -> None:
    download = Download()
    download.ended("ModelNotFound")
    download.failed()
    assert download.scene.plan().status.download is None


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("ModelNotFound", "Correct local.models"),
        ("StorageFull", "Raise local.storage.size"),
        ("SourceUnreachable", "tried again by itself"),
        ("DigestMismatch", "tried again by itself"),
        ("Interrupted", "goes on by itself"),
        ("DownloadFailed", "kubectl logs -n chat job/demo-download-"),
    ],
)
def test_a_failed_download_says_why_in_the_downloaders_words_and_what_helps(
    reason: DownloadReason, remedy: str
) -> None:
    download = Download()
    download.ended(reason, "phi is not what it was")
    download.failed()
    for type_ in ("Ready", "ModelReady"):
        told = download.condition(type_)
        assert told[0] == reason
        assert "phi is not what it was. " in told[1]
        assert remedy in told[1]


def test_between_two_tries_the_reason_of_the_last_one_stands() -> None:
    download = Download()
    download.ended("ModelNotFound", "the first")
    download.ended("SourceUnreachable", "the second")
    reason, message = download.condition()
    assert reason == Reason.SOURCE_UNREACHABLE
    assert "the second" in message


def test_a_pod_that_is_done_before_its_job_knows_it_is_still_a_download() -> None:
    download = Download()
    download.ended("Downloaded")
    assert download.condition()[0] == Reason.DOWNLOADING


def test_a_new_try_that_runs_is_a_download_again() -> None:
    download = Download()
    download.ended("SourceUnreachable")
    download.pod()
    assert download.condition()[0] == Reason.DOWNLOADING


@pytest.mark.parametrize("words", ["", "Traceback (most recent call last)", "{}", '{"listHash": 1}', "[]"])
def test_last_words_that_are_none_make_it_a_failed_download_that_names_its_log(words: str) -> None:
    download = Download()
    download.said(words)
    download.failed()
    reason, message = download.condition()
    assert reason == Reason.DOWNLOAD_FAILED
    assert "kubectl logs" in message
    assert names.RETRY in message


def test_a_reason_of_a_newer_downloader_is_a_failed_download() -> None:
    download = Download()
    download.said('{"listHash": "x", "reason": "Eaten", "message": "by the cat"}')
    download.failed()
    assert download.condition()[0] == Reason.DOWNLOAD_FAILED


def test_a_download_that_took_too_long_names_the_field() -> None:
    download = Download()
    download.failed("DeadlineExceeded")
    reason, message = download.condition()
    assert reason == Reason.DOWNLOAD_FAILED
    assert "activeDeadlineSeconds" in message


@pytest.mark.parametrize("reason", ["TokenRejected", "AccessDenied"])
def test_a_downloader_that_waits_for_a_token_is_told_of_a_changed_one_every_ten_seconds(
    reason: DownloadReason,
) -> None:
    download = Download({"tokenSecretRef": {"name": "hf-token"}})
    pod = download.pod(progress=progress(state="waiting", reason=reason, message="hf_token is refused"))
    told = download.condition()
    assert told[0] == reason
    assert "local.tokenSecretRef" in told[1]
    nudges = [a for a in download.scene.plan().actions if isinstance(a, Annotate)]
    assert [a.ref.name for a in nudges] == [pod["metadata"]["name"]]
    assert download.scene.plan().requeue_after == 10
    pod["metadata"]["annotations"] = dict(nudges[0].annotations)
    assert not any(isinstance(a, Annotate) for a in download.scene.plan().actions)
    download.scene.now += timedelta(seconds=10)
    assert any(isinstance(a, Annotate) for a in download.scene.plan().actions)


def replaced(download: Download) -> bool:
    return any(isinstance(a, Delete) and a.ref.kind == JOB for a in download.scene.plan().actions)


def test_what_failed_for_a_passing_reason_is_tried_again_after_a_pause_and_what_will_not_pass_is_not() -> None:
    passing, lasting = Download(), Download()
    passing.ended("SourceUnreachable")
    lasting.ended("ModelNotFound")
    for download in (passing, lasting):
        download.failed()
        download.scene.now += timedelta(seconds=299)
        assert not replaced(download)
        download.scene.now += timedelta(seconds=1)
    assert replaced(passing)
    assert not replaced(lasting)


def test_a_download_that_found_its_volume_full_is_made_anew_once_the_volume_has_grown() -> None:
    download = Download()
    download.ended("StorageFull")
    download.failed()
    assert not replaced(download)
    download.scene.raw["spec"]["local"]["storage"] = {"size": "30Gi"}
    download.scene.apply()
    assert not replaced(download)  # asked for, and not there yet
    download.claim["status"]["capacity"]["storage"] = "30Gi"
    assert replaced(download)


@pytest.mark.parametrize("waits_for", ["a token", "an image", "the next try"])
def test_a_download_that_only_waits_is_made_anew_by_an_edit_that_may_help_and_one_that_fetches_is_not(
    waits_for: str,
) -> None:
    download = Download()
    fetching = Download()
    fetching.pod(progress=progress())
    match waits_for:
        case "a token":
            download.pod(progress=progress(state="waiting", reason="AccessDenied"))
        case "an image":
            download.pod(SICK)
        case "the next try":
            download.ended("SourceUnreachable")
    assert not replaced(download)
    for one in (download, fetching):
        one.claim["status"]["capacity"]["storage"] = "21Gi"  # that alone is no reason to begin again
        assert not replaced(one)
        one.scene.raw["spec"]["local"]["tokenSecretRef"] = {"name": "hub"}
    assert replaced(download)
    assert not replaced(fetching)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes fit."}
                ],
            },
            Reason.UNSCHEDULABLE,
            "0/1 nodes fit.",
        ),
        (
            {
                "phase": "Pending",
                "containerStatuses": [
                    {"name": "x", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
                ],
            },
            Reason.IMAGE_PULL_FAILED,
            "no such image",
        ),
    ],
    ids=["no node", "no image"],
)
def test_a_download_whose_pod_cannot_start_says_why_while_model_ready_is_queued(
    status: Object, reason: Reason, words: str
) -> None:
    download = Download()
    download.pod(status)
    told = download.condition()
    assert told[0] == reason
    assert words in told[1]
    assert download.condition("ModelReady") == (Reason.QUEUED, told[1])


def test_what_was_downloaded_is_recorded_with_digests_sizes_and_the_time_and_shown() -> None:
    download = Download()
    download.complete(DownloadedModel(name="phi", digest="sha256:abc", size_bytes=2 * GIB))
    download.scene.apply()
    annotations = download.claim["metadata"]["annotations"]
    (record,) = (text for key, text in annotations.items() if key.startswith(names.DOWNLOADED))
    assert '"sha256:abc"' in record
    del download.scene.objects[Ref(JOB, KEY.namespace, download.job["metadata"]["name"])]
    scene = download.scene
    scene.deployment(total=2, updated=2, available=2)
    scene.replica_set()
    model = scene.plan().status.model
    assert model is not None
    assert (model.name, model.engine, model.digest, model.size_bytes) == ("phi", "ollama", "sha256:abc", 2 * GIB)


@pytest.mark.parametrize("record", ["", "not json", "[]", '{"models": 7}', '{"models": [{"name": 3}]}', "null"])
def test_a_record_that_somebody_has_spoilt_still_says_that_the_list_is_there(record: str) -> None:
    download = Download()
    download.complete(DownloadedModel(name="phi", digest="sha256:abc", size_bytes=1))
    download.scene.apply()
    annotations = download.claim["metadata"]["annotations"]
    (key,) = (key for key in annotations if key.startswith(names.DOWNLOADED))
    annotations[key] = record
    del download.scene.objects[Ref(JOB, KEY.namespace, download.job["metadata"]["name"])]
    status = download.scene.plan().status
    assert status.condition("ModelReady").status == "True"  # type: ignore[union-attr]
    assert status.model is not None
    assert status.model.size_bytes == 0


def test_a_download_tells_its_start_its_end_and_its_failure_as_events() -> None:
    def told(download: Download) -> list[EventReason]:
        scene = download.scene
        found = [m.reason for m in messages(scene.chatbot, scene.plan().status)]
        scene.keep_status()
        return found

    download = Download()
    told(download)
    download.pod(progress=progress())
    assert told(download) == [EventReason.MODEL_DOWNLOAD_STARTED]
    download.ended("StorageFull")
    download.failed()
    assert told(download) == [EventReason.MODEL_DOWNLOAD_FAILED]
    download.complete()
    assert EventReason.MODEL_DOWNLOADED in told(download)


def test_while_a_download_runs_the_pods_are_told_where_its_progress_is_and_may_ask_there() -> None:
    hf = serving({"phase": "hf", "local": {"prefetch": True}})
    hf.apply()
    hf.apply()
    bodies = {str(a.ref): a.body for a in hf.plan().actions if isinstance(a, Apply)}
    settings = bodies["ConfigMap chat/demo-backend"]["data"]["settings.json"]
    (service,) = (ref for ref in bodies if ref.startswith("Service chat/demo-download-"))
    assert f'"{service.removeprefix("Service chat/")}.chat.svc:8001"' in settings
    (to_downloader,) = (
        rule
        for rule in bodies["NetworkPolicy chat/demo-backend"]["spec"]["egress"]
        if rule.get("ports") == [{"port": 8001, "protocol": "TCP"}]
    )
    assert to_downloader["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "download"
    assert not hf.plan().settled
