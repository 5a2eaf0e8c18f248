"""Where the weights are, and what keeps them from being where they must be. Pure.

The downloader knows most of it; of a claim that gets no volume only its Events say more.
"""

from decimal import Decimal

from chatbot_operator import names
from chatbot_operator.api.reasons import Reason
from chatbot_operator.checks.base import Context, Verdict
from chatbot_operator.migration import engine_memory, needed_memory
from chatbot_operator.observed import Claim, Pod
from chatbot_operator.units import GIBIBYTE

_THERE = frozenset({Reason.NOT_NEEDED, Reason.DOWNLOADED, Reason.MOUNTED, Reason.BAKED})
_NO_CLASS = "storageclass"
_MESSAGES = {
    Reason.DOWNLOADED: "The weights lie complete in the claim.",
    Reason.MOUNTED: "The weights are read from local.source.claim.",
    Reason.BAKED: "The weights are in the engine's image.",
    Reason.NOT_NEEDED: "This phase needs no weights.",
    Reason.QUEUED: "The download waits for its pod to start.",
    Reason.DOWNLOADING: "The model is being downloaded; status.download shows how far it is.",
}
_REMEDIES = {
    Reason.MODEL_NOT_FOUND: "Correct local.models.",
    Reason.TOKEN_REJECTED: "Put a valid token into the Secret of local.tokenSecretRef; it is read again by itself.",
    Reason.ACCESS_DENIED: "Accept the model's licence, or name a Secret with a token that has access in "
    "local.tokenSecretRef.",
    Reason.STORAGE_FULL: "Raise local.storage.size, if the storage class can grow volumes, or use another class.",
    Reason.SOURCE_UNREACHABLE: "It is tried again by itself. Check spec.network, and that pods of the cluster may "
    "reach the address.",
    Reason.DIGEST_MISMATCH: "It is tried again by itself. If that lasts, a proxy or the registry alters the files.",
    Reason.INTERRUPTED: "It goes on by itself where it was.",
}


def model_not_there(c: Context) -> Verdict | None:
    """The weights are not where they must be."""
    return None if c.migration.model.arrived else model_state(c)


def model_state(c: Context) -> Verdict:
    """How it is with the weights, whether or not somebody waits for them."""
    model = c.migration.model
    if model.reason in _THERE or model.reason == Reason.DOWNLOADING:
        return Verdict(model.reason, _MESSAGES[model.reason])
    if model.claim is None:
        return Verdict(Reason.CLAIM_PENDING, "The claim of the weights is being made.")
    if model.reason == Reason.QUEUED:
        return _queued(c, model.claim)
    return Verdict(model.reason, _ended(c, model.reason))


def _queued(c: Context, claim: Claim) -> Verdict:
    """Why the download's pod does not start."""
    complaint = c.observed.complaints.get(claim.uid, "")
    storage = c.chatbot.spec.local.storage
    look = f"See: kubectl describe pvc -n {c.namespace} {claim.ref.name}"
    if not claim.bound and not claim.has_class:
        message = "local.storage.storageClassName is not set and the cluster has no default StorageClass"
        return Verdict(Reason.NO_STORAGE_CLASS, f"{message}. Name one of `kubectl get storageclass`.")
    job = c.migration.model.job
    pod = next((p for p in reversed(job.pods) if not p.ended), None) if job else None
    said = f"{complaint} {pod.unschedulable if pod else ''}"
    if not claim.bound and _NO_CLASS in said and "not found" in said:
        message = f"local.storage.storageClassName: there is no StorageClass {storage.storage_class_name}"
        return Verdict(Reason.NO_STORAGE_CLASS, f"{message}. Name one of `kubectl get storageclass`.")
    if not claim.bound and complaint:
        return Verdict(Reason.CLAIM_PENDING, f"Claim {claim.ref.name}: {complaint}. {look}")
    if pod is not None and (trouble := _pod_trouble(c, pod)):
        return trouble
    return Verdict(Reason.QUEUED, _MESSAGES[Reason.QUEUED])


def _pod_trouble(c: Context, pod: Pod) -> Verdict | None:
    complaint = c.observed.complaints.get(pod.uid, "")
    if "Multi-Attach" in complaint:
        return Verdict(Reason.CLAIM_IN_USE, f"Pod {pod.ref.name}: {complaint}. Use accessMode ReadWriteMany, or wait.")
    if "Image" in pod.waiting:
        message = f"Pod {pod.ref.name}: {pod.waiting}: {pod.waiting_message or 'no details'}."
        return Verdict(Reason.IMAGE_PULL_FAILED, f"{message} Check local.image, spec.pods.imagePullSecrets.")
    if pod.unschedulable:
        message = f"Pod {pod.ref.name} of the download: {pod.unschedulable}"
        return Verdict(Reason.UNSCHEDULABLE, f"{message} Lower local.resources, or add a node.")
    return None


def _ended(c: Context, reason: Reason) -> str:
    """How a download ended, or what it waits for, in its own words."""
    job = c.migration.model.job
    assert job is not None  # noqa: S101 - only a Job has such a reason
    running = next((p for p in reversed(job.pods) if not p.ended), None)
    progress = running.report.download if running and running.report else None
    if job.reason == "DeadlineExceeded":
        said = "it took longer than local.source.download.activeDeadlineSeconds"
    elif progress is not None and progress.message:
        said = progress.message
    else:
        said = job.result.message if job.result else "its pod ended without a word"
    remedy = _REMEDIES.get(reason, f"See: kubectl logs -n {c.namespace} job/{job.ref.name}.")
    if job.state == "failed" and reason in (Reason.DOWNLOAD_FAILED, Reason.MODEL_NOT_FOUND):
        remedy += f" To try again: kubectl annotate chatbot -n {c.namespace} {c.chatbot.metadata.name} --overwrite "
        remedy += f"{names.RETRY}=$(date +%s)"
    return f"The download: {said.rstrip('.')}. {remedy}"


def insufficient_memory(c: Context) -> Verdict | None:
    """The weights are known not to go into the engine's memory: the kernel would kill it again and again."""
    if c.migration.fits:
        return None
    local = c.chatbot.spec.local
    needed, given = needed_memory(local, c.migration.model), engine_memory(local)
    return Verdict(
        Reason.INSUFFICIENT_MEMORY,
        f"The weights and a context of {local.context_length} tokens need {_gib(needed)} of memory, and the engine "
        f"has {_gib(given)}. What served before goes on. Raise local.resources.requests.memory (128Mi of it are the "
        "runtime's), lower local.contextLength, or choose a smaller model.",
    )


def _gib(size: Decimal) -> str:
    if size < GIBIBYTE:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / GIBIBYTE:.1f} GiB"


def claim_missing(c: Context) -> Verdict | None:
    """The claim that the spec names is not there: the scheduler says so."""
    source = c.chatbot.spec.local.source
    name = source.claim.name if source.claim else ""
    for pod in c.observed.current_pods():
        if name and not pod.ready and f'persistentvolumeclaim "{name}" not found' in pod.unschedulable:
            return Verdict(
                Reason.CLAIM_MISSING,
                f"local.source.claim.name: there is no claim {name} in namespace {c.namespace}. Make it, or correct "
                f"the name; there are: kubectl get pvc -n {c.namespace}",
            )
    return None


def claim_in_use(c: Context) -> Verdict | None:
    """A volume of one node is wanted on another."""
    for pod in c.observed.current_pods():
        complaint = c.observed.complaints.get(pod.uid, "")
        if not pod.ready and "Multi-Attach" in complaint:
            return Verdict(
                Reason.CLAIM_IN_USE,
                f"Pod {pod.ref.name}: {complaint}. Use a claim that many nodes can read, or free it on the other node.",
            )
    return None
