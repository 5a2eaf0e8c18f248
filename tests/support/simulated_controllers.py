"""The controllers beside the operator, in small steps on a SimulatedApi: Deployment, ReplicaSet, kubelet, Job,
autoscaler, volume binding, garbage collection. They know nothing of the operator's decisions.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chatbot_operator import names
from chatbot_operator.desired.base import WEB
from chatbot_operator.kinds import AUTOSCALER, CLAIM, CONFIG_MAP, DEPLOYMENT, JOB, POD, REPLICA_SET, Key, RawObject, Ref
from chatbot_operator.observe import observe
from chatbot_operator.observed import Observed
from chatbot_operator.reports import PodReport
from chatbot_operator.store import Snapshot
from chatbot_runtime.contract import (
    DownloadedModel,
    DownloadReason,
    DownloadResult,
    DownloadStatus,
    PodStatus,
    settings_hash,
)
from tests.support.simulated_api import Object, SimulatedApi, controller_of

_NUMBER = "deployment.kubernetes.io/revision"
_HASH = "pod-template-hash"


@dataclass
class Faults:
    """What goes wrong now."""

    broken: set[str] = field(default_factory=set)
    """Provider revisions whose pods never get ready."""
    capacity: int = 100
    """Pods of the newest template that find a place."""
    downloads_fail: bool = False
    late_jobs: bool = True
    """Whether finished Jobs are removed by their time to live."""


class Controllers:
    """All controllers for one Chatbot. `mounts` tells which claim the pods of a provider's revision mount."""

    def __init__(self, api: SimulatedApi, key: Key, rng: random.Random, mounts: dict[str, str]) -> None:
        self.api, self.key, self.rng, self.mounts = api, key, rng, mounts
        self.faults = Faults()
        self.contents: dict[str, set[str]] = {}
        """By the uid of a claim: the lists of models that lie on it whole."""
        self.fetched = 0
        """Bytes that a download says it has."""
        self.read: dict[str, str] = {}
        """By the uid of a pod: the settings that it has read."""
        self.steps: tuple[Callable[[], None], ...] = (
            self.deployment,
            self.replica_sets,
            self.kubelet,
            self.kubelet,
            self.jobs,
            self.autoscaler,
            self.volumes,
            self.collect_garbage,
        )

    def step(self) -> None:
        """One of them has its turn."""
        self.rng.choice(self.steps)()

    def settle(self) -> None:
        """All of them until nothing changes any more."""
        for _ in range(200):
            before = dict(self.api.objects)
            for step in self.steps:
                step()
            if self.api.objects == before:
                return
        raise AssertionError("the controllers do not come to rest")

    # Deployments ------------------------------------------------------------------------------------------------

    def deployment(self) -> None:
        """A rolling update by the rules of the Deployment controller, one sync."""
        for live in self.api.of_kind(DEPLOYMENT):
            sets = [s for s in self.api.of_kind(REPLICA_SET) if controller_of(s) == live["metadata"]["uid"]]
            if live["spec"].get("paused"):
                self._report(live, max(sets, key=_number))
                continue
            new = self._newest(live, sets)
            taken_up = {"metadata": {"annotations": {_NUMBER: str(_number(new))}}}
            live = self.api.change(_ref(DEPLOYMENT, live), taken_up)
            sets = [s for s in self.api.of_kind(REPLICA_SET) if controller_of(s) == live["metadata"]["uid"]]
            self._scale_sets(live, new, [s for s in sets if s["metadata"]["uid"] != new["metadata"]["uid"]])
            self._forget_old(live)
            self._report(live, new)

    def _newest(self, live: Object, sets: list[Object]) -> Object:
        template = live["spec"]["template"]
        hashed = names.short_hash(template)
        number = max(map(_number, sets), default=0)
        found = next((s for s in sets if s["metadata"]["labels"][_HASH] == hashed), None)
        if found is not None:
            if _number(found) < number:
                numbered = {"metadata": {"annotations": {_NUMBER: str(number + 1)}}}
                found = self.api.change(_ref(REPLICA_SET, found), numbered)
            return found
        labels = {**template["metadata"]["labels"], _HASH: hashed}
        return self.api.store(
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    # The real one finds another name if a set of an earlier Deployment still has it.
                    "name": f"{live['metadata']['name']}-{names.short_hash([hashed, live['metadata']['uid']])}",
                    "namespace": self.key.namespace,
                    "labels": labels,
                    "annotations": {_NUMBER: str(number + 1)},
                    "ownerReferences": [_owner(live)],
                },
                "spec": {
                    "replicas": 0,
                    "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
                },
                "status": {"replicas": 0},
            }
        )

    def _scale_sets(self, live: Object, new: Object, old: list[Object]) -> None:
        wanted = live["spec"]["replicas"]
        update = live["spec"]["strategy"]["rollingUpdate"]
        total = sum(s["spec"]["replicas"] for s in [new, *old])
        size = new["spec"]["replicas"]
        room = wanted + update["maxSurge"] - total if old else wanted - size
        grown = wanted if size > wanted else min(wanted, size + max(0, room))
        if grown != size:
            new = self.api.change(_ref(REPLICA_SET, new), {"spec": {"replicas": grown}})
            return
        least = wanted - update["maxUnavailable"]
        removable = total - least - (size - len(self._pods(new, ready=True)))
        if removable <= 0:
            return
        for replica_set in old:  # those that do not answer go first
            idle = replica_set["spec"]["replicas"] - len(self._pods(replica_set, ready=True))
            drop = min(idle, removable)
            if drop > 0:
                kept = replica_set["spec"]["replicas"] - drop
                self.api.change(_ref(REPLICA_SET, replica_set), {"spec": {"replicas": kept}})
                removable -= drop
        left = (self.api.objects[_ref(REPLICA_SET, s)] for s in [new, *old])
        spare = sum(min(len(self._pods(s, ready=True)), s["spec"]["replicas"]) for s in left) - least
        for replica_set in old:
            size = self.api.objects[_ref(REPLICA_SET, replica_set)]["spec"]["replicas"]
            drop = min(size, spare)
            if drop > 0:
                self.api.change(_ref(REPLICA_SET, replica_set), {"spec": {"replicas": size - drop}})
                spare -= drop

    def _forget_old(self, live: Object) -> None:
        sets = [s for s in self.api.of_kind(REPLICA_SET) if controller_of(s) == live["metadata"]["uid"]]
        sets.sort(key=_number)
        empty = [s for s in sets[:-1] if not s["spec"]["replicas"] and not self._pods(s)]
        for replica_set in empty[: max(0, len(sets) - 1 - live["spec"]["revisionHistoryLimit"])]:
            self.api.drop(_ref(REPLICA_SET, replica_set))

    def _report(self, live: Object, new: Object) -> None:
        sets = [s for s in self.api.of_kind(REPLICA_SET) if controller_of(s) == live["metadata"]["uid"]]
        new = self.api.objects[_ref(REPLICA_SET, new)]
        available = sum(len(self._pods(s, ready=True)) for s in sets)
        status = {
            "observedGeneration": live["metadata"]["generation"],
            "replicas": sum(len(self._pods(s)) for s in sets),
            "updatedReplicas": len(self._pods(new)),
            "readyReplicas": available,
            "availableReplicas": available,
        }
        old = {k: v for k, v in live.get("status", {}).items() if k != "conditions"}
        if status != old:
            progress = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}
            self.api.change(_ref(DEPLOYMENT, live), {"status": {**status, "conditions": [progress]}})

    def deadline(self) -> None:
        """The progress deadline of a rollout that is not complete passes."""
        for live in self.api.of_kind(DEPLOYMENT):
            status, wanted = live.get("status", {}), live["spec"]["replicas"]
            if status.get("observedGeneration") == live["metadata"]["generation"] and not (
                status["updatedReplicas"] == status["availableReplicas"] == status["replicas"] == wanted
            ):
                condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
                self.api.change(_ref(DEPLOYMENT, live), {"status": {"conditions": [condition]}})

    # pods -------------------------------------------------------------------------------------------------------

    def _pods(self, replica_set: Object, *, ready: bool = False) -> list[Object]:
        uid = replica_set["metadata"]["uid"]
        pods = [p for p in self.api.of_kind(POD) if controller_of(p) == uid and not _going(p)]
        return [p for p in pods if is_ready(p)] if ready else pods

    def replica_sets(self) -> None:
        """Make and end pods; those that are not ready go first."""
        for replica_set in self.api.of_kind(REPLICA_SET):
            pods, wanted = self._pods(replica_set), replica_set["spec"]["replicas"]
            for _ in range(wanted - len(pods)):
                self._make_pod(replica_set)
            for pod in sorted(pods, key=is_ready)[: max(0, len(pods) - wanted)]:
                self.api.change(_ref(POD, pod), {"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}})
            count = len(self._pods(replica_set))
            counted = {"replicas": count, "observedGeneration": replica_set["metadata"]["generation"]}
            self.api.change(_ref(REPLICA_SET, replica_set), {"status": counted})

    def _make_pod(self, replica_set: Object) -> None:
        template = replica_set["spec"]["template"]
        claim = self.mounts.get(template["metadata"]["labels"].get(names.REVISION_LABEL, ""))
        volumes = [{"persistentVolumeClaim": {"claimName": claim}}] if claim else []
        self.api.store(self._pod(replica_set, template["metadata"], volumes))

    def _pod(self, owner: Object, metadata: RawObject, volumes: list[Object]) -> Object:
        name = f"{owner['metadata']['name']}-{self.rng.randrange(16**8):08x}"
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": self.key.namespace,
                "labels": metadata["labels"],
                "annotations": metadata.get("annotations", {}),
                "ownerReferences": [_owner(owner)],
            },
            "spec": {"volumes": volumes},
            "status": {"phase": "Running", "podIP": "192.0.2.1"},
        }

    def kubelet(self) -> None:
        """One pod ends or gets ready; the pods that were told of them read their settings."""
        config = self.api.objects.get(Ref(CONFIG_MAP, self.key.namespace, names.backend(self.key.name)))
        text = config["data"][names.SETTINGS_KEY] if config else ""
        moved = False
        for pod in self.api.of_kind(POD):
            if not moved and _going(pod):
                self.api.drop(_ref(POD, pod))
                moved = True
            elif not moved and not is_ready(pod) and self._may_start(pod):
                condition = {"type": "Ready", "status": "True"}
                self.api.change(_ref(POD, pod), {"status": {"conditions": [condition]}})
                self.read[pod["metadata"]["uid"]] = settings_hash(text)
                moved = True
            nudge = pod["metadata"].get("annotations", {}).get(names.SETTINGS_NUDGE, "")
            if nudge and is_ready(pod):
                self.read[pod["metadata"]["uid"]] = settings_hash(text)
        for ref in [r for r, o in self.api.objects.items() if r.kind == CLAIM and _going(o)]:
            if (ref.namespace, ref.name) not in set(self.api.mounted_claims()):
                self.api.drop(ref)

    def _may_start(self, pod: Object) -> bool:
        labels, annotations = pod["metadata"]["labels"], pod["metadata"]["annotations"]
        if labels.get(names.COMPONENT_LABEL) == WEB:
            return True
        if names.REVISION_LABEL not in labels or labels[names.REVISION_LABEL] in self.faults.broken:
            return False
        alike = [p for p in self.api.of_kind(POD) if p["metadata"]["labels"].get(_HASH) == labels[_HASH]]
        if sum(map(is_ready, alike)) >= self.faults.capacity:
            return False
        needed = annotations.get(names.LIST_HASH)
        claim = self.mounts.get(labels[names.REVISION_LABEL])
        return not needed or not claim or needed in self._on(claim)

    def _on(self, claim: str) -> set[str]:
        live = self.api.objects.get(Ref(CLAIM, self.key.namespace, claim))
        return self.contents.setdefault(live["metadata"]["uid"], set()) if live else set()

    # downloads --------------------------------------------------------------------------------------------------

    def jobs(self) -> None:
        """One Job gets its pod, ends, or is removed after its time to live."""
        for job in self.api.of_kind(JOB):
            ref, annotations = _ref(JOB, job), job["metadata"]["annotations"]
            if job.get("status", {}).get("conditions"):
                if self.faults.late_jobs and self.rng.random() < 0.2:
                    self.api.drop(ref)
                continue
            claim = job["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
            pod = next((p for p in self.api.of_kind(POD) if controller_of(p) == job["metadata"]["uid"]), None)
            if pod is None:
                self._begin_download(job, claim)
            elif self.faults.downloads_fail:
                self._end_download(ref, pod, job, "Failed")
            else:
                self._on(claim).add(annotations[names.LIST_HASH])
                self._end_download(ref, pod, job, "Complete")

    def _begin_download(self, job: Object, claim: str) -> None:
        live = self.api.objects.get(Ref(CLAIM, self.key.namespace, claim))
        if live is None or _going(live):
            return
        labels = {
            **job["spec"]["template"]["metadata"]["labels"],
            "batch.kubernetes.io/job-name": job["metadata"]["name"],
        }
        pod = self._pod(job, {"labels": labels}, [{"persistentVolumeClaim": {"claimName": claim}}])
        self.api.store(pod | {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
        env = {e["name"]: e["value"] for e in job["spec"]["template"]["spec"]["containers"][0]["env"]}
        kept = {*env.get("CHATBOT_KEEP_LISTS", "").split(","), env["CHATBOT_LIST_HASH"]}
        self.contents[live["metadata"]["uid"]] = self._on(claim) & kept

    def _end_download(self, ref: Ref, pod: Object, job: Object, how: str) -> None:
        words = last_words(job, "DownloadFailed" if how == "Failed" else "Downloaded")
        ended = {"exitCode": int(how == "Failed"), "reason": "Error", "message": words.model_dump_json(by_alias=True)}
        container = {"name": "download", "restartCount": 0, "state": {"terminated": ended}}
        phase = "Failed" if how == "Failed" else "Succeeded"
        self.api.change(_ref(POD, pod), {"status": {"phase": phase, "containerStatuses": [container]}})
        self.api.change(ref, {"status": {"conditions": [{"type": how, "status": "True"}]}})

    # the rest ---------------------------------------------------------------------------------------------------

    def autoscaler(self) -> None:
        """Keep the count in the range, and now and then choose another one in it."""
        for scaler in self.api.of_kind(AUTOSCALER):
            ref = Ref(DEPLOYMENT, self.key.namespace, scaler["spec"]["scaleTargetRef"]["name"])
            live = self.api.objects.get(ref)
            if live is None or not live["spec"]["replicas"]:
                continue
            least, most = scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]
            count = min(max(live["spec"]["replicas"], least), most)
            if self.rng.random() < 0.05:
                count = self.rng.randint(least, min(most, least + 3))
            self.api.change(ref, {"spec": {"replicas": count}})

    def volumes(self) -> None:
        """Bind claims."""
        for claim in self.api.of_kind(CLAIM):
            self.api.change(_ref(CLAIM, claim), {"status": {"phase": "Bound"}})

    def collect_garbage(self) -> None:
        """Remove what its controller has left behind."""
        uids = {o["metadata"]["uid"] for o in self.api.objects.values()}
        for ref, obj in list(self.api.objects.items()):
            owner = controller_of(obj)
            if owner and owner not in uids:
                self.api.drop(ref)

    def observed(self) -> Observed:
        """The operator's view, were it up to date."""
        chatbots = [o for r, o in self.api.objects.items() if r.name == self.key.name and r.kind.name == "Chatbot"]
        children = {r: o for r, o in self.api.objects.items() if r.kind.name not in ("Chatbot", "Event")}
        return observe(Snapshot(self.key, chatbots[0] if chatbots else None, children, {}))

    def reports(self) -> dict[str, PodReport]:
        """What every pod says of itself, by `Pod.instance`."""
        seen = self.observed()
        said = DownloadStatus(chatbot=self.key.name, list_hash="", state="downloading", completed_bytes=self.fetched)
        downloads = {p.instance: PodReport(download=said) for p in seen.fetching_pods()}
        return downloads | {
            p.instance: PodReport(
                PodStatus(
                    chatbot=self.key.name,
                    phase=p.phase,
                    revision=p.revision,
                    ready=p.ready,
                    settings_hash=self.read.get(p.uid, ""),
                )
            )
            for p in seen.pods
        }


def is_ready(pod: RawObject) -> bool:
    """Whether Services send requests to it."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions) and not _going(pod)


def _number(replica_set: Object) -> int:
    return int(replica_set["metadata"]["annotations"][_NUMBER])


def _going(obj: RawObject) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def last_words(job: RawObject, reason: DownloadReason) -> DownloadResult:
    """What the downloader of a Job says at its end."""
    env = {e["name"]: e["value"] for e in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    models = env["CHATBOT_MODELS"].split(",") if reason == "Downloaded" else []
    found = tuple(DownloadedModel(name=name, digest=f"sha256:{'0' * 64}", size_bytes=1000) for name in models)
    return DownloadResult(list_hash=env["CHATBOT_LIST_HASH"], reason=reason, message="so it ended", models=found)


def _ref(kind: Any, obj: RawObject) -> Ref:
    return Ref(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])


def _owner(obj: RawObject) -> Object:
    metadata = obj["metadata"]
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }
