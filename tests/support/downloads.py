"""A Chatbot of phase local whose download has begun, for the pure core. No test logic here."""

from typing import Any

from chatbot_operator.kinds import CLAIM, JOB, POD
from chatbot_operator.reports import PodReport
from chatbot_runtime.contract import DownloadedModel, DownloadReason, DownloadResult, DownloadStatus
from tests.support.scenes import Scene
from tests.support.simulated_api import Object
from tests.support.simulated_world import KEY


class Download:
    """A Chatbot in phase local whose download has begun, with what a test changes of it."""

    def __init__(self, local: dict[str, Any] | None = None) -> None:
        self.scene = Scene({"phase": "local", "local": local or {}})
        self.scene.apply()  # the claim
        self.scene.apply()  # the Job, which carries the claim's uid
        self.job = next(o for r, o in self.scene.objects.items() if r.kind == JOB)
        self.claim = next(o for r, o in self.scene.objects.items() if r.kind == CLAIM)
        self.claim["status"] = {"phase": "Bound", "capacity": {"storage": "20Gi"}}
        self.pods = 0

    def pod(self, status: Object | None = None, progress: DownloadStatus | None = None) -> Object:
        """One more pod of the Job."""
        self.pods += 1
        owner = {k: self.job["metadata"][k] for k in ("name", "uid")}
        labels = {**self.job["spec"]["template"]["metadata"]["labels"], "batch.kubernetes.io/job-name": owner["name"]}
        metadata = {
            "name": f"{owner['name']}-{self.pods}",
            "namespace": KEY.namespace,
            "labels": labels,
            "creationTimestamp": f"2026-01-01T00:00:0{self.pods}Z",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "controller": True, **owner}],
        }
        running = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        pod = self.scene.store(
            {"apiVersion": "v1", "kind": POD.name, "metadata": metadata, "spec": {}, "status": status or running}
        )
        if progress is not None:
            self.scene.reports[f"{pod['metadata']['uid']}/0"] = PodReport(download=progress)
        return pod

    def ended(
        self, reason: DownloadReason, message: str = "so it ended", models: tuple[DownloadedModel, ...] = ()
    ) -> None:
        """One more pod, which has ended with these last words."""
        words = DownloadResult(list_hash="x", reason=reason, message=message, models=models)
        self.said(words.model_dump_json(by_alias=True))

    def said(self, words: str) -> None:
        """One more pod, which has ended with any last words."""
        state = {"terminated": {"exitCode": 1, "reason": "Error", "message": words}}
        containers = [{"name": "download", "restartCount": 0, "state": state}]
        beside = {"terminated": {"exitCode": 0, "reason": "Completed", "message": "the engine's own log"}}
        engine = [{"name": "engine", "restartCount": 0, "state": beside}]
        self.pod({"phase": "Failed", "containerStatuses": containers, "initContainerStatuses": engine})

    def failed(self, reason: str = "BackoffLimitExceeded") -> None:
        """The Job has given up, now."""
        when = self.scene.now.isoformat()
        condition = {"type": "Failed", "status": "True", "reason": reason, "lastTransitionTime": when}
        self.job["status"] = {"conditions": [condition]}

    def complete(self, *models: DownloadedModel) -> None:
        """The Job is done."""
        self.ended("Downloaded", models=models)
        self.job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}

    def condition(self, type_: str = "Ready") -> tuple[str, str]:
        """A condition's reason and message."""
        found = self.scene.plan().status.condition(type_)
        assert found is not None
        assert found.status == "False"
        return found.reason, found.message


def progress(**fields: Any) -> DownloadStatus:
    return DownloadStatus(chatbot="demo", list_hash="x", **{"state": "downloading", **fields})
