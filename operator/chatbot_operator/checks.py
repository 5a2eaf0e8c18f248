"""Why a Chatbot is not what was asked for: one small check for each reason, asked in order. Pure.

A check looks at one Context and answers with a Verdict, or with nothing when it has nothing to say. The first verdict
is Ready's reason. A message says what is wrong and what to do next; it never holds a value that may be secret.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from chatbot_operator import names
from chatbot_operator.api import Chatbot, Phase
from chatbot_operator.api.reasons import Reason
from chatbot_operator.kinds import CLAIM, DEPLOYMENT, JOB, Ref
from chatbot_operator.migration import Migration, failed_marker
from chatbot_operator.observe import Observed, Pod, WriteProblem, autoscaler, public_service
from chatbot_operator.revision import revision
from chatbot_operator.settings import Settings


@dataclass(frozen=True)
class Context:
    """All that a check may look at."""

    chatbot: Chatbot
    observed: Observed
    migration: Migration
    settings: Settings
    now: datetime
    built: frozenset[Phase]

    @property
    def namespace(self) -> str:
        return self.chatbot.metadata.namespace

    @property
    def backend_ref(self) -> Ref:
        return Ref(DEPLOYMENT, self.namespace, names.backend(self.chatbot.metadata.name))


@dataclass(frozen=True)
class Verdict:
    """A reason and the sentence that goes with it."""

    reason: Reason
    message: str


Check = Callable[[Context], Verdict | None]


def not_implemented(c: Context) -> Verdict | None:
    """The spec asks for something that this version cannot do yet."""
    spec = c.chatbot.spec
    if spec.phase not in c.built:
        usable = ", ".join(sorted(c.built))
        return Verdict(
            Reason.NOT_IMPLEMENTED,
            f"This version of the operator cannot serve phase {spec.phase} yet; what served before goes on. "
            f"Set spec.phase to one of: {usable}.",
        )
    if spec.expose.host:
        return Verdict(
            Reason.NOT_IMPLEMENTED,
            "This version of the operator makes no HTTPRoute or Ingress yet. Remove spec.expose.host and use "
            "expose.type: LoadBalancer or NodePort.",
        )
    return None


def name_conflict(c: Context) -> Verdict | None:
    """Somebody else's object has the name of one of ours."""
    taken = ", ".join(str(ref) for ref in sorted(c.observed.strangers))
    if not taken:
        return None
    return Verdict(
        Reason.NAME_CONFLICT,
        f"{taken}: exists and does not belong to this Chatbot, so it is left alone. "
        "Rename the Chatbot, or delete that object.",
    )


def _problem(c: Context, matches: Callable[[WriteProblem], bool]) -> tuple[Ref, WriteProblem] | None:
    return next(((ref, p) for ref, p in sorted(c.observed.problems.items()) if matches(p)), None)


def _is_quota(message: str) -> bool:
    return "exceeded quota" in message or "exceed quota" in message


def permission_denied(c: Context) -> Verdict | None:
    """RBAC refuses the operator: its message begins with who may not do what."""
    found = _problem(c, lambda p: p.error == "Forbidden" and " cannot " in p.message and not _is_quota(p.message))
    if found is None:
        return None
    ref, problem = found
    return Verdict(
        Reason.PERMISSION_DENIED,
        f"The operator may not {problem.verb} {problem.resource} ({ref}). Apply the RBAC rules of this release, "
        "for example by upgrading its chart.",
    )


def quota_exceeded(c: Context) -> Verdict | None:
    """A ResourceQuota has no room, for one of our objects or for a pod."""
    found = _problem(c, lambda p: p.error == "Forbidden" and _is_quota(p.message))
    if found is not None:
        return Verdict(Reason.QUOTA_EXCEEDED, f"{found[0]}: {found[1].message}. Raise the quota, or ask for less.")
    live = c.observed.backend
    if live and not live.rolled_out and _is_quota(live.replica_failure):
        return Verdict(
            Reason.QUOTA_EXCEEDED,
            f"{c.backend_ref}: {live.replica_failure}. Raise the quota, or lower resources or replicas.",
        )
    return None


def admission_refused(c: Context) -> Verdict | None:
    """The API server or an admission policy refuses one of our objects, or a pod."""
    found = _problem(c, lambda p: p.error in ("Forbidden", "Invalid") and not _is_quota(p.message))
    if found is not None:
        return Verdict(
            Reason.ADMISSION_REFUSED,
            f"{found[0]}: {found[1].message}. Change the field or the policy that it names.",
        )
    live = c.observed.backend
    if live and not live.rolled_out and live.replica_failure and not _is_quota(live.replica_failure):
        return Verdict(
            Reason.ADMISSION_REFUSED,
            f"{c.backend_ref}: {live.replica_failure}. Change the field or the policy that it names.",
        )
    return None


def access_secret_missing(c: Context) -> Verdict | None:
    """A pod that asks for API keys knows none, so it refuses everyone."""
    access = c.chatbot.spec.access
    if access.mode != "APIKey" or access.keys_secret_ref is None:
        return None
    secret = access.keys_secret_ref.name
    for pod in c.observed.current_pods():
        status = pod.report.status if pod.report else None
        if status and status.keys in KEYS_MESSAGES:
            return Verdict(
                Reason.ACCESS_SECRET_MISSING,
                f"Pod {pod.ref.name} refuses everyone: Secret {secret} {KEYS_MESSAGES[status.keys]}. Each key of its "
                "data is a client, the value its API key; pods follow a change by themselves. For example: "
                f"kubectl create secret generic -n {c.namespace} {secret} --from-literal alice=…",
            )
    return None


KEYS_MESSAGES = {
    "missing": "does not exist or holds nothing",
    "empty": "holds no usable API key (1 to 4096 bytes)",
    "unreadable": "cannot be read",
}


def model_not_there(c: Context) -> Verdict | None:
    """The weights are not where they must be."""
    model = c.migration.model
    if model.arrived:
        return None
    return Verdict(model.reason, MODEL_MESSAGES[model.reason])


MODEL_MESSAGES = {
    Reason.QUEUED: "The download waits for its pod to start.",
    Reason.DOWNLOADING: "The model is being downloaded; what served before goes on.",
    Reason.DOWNLOAD_FAILED: "The download failed and its tries are used up. Read the log of its pod, then set the "
    f"annotation {names.RETRY} to a new value to try again.",
    Reason.CLAIM_PENDING: "The claim for the model is not there yet.",
    Reason.DOWNLOADED: "The weights lie complete in the claim.",
    Reason.MOUNTED: "The weights are read from local.source.claim.",
    Reason.BAKED: "The weights are in the engine's image.",
    Reason.NOT_NEEDED: "This phase needs no weights.",
}


def _sick(c: Context, matches: Callable[[Pod], bool]) -> Pod | None:
    return next((p for p in c.observed.current_pods() if not p.ready and matches(p)), None)


_PULL_FAILURES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)


def image_pull_failed(c: Context) -> Verdict | None:
    """A node cannot get an image."""
    pod = _sick(c, lambda p: p.waiting in _PULL_FAILURES)
    if pod is None:
        return None
    return Verdict(
        Reason.IMAGE_PULL_FAILED,
        f"Pod {pod.ref.name}: {pod.waiting}: {pod.waiting_message or 'no details'}. Check the image's name and "
        "registry, and spec.pods.imagePullSecrets.",
    )


def unschedulable(c: Context) -> Verdict | None:
    """No node takes a pod."""
    pod = _sick(c, lambda p: bool(p.unschedulable))
    if pod is None:
        return None
    return Verdict(
        Reason.UNSCHEDULABLE,
        f"Pod {pod.ref.name}: {pod.unschedulable} Lower the phase's resources, relax spec.pods.nodeSelector and "
        "tolerations, or add a node.",
    )


_VOLUME_TROUBLE = ("FailedMount", "FailedAttachVolume", "FailedMapVolume", "ProvisioningFailed")


def volume_not_attached(c: Context) -> Verdict | None:
    """A volume cannot be brought to the pod's node; only Events say so."""
    for pod in c.observed.current_pods():
        complaint = c.observed.complaints.get(pod.uid, "")
        if not pod.ready and complaint.startswith(_VOLUME_TROUBLE):
            return Verdict(
                Reason.VOLUME_NOT_ATTACHED,
                f"Pod {pod.ref.name}: {complaint}. See: kubectl describe pod -n {c.namespace} {pod.ref.name}",
            )
    return None


def out_of_memory(c: Context) -> Verdict | None:
    """The kernel killed a container at its memory limit."""
    pod = _sick(c, lambda p: p.last_exit_reason == "OOMKilled")
    if pod is None:
        return None
    phase = c.chatbot.spec.phase
    return Verdict(
        Reason.OUT_OF_MEMORY,
        f"Pod {pod.ref.name}: a container was killed at its memory limit ({pod.restarts} restarts). "
        f"Raise spec.{phase}.resources.requests.memory.",
    )


def crash_looping(c: Context) -> Verdict | None:
    """A container ends again and again, or cannot be made."""
    pod = _sick(c, lambda p: p.last_exit is not None or p.waiting.startswith(("CreateContainer", "RunContainer")))
    if pod is None:
        return None
    said = (pod.last_exit_message or pod.waiting_message or pod.last_exit_reason).strip()
    what = f"exited with {pod.last_exit}" if pod.last_exit is not None else pod.waiting
    tail = said[-500:] if said else "it said nothing"
    return Verdict(
        Reason.CRASH_LOOPING,
        f"Pod {pod.ref.name}: a container {what} ({pod.restarts} restarts): {tail}. "
        f"See: kubectl logs -n {c.namespace} {pod.ref.name} --previous",
    )


def verification_failed(c: Context) -> Verdict | None:
    """A pod's provider did not answer the test question."""
    for pod in c.observed.current_pods():
        status = pod.report.status if pod.report else None
        if status and not pod.ready and status.verification.reason and not status.verification.verified:
            return Verdict(
                Reason.VERIFICATION_FAILED,
                f"Pod {pod.ref.name}: the test question was not answered: {status.verification.reason}: "
                f"{status.verification.message} What served before goes on.",
            )
    return None


def runtime_incompatible(c: Context) -> Verdict | None:
    """A pod speaks another version of the contract."""
    pod = next((p for p in c.observed.current_pods() if p.report and p.report.incompatible), None)
    if pod is None or pod.report is None:
        return None
    return Verdict(
        Reason.RUNTIME_INCOMPATIBLE,
        f"Pod {pod.ref.name}: {pod.report.problem}. Use the runtime image of this operator's release.",
    )


def settings_pending(c: Context) -> Verdict | None:
    """A ready pod has not read the current settings yet, or could not be asked.

    A pod that was never asked, as after a restart of the operator, counts as it did when the status was written.
    """
    if (c.observed.backend is None or not c.observed.backend.rolled_out) or not c.observed.settings_hash:
        return None
    was_ready = _was_ready(c.chatbot)
    for pod in c.observed.ready_pods():
        if pod.report is None:
            if was_ready:
                continue
            return Verdict(Reason.SETTINGS_PENDING, f"Pod {pod.ref.name} has not been asked for its settings yet.")
        status = pod.report.status
        if status is None:
            return Verdict(
                Reason.SETTINGS_PENDING,
                f"Pod {pod.ref.name}: {pod.report.problem}. Check that network policies let the operator reach "
                "port 8001 of the backend's pods.",
            )
        if status.settings_error:
            return Verdict(Reason.SETTINGS_PENDING, f"Pod {pod.ref.name}: {status.settings_error}")
        if status.settings_hash != c.observed.settings_hash:
            return Verdict(Reason.SETTINGS_PENDING, f"Pod {pod.ref.name} has not read the new settings yet.")
    return None


def _was_ready(chatbot: Chatbot) -> bool:
    ready = chatbot.status.condition("Ready")
    return (
        ready is not None
        and ready.status == "True"
        and chatbot.status.observed_generation == chatbot.metadata.generation
    )


def rolling_out(c: Context) -> Verdict | None:
    """New pods are on their way and nothing is known to be wrong with them, or a write has not succeeded yet."""
    live = c.observed.backend
    unwritten = _problem(c, lambda p: p.error not in ("Forbidden", "Invalid"))
    if unwritten is not None:
        return Verdict(Reason.ROLLING_OUT, f"{unwritten[0]}: {unwritten[1].message}. It is tried again.")
    if held := _held(c):
        return Verdict(Reason.ROLLING_OUT, held)
    if c.chatbot.spec.suspend or stepped_back(c) or stalled(c):
        return None
    if live is None:
        return Verdict(Reason.ROLLING_OUT, "The backend is being created.")
    target = revision(c.chatbot.spec)
    if live.rolled_out and (live.revision == target or c.migration.template != "target"):
        return None
    return Verdict(Reason.ROLLING_OUT, "New pods are being started; see status.readyReplicas.")


def _held(c: Context) -> str:
    """A child that somebody's finalizer keeps from going; a claim or a Job may take its time."""
    for ref, obj in c.observed.children.items():
        if "deletionTimestamp" in obj["metadata"] and ref.kind not in (CLAIM, JOB):
            finalizers = ", ".join(obj["metadata"].get("finalizers", ())) or "the API server"
            return (
                f"{ref} is being deleted and is held by {finalizers}. It is made again once it is gone; "
                "if nothing else will remove the finalizer, do it by hand."
            )
    return ""


def stepped_back(c: Context) -> Verdict | None:
    """The wanted template was tried, got stuck half-way and was taken back."""
    live = c.observed.backend
    stepping = c.migration.template == "previous"
    taken_back = live is not None and live.failed_revision == failed_marker(c.chatbot)
    if not stepping and not (taken_back and live and live.revision != revision(c.chatbot.spec)):
        return None
    return Verdict(
        Reason.STEPPED_BACK,
        "Some pods of the new version could not be placed beside the old ones, so the old version serves again. "
        "Use spec.backend.rollout: Replace, or make room, then set the annotation "
        f"{names.RETRY} to a new value.",
    )


def stalled(c: Context) -> Verdict | None:
    """The Deployment has made no progress within its deadline."""
    live = c.observed.backend
    if live is None or live.rolled_out or not live.deadline_exceeded:
        return None
    return Verdict(
        Reason.STALLED,
        f"{c.backend_ref} has made no progress for {c.settings.progress_deadline_seconds} s; what served before goes "
        f"on. See: kubectl describe deployment -n {c.namespace} {c.backend_ref.name}",
    )


def suspended(c: Context) -> Verdict | None:
    """Somebody asked for no pods."""
    if not c.chatbot.spec.suspend:
        return None
    return Verdict(Reason.SUSPENDED, "spec.suspend is true: no pods run. Set it to false to go on.")


def backend_not_ready(c: Context) -> Verdict | None:
    """No pod answers, or fewer than are asked for, and no other reason is known."""
    ready, live = c.observed.ready_pods(), c.observed.backend
    if ready and live and live.rolled_out:
        return None
    return Verdict(
        Reason.BACKEND_NOT_READY,
        f"{len(ready)} backend pods are ready. See: kubectl get pods -n {c.namespace} "
        f"-l {names.CHATBOT_LABEL}={c.chatbot.metadata.name}",
    )


def address_pending(c: Context) -> Verdict | None:
    """The load balancer has given no address yet."""
    service = public_service(c.observed, c.chatbot.metadata.name)
    if c.chatbot.spec.expose.type != "LoadBalancer" or balancer_address(service):
        return None
    return Verdict(
        Reason.ADDRESS_PENDING,
        f"Service {c.chatbot.metadata.name} of type LoadBalancer has no address yet. If that lasts, the cluster has "
        "no load balancer: use expose.type: NodePort.",
    )


def balancer_address(service: object) -> str:
    """Host name or IP address that a load balancer gave to a Service; empty while there is none."""
    status = service.get("status", {}) if isinstance(service, dict) else {}
    ingress = status.get("loadBalancer", {}).get("ingress") or [{}]
    return str(ingress[0].get("hostname") or ingress[0].get("ip") or "")


CHECKS: tuple[Check, ...] = (
    not_implemented,
    name_conflict,
    permission_denied,
    quota_exceeded,
    admission_refused,
    access_secret_missing,
    model_not_there,
    image_pull_failed,
    unschedulable,
    volume_not_attached,
    out_of_memory,
    crash_looping,
    verification_failed,
    runtime_incompatible,
    settings_pending,
    rolling_out,
    stepped_back,
    stalled,
    suspended,
    backend_not_ready,
    address_pending,
)
"""In the order in which they are asked: what a person must mend comes before what only takes time."""


def verdicts(context: Context) -> Iterator[Verdict]:
    """Every verdict, the weightiest first."""
    return (verdict for check in CHECKS if (verdict := check(context)) is not None)


SCALING_GRACE = timedelta(seconds=120)
"""A metrics API knows a new pod only after some scrapes; until then an autoscaler's complaint means nothing."""


@dataclass(frozen=True)
class ScalingTrouble:
    """What keeps the autoscaler from scaling, in its own words, and whether it has lasted long enough to be told."""

    message: str
    told_in: timedelta


def scaling_trouble(observed: Observed, now: datetime) -> ScalingTrouble | None:
    """The autoscaler's complaint, if it has one."""
    scaler = autoscaler(observed)
    conditions = scaler.get("status", {}).get("conditions", ()) if scaler else ()
    for condition in conditions:
        if condition["type"] != "ScalingActive" or condition["status"] != "False":
            continue
        if condition.get("reason") == "ScalingDisabled":
            continue
        since = datetime.fromisoformat(condition["lastTransitionTime"])
        return ScalingTrouble(str(condition.get("message", "")), max(timedelta(), since + SCALING_GRACE - now))
    return None
