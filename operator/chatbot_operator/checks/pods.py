"""What is wrong with a pod: as its node, its containers and its own /status say. Pure."""

from collections.abc import Callable

from chatbot_operator.api.reasons import Reason
from chatbot_operator.checks.base import Context, Verdict
from chatbot_operator.observed import Pod


def _sick(c: Context, matches: Callable[[Pod], bool]) -> Pod | None:
    return next((p for p in c.new_pods() if not p.ready and matches(p)), None)


_PULL_FAILURES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)


_OTHER_PROCESSOR = ("exec format error", "no match for platform")
"""How Linux, and containerd, say that an image is built for another processor than the node's."""


def _remedy(said: str, usual: str) -> str:
    """What mends it."""
    if any(words in said for words in _OTHER_PROCESSOR):
        return (
            "The image is probably built for another processor than this node's: take one that is built for it, or "
            "choose nodes with spec.pods.nodeSelector, as kubernetes.io/arch: amd64."
        )
    return usual


def image_pull_failed(c: Context) -> Verdict | None:
    """A node cannot get an image."""
    pod = _sick(c, lambda p: p.waiting in _PULL_FAILURES)
    if pod is None:
        return None
    said = pod.waiting_message or "no details"
    remedy = _remedy(said, "Check the image's name and registry, and spec.pods.imagePullSecrets.")
    return Verdict(Reason.IMAGE_PULL_FAILED, f"Pod {pod.ref.name}: {pod.waiting}: {said}. {remedy}")


def unschedulable(c: Context) -> Verdict | None:
    """No node takes a pod."""
    pod = _sick(c, lambda p: bool(p.unschedulable))
    if pod is None:
        return None
    whose = "spec.web.resources" if pod in c.observed.web.pods else "the phase's resources"
    return Verdict(
        Reason.UNSCHEDULABLE,
        f"Pod {pod.ref.name}: {pod.unschedulable} Lower {whose}, relax spec.pods.nodeSelector and "
        "tolerations, or add a node.",
    )


_VOLUME_TROUBLE = ("FailedMount", "FailedAttachVolume", "FailedMapVolume", "ProvisioningFailed")


def volume_not_attached(c: Context) -> Verdict | None:
    """A volume cannot be brought to the pod's node; only Events say so."""
    for pod in c.new_pods():
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
    block = "web" if pod in c.observed.web.pods else c.chatbot.spec.phase
    return Verdict(
        Reason.OUT_OF_MEMORY,
        f"Pod {pod.ref.name}: a container was killed at its memory limit ({pod.restarts} restarts). "
        f"Raise spec.{block}.resources.requests.memory.",
    )


def crash_looping(c: Context) -> Verdict | None:
    """A container ends again and again, or cannot be made."""
    pod = _sick(c, lambda p: p.last_exit is not None or p.waiting.startswith(("CreateContainer", "RunContainer")))
    if pod is None:
        return None
    said = (pod.last_exit_message or pod.waiting_message or pod.last_exit_reason).strip()
    what = f"exited with {pod.last_exit}" if pod.last_exit is not None else pod.waiting
    tail = said[-500:] if said else "it said nothing"
    remedy = _remedy(tail, f"See: kubectl logs -n {c.namespace} {pod.ref.name} --previous")
    return Verdict(
        Reason.CRASH_LOOPING, f"Pod {pod.ref.name}: a container {what} ({pod.restarts} restarts): {tail}. {remedy}"
    )


def runtime_incompatible(c: Context) -> Verdict | None:
    """A pod speaks another version of the contract."""
    pod = next((p for p in c.observed.current_pods() if p.report and p.report.incompatible), None)
    if pod is None or pod.report is None:
        return None
    return Verdict(
        Reason.RUNTIME_INCOMPATIBLE,
        f"Pod {pod.ref.name}: {pod.report.problem}. Use the runtime image of this operator's release.",
    )
