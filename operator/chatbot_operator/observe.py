"""Raw objects -> Observed: what is, in the words of the decisions that follow. Pure; it decides nothing."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from chatbot_operator import names
from chatbot_operator.drift import applied_hash
from chatbot_operator.kinds import (
    AUTOSCALER,
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    HTTP_ROUTE,
    INGRESS,
    JOB,
    POD,
    REPLICA_SET,
    SERVICE,
    Kind,
    RawObject,
    Ref,
)
from chatbot_operator.observed import Backend, Claim, Job, Observed, Pod, Rollout, Template, Workload, WriteProblem
from chatbot_operator.reports import PodReport
from chatbot_operator.store import Snapshot
from chatbot_runtime.contract import DownloadResult, RuntimeSettings, settings_hash

_TEMPLATE_HASH = "pod-template-hash"
_DEPLOYMENT_REVISION = "deployment.kubernetes.io/revision"


def observe(
    snapshot: Snapshot,
    *,
    reports: Mapping[str, PodReport] | None = None,
    problems: Mapping[Ref, WriteProblem] | None = None,
    complaints: Mapping[str, str] | None = None,
    absent: Collection[Kind] = (),
) -> Observed:
    """What the snapshot shows. `reports` are by `Pod.instance`."""
    uid = snapshot.chatbot["metadata"]["uid"] if snapshot.chatbot else ""
    name = snapshot.key.name
    ours, strangers = _sort_out(snapshot, uid)
    by_kind: dict[str, list[RawObject]] = {}
    for obj in ours.values():
        by_kind.setdefault(obj["kind"], []).append(obj)
    deployments = {o["metadata"]["name"]: o for o in by_kind.get(DEPLOYMENT.name, ())}
    live, page = deployments.get(names.backend(name)), deployments.get(names.web(name))
    config = ours.get(Ref(CONFIG_MAP, snapshot.key.namespace, names.backend(name)), {})
    settings = config.get("data", {}).get(names.SETTINGS_KEY, "")
    told = _settings(settings)
    return Observed(
        children={r: o for r, o in ours.items() if r.kind not in (REPLICA_SET, POD)},
        strangers=strangers,
        backend=_backend(live) if live else None,
        templates=tuple(map(_template, _replica_sets(snapshot, live))),
        pods=_pods_of(snapshot, live, reports or {}),
        web=Workload(
            live=Rollout(**_rollout(page)) if page else None,
            templates=tuple(map(_template, _replica_sets(snapshot, page))),
            pods=_pods_of(snapshot, page, {}),
        ),
        claims=tuple(_claim(o) for o in by_kind.get(CLAIM.name, ())),
        jobs=tuple(_job(o, _download_pods(snapshot, o, reports or {})) for o in by_kind.get(JOB.name, ())),
        downloaders=tuple(sorted(filter(None, map(_downloader, snapshot.children.values())))),
        settings_hash=settings_hash(settings),
        shown_download=told.download,
        verified=told.verified_revisions,
        problems=problems or {},
        complaints=complaints or {},
        absent=frozenset(absent),
    )


def backend_pods(snapshot: Snapshot, reports: Mapping[str, PodReport] | None = None) -> tuple[Pod, ...]:
    """`Observed.pods` alone, for who asks often."""
    uid = snapshot.chatbot["metadata"]["uid"] if snapshot.chatbot else ""
    live = snapshot.children.get(Ref(DEPLOYMENT, snapshot.key.namespace, names.backend(snapshot.key.name)))
    ours = live if live is not None and belongs_to(live, uid, snapshot.key.name) else None
    return _pods_of(snapshot, ours, reports or {})


def downloader_pods(snapshot: Snapshot) -> tuple[Pod, ...]:
    """The pods of downloads that have not ended, for who asks often."""
    return tuple(_pod(o, {}) for o in snapshot.children.values() if _downloader(o))


def _download_pods(snapshot: Snapshot, job: RawObject, reports: Mapping[str, PodReport]) -> tuple[Pod, ...]:
    uid = job["metadata"]["uid"]
    pods = [o for r, o in snapshot.children.items() if r.kind == POD and _controller(o) == uid]
    pods.sort(key=lambda o: o["metadata"].get("creationTimestamp", ""))
    return tuple(_pod(o, reports, main=names.DOWNLOAD) for o in pods)


def _pods_of(snapshot: Snapshot, deployment: RawObject | None, reports: Mapping[str, PodReport]) -> tuple[Pod, ...]:
    sets = {o["metadata"]["uid"] for o in _replica_sets(snapshot, deployment)}
    pods = (o for r, o in snapshot.children.items() if r.kind == POD and _controller(o) in sets)
    return tuple(sorted((_pod(p, reports) for p in pods), key=lambda p: p.ref))


def _replica_sets(snapshot: Snapshot, deployment: RawObject | None) -> list[RawObject]:
    uid = deployment["metadata"]["uid"] if deployment else None
    return [o for r, o in snapshot.children.items() if r.kind == REPLICA_SET and uid and _controller(o) == uid]


def _settings(text: str) -> RuntimeSettings:
    """Somebody may have put anything into the ConfigMap; then nothing counts as verified."""
    try:
        return RuntimeSettings.model_validate_json(text)
    except ValueError:
        return RuntimeSettings()


def _sort_out(snapshot: Snapshot, uid: str) -> tuple[dict[Ref, RawObject], dict[Ref, RawObject]]:
    ours: dict[Ref, RawObject] = {}
    strangers = dict(snapshot.strangers)
    for ref, obj in snapshot.children.items():
        if ref.kind in (REPLICA_SET, POD) or belongs_to(obj, uid, snapshot.key.name):
            ours[ref] = obj
        else:
            strangers[ref] = obj
    return ours, strangers


def belongs_to(obj: RawObject, uid: str, chatbot: str) -> bool:
    """Whether we may write this object: this very Chatbot controls it, or it is a claim without a controller that
    carries the Chatbot's name, as a retained one does."""
    controller = _controller(obj)
    if obj["kind"] == CLAIM.name and not controller:
        return str(obj["metadata"].get("labels", {}).get(names.CHATBOT_LABEL)) == chatbot
    return bool(uid) and controller == uid


def _controller(obj: RawObject) -> str:
    owners = obj["metadata"].get("ownerReferences", ())
    return next((str(o["uid"]) for o in owners if o.get("controller")), "")


def _annotation(obj: RawObject, key: str) -> str:
    return str(obj["metadata"].get("annotations", {}).get(key, ""))


def _condition(obj: RawObject, type_: str) -> Mapping[str, Any]:
    found = (c for c in obj.get("status", {}).get("conditions", ()) if c["type"] == type_)
    return next(found, {})


def _backend(obj: RawObject) -> Backend:
    template = obj["spec"]["template"]["metadata"]
    labels = template.get("labels", {})
    return Backend(
        **_rollout(obj),
        phase=labels.get(names.PHASE_LABEL, ""),
        revision=labels.get(names.REVISION_LABEL, ""),
        list_hash=template.get("annotations", {}).get(names.LIST_HASH, ""),
        failed_revision=_annotation(obj, names.FAILED_REVISION),
    )


def _rollout(obj: RawObject) -> dict[str, Any]:
    """The fields of a Rollout."""
    status, spec = obj.get("status", {}), obj["spec"]
    progressing, failure = _condition(obj, "Progressing"), _condition(obj, "ReplicaFailure")
    return {
        "generation_seen": status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 0),
        "replicas": spec.get("replicas", 1),
        "total": status.get("replicas", 0),
        "updated": status.get("updatedReplicas", 0),
        "ready": status.get("readyReplicas", 0),
        "available": status.get("availableReplicas", 0),
        "deadline_exceeded": progressing.get("reason") == "ProgressDeadlineExceeded",
        "replica_failure": failure.get("message", "") if failure.get("status") == "True" else "",
        "applied_hash": applied_hash(obj),
        "template_inputs": _annotation(obj, names.TEMPLATE_INPUTS),
        "number": _number(obj),
        "paused": bool(spec.get("paused")),
        "deleting": "deletionTimestamp" in obj["metadata"],
    }


def _template(obj: RawObject) -> Template:
    template, status = obj["spec"]["template"], obj.get("status", {})
    counted = status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)
    labels = template["metadata"].get("labels", {})
    return Template(
        hash=labels.get(_TEMPLATE_HASH, ""),
        phase=labels.get(names.PHASE_LABEL, ""),
        revision=labels.get(names.REVISION_LABEL, ""),
        number=_number(obj),
        pods=status.get("replicas", 0),
        shrinking=not counted or status.get("replicas", 0) > obj["spec"].get("replicas", 1),
        raw=template,
    )


def _number(obj: RawObject) -> int:
    number = _annotation(obj, _DEPLOYMENT_REVISION)
    return int(number) if number.isdigit() else 0


def template_as_applied(template: Mapping[str, Any]) -> dict[str, Any]:
    """A pod template as it was applied: without the label that its ReplicaSet adds."""
    metadata = template["metadata"]
    labels = {k: v for k, v in metadata.get("labels", {}).items() if k != _TEMPLATE_HASH}
    kept = {k: v for k, v in metadata.items() if k != "creationTimestamp"}
    return {"metadata": {**kept, "labels": labels}, "spec": template["spec"]}


def _pod(obj: RawObject, reports: Mapping[str, PodReport], main: str = "") -> Pod:
    """`main`: the container whose end counts more than that of another."""
    metadata, status = obj["metadata"], obj.get("status", {})
    labels = metadata.get("labels", {})
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    waiting: Mapping[str, Any] = next((c["state"]["waiting"] for c in containers if _sick_wait(c)), {})
    ends = [(c.get("name") != main, e) for c in containers if (e := _ended(c))]
    ended: Mapping[str, Any] = min(ends, key=lambda end: end[0], default=(False, {}))[1]
    restarts = sum(c.get("restartCount", 0) for c in containers)
    scheduled = _condition(obj, "PodScheduled")
    return Pod(
        ref=Ref(POD, metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        ip=status.get("podIP", ""),
        phase=labels.get(names.PHASE_LABEL, ""),
        revision=labels.get(names.REVISION_LABEL, ""),
        template=labels.get(_TEMPLATE_HASH, ""),
        ready=_condition(obj, "Ready").get("status") == "True",
        deleting="deletionTimestamp" in metadata,
        restarts=restarts,
        waiting=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        last_exit=ended.get("exitCode"),
        last_exit_reason=ended.get("reason", ""),
        last_exit_message=ended.get("message", ""),
        ended=status.get("phase") in ("Succeeded", "Failed"),
        unschedulable=scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else "",
        nudge=_annotation(obj, names.SETTINGS_NUDGE),
        report=reports.get(f"{metadata['uid']}/{restarts}"),
    )


def _sick_wait(container: Mapping[str, Any]) -> bool:
    waiting = container.get("state", {}).get("waiting", {})
    return bool(waiting) and waiting.get("reason") not in ("ContainerCreating", "PodInitializing", None)


def _ended(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the container ended last, unless that was an init container that is simply done."""
    state: Mapping[str, Any] = container.get("state", {}).get("terminated") or {}
    last: Mapping[str, Any] = container.get("lastState", {}).get("terminated") or {}
    return last if not state or (state.get("exitCode") == 0 and last) else state


def _downloader(obj: RawObject) -> str:
    if obj["kind"] != POD.name or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return ""
    return str(obj["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name", ""))


def _claim(obj: RawObject) -> Claim:
    metadata = obj["metadata"]
    return Claim(
        ref=Ref(CLAIM, metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        bound=obj.get("status", {}).get("phase") == "Bound",
        size=obj["spec"]["resources"]["requests"]["storage"],
        capacity=obj.get("status", {}).get("capacity", {}).get("storage", ""),
        has_class=bool(obj["spec"].get("storageClassName")),
        deleting="deletionTimestamp" in metadata,
        annotations=metadata.get("annotations", {}),
    )


def _job(obj: RawObject, pods: tuple[Pod, ...]) -> Job:
    metadata = obj["metadata"]
    failed = _condition(obj, "Failed")
    complete = _condition(obj, "Complete")
    done = complete.get("status") == "True"
    return Job(
        ref=Ref(JOB, metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        claim_uid=_annotation(obj, names.CLAIM_UID),
        list_hash=_annotation(obj, names.LIST_HASH),
        state="complete" if done else "failed" if failed.get("status") == "True" else "running",
        reason=failed.get("reason", ""),
        ended_at=_time((complete if done else failed).get("lastTransitionTime", "")),
        applied_hash=applied_hash(obj),
        retry=_annotation(obj, names.RETRY),
        capacity=_annotation(obj, names.CAPACITY),
        kept_lists=tuple(filter(None, _annotation(obj, names.KEPT_LISTS).split(","))),
        pods=pods,
        result=next((r for p in reversed(pods) if p.ended and (r := _last_words(p))), None),
    )


def _last_words(pod: Pod) -> DownloadResult | None:
    """What a downloader said at its end. One that was killed said nothing; others may have said anything."""
    try:
        return DownloadResult.model_validate_json(pod.last_exit_message)
    except ValueError:
        return None


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def public_service(observed: Observed, chatbot: str) -> RawObject | None:
    """The live public Service."""
    return _named(observed, SERVICE, chatbot)


def route(observed: Observed, chatbot: str) -> RawObject | None:
    """The live HTTPRoute or Ingress."""
    return _named(observed, HTTP_ROUTE, chatbot) or _named(observed, INGRESS, chatbot)


def autoscaler(observed: Observed, name: str) -> RawObject | None:
    """The live autoscaler of a Deployment."""
    return _named(observed, AUTOSCALER, name)


def _named(observed: Observed, kind: Kind, name: str) -> RawObject | None:
    return next((o for r, o in observed.children.items() if r.kind == kind and r.name == name), None)


def nudged_at(pod: Pod) -> tuple[str, datetime | None]:
    """The settings that the pod was last told of, and when."""
    text, _, when = pod.nudge.partition("@")
    try:
        return text, datetime.fromisoformat(when) if when else None
    except ValueError:
        return text, None
