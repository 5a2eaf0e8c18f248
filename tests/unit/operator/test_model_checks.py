"""What is said of the claim that holds the weights, and of the memory that they need."""

from typing import Any

from chatbot_operator.actions import Apply
from chatbot_operator.api.reasons import Reason
from chatbot_runtime.contract import DownloadedModel
from tests.support.downloads import Download
from tests.support.scenes import Scene

GIB = 2**30
SMALL = {"requests": {"cpu": "1500m", "memory": "1Gi"}}


def test_a_claim_that_is_not_there_is_waited_for() -> None:
    ready = Scene({"phase": "local"}).plan().status.condition("Ready")
    assert ready is not None
    assert (ready.reason, ready.message) == (Reason.CLAIM_PENDING, "The claim of the weights is being made.")


def test_a_claim_without_a_class_in_a_cluster_without_a_default_one_is_told_by_its_field() -> None:
    download = Download()
    del download.claim["spec"]["storageClassName"]
    download.claim["status"] = {"phase": "Pending"}
    reason, message = download.condition()
    assert reason == Reason.NO_STORAGE_CLASS
    assert "local.storage.storageClassName" in message


def test_a_storage_class_that_does_not_exist_is_named() -> None:
    download = Download({"storage": {"storageClassName": "fast"}})
    download.claim["status"] = {"phase": "Pending"}
    uid = download.claim["metadata"]["uid"]
    download.scene.complaints[uid] = 'ProvisioningFailed: storageclass.storage.k8s.io "fast" not found'
    reason, message = download.condition()
    assert reason == Reason.NO_STORAGE_CLASS
    assert "there is no StorageClass fast" in message


def test_a_claim_that_gets_no_volume_quotes_the_event() -> None:
    download = Download()
    download.claim["status"] = {"phase": "Pending"}
    download.scene.complaints[download.claim["metadata"]["uid"]] = "ProvisioningFailed: no room"
    reason, message = download.condition()
    assert reason == Reason.CLAIM_PENDING
    assert "ProvisioningFailed: no room" in message
    assert "kubectl describe pvc" in message


def small(size: int, per_token: int = 0, **local: Any) -> Download:
    """A download of this size for an engine with 896 MiB."""
    download = Download({"resources": SMALL, **local})
    download.complete(DownloadedModel(name="phi", digest="sha256:a", size_bytes=size, bytes_per_token=per_token))
    return download


def test_weights_that_do_not_fit_into_memory_are_told_with_both_numbers_and_nothing_is_started() -> None:
    download = small(3 * GIB)
    reason, message = download.condition()
    assert reason == Reason.INSUFFICIENT_MEMORY
    assert "need 3.0 GiB" in message
    assert "has 896 MiB" in message
    assert "local.resources.requests.memory" in message
    engines = [
        a for a in download.scene.plan().actions if isinstance(a, Apply) and "initContainers" in str(a.body.get("spec"))
    ]
    assert not engines


def test_the_context_counts_too_for_each_answer_at_once() -> None:
    mebi = 2**20
    assert small(800 * mebi, 8192).scene.context.migration.fits  # 32 MiB for 4096 tokens
    assert not small(800 * mebi, 8192, parallel=4).scene.context.migration.fits
    assert not small(800 * mebi, 8192, contextLength=16_384).scene.context.migration.fits


def test_weights_on_a_gpu_need_no_memory_of_the_pod() -> None:
    assert small(3 * GIB, gpu={"count": 1}).scene.context.migration.fits


def mounted(name: str = "my-models") -> Scene:
    """A Chatbot that reads its weights from a claim of somebody's, and whose first pod does not start."""
    scene = Scene({"phase": "local", "local": {"source": {"claim": {"name": name}}}})
    scene.apply()
    scene.deployment(total=1, updated=1, available=0)
    scene.replica_set(ready=0, sick=1)
    return scene


def test_a_claim_of_the_spec_that_does_not_exist_is_told_by_its_field() -> None:
    scene = mounted()
    scene.pod()["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": '0/1 nodes are available: persistentvolumeclaim "my-models" not found.',
        }
    ]
    ready = scene.plan().status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.CLAIM_MISSING
    assert "local.source.claim.name: there is no claim my-models" in ready.message


def test_a_volume_that_is_in_use_on_another_node_is_told() -> None:
    scene = mounted()
    scene.complaints[scene.pod()["metadata"]["uid"]] = "FailedAttachVolume: Multi-Attach error for volume x"
    ready = scene.plan().status.condition("Ready")
    assert ready is not None
    assert ready.reason == Reason.CLAIM_IN_USE
