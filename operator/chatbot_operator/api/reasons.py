"""The one closed list of condition types, their reasons and event reasons, each with its meaning and remedy.

The checks take names from here and docs/reference/reasons.md is generated from here; a new reason is added here first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self


class ConditionType(StrEnum):
    """The conditions of a Chatbot."""

    AVAILABLE = "Available"
    READY = "Ready"
    PROGRESSING = "Progressing"
    MODEL_READY = "ModelReady"
    EXPOSED = "Exposed"
    FALLBACK_ACTIVE = "FallbackActive"


class Reason(StrEnum):
    """Why a condition holds or not. `meaning` says what is the case, `remedy` what a person does next."""

    meaning: str
    remedy: str

    def __new__(cls, name: str, meaning: str, remedy: str) -> Self:
        reason = str.__new__(cls, name)
        reason._value_ = name
        reason.meaning = meaning
        reason.remedy = remedy
        return reason

    SERVING = ("Serving", "What was asked for answers.", "Nothing.")
    SERVING_PREVIOUS = (
        "ServingPrevious",
        "The previous phase or version answers while the new one is not ready.",
        "Wait; if it lasts, read the reason of Ready.",
    )
    SERVING_FALLBACK = (
        "ServingFallback",
        "The fallback answers because the model cannot.",
        "Read the reason of FallbackActive.",
    )
    STARTING = ("Starting", "The first pods are starting, nothing answers yet.", "Wait.")
    CREATING = ("Creating", "The chatbot's objects are being made for the first time.", "Wait.")
    ROLLING_OUT = ("RollingOut", "New pods are replacing old ones.", "Wait.")
    SCALING = ("Scaling", "The number of pods is changing.", "Wait.")
    SETTLED = ("Settled", "No work is under way.", "Nothing.")
    SUSPENDED = ("Suspended", "spec.suspend is true: there are no backend pods.", "Set spec.suspend: false.")

    NOT_NEEDED = ("NotNeeded", "The phase does not need it.", "Nothing.")
    DOWNLOADED = ("Downloaded", "The weights lie complete in the claim.", "Nothing.")
    MOUNTED = ("Mounted", "The weights come from a claim that already held them.", "Nothing.")
    BAKED = ("Baked", "The weights are part of the engine's image.", "Nothing.")
    QUEUED = ("Queued", "The download waits for its pod to start.", "Wait; if it lasts, look at the Job's pod.")
    DOWNLOADING = ("Downloading", "The weights are on their way.", "Wait; status.download shows how far it is.")
    INTERRUPTED = (
        "Interrupted",
        "The download was stopped, for instance with its node, and goes on where it was.",
        "Wait.",
    )
    DOWNLOAD_FAILED = (
        "DownloadFailed",
        "The download cannot go on as it is, or took longer than it may.",
        "Read the message, mend it, then retry by a new value of the annotation chatbot-operator.dev/retry.",
    )
    MODEL_NOT_FOUND = (
        "ModelNotFound",
        "The registry, Hub or endpoint does not know the model, or the claim or image does not hold it.",
        "Correct the name in hf.models or local.models; the message says what there is, if that is known.",
    )
    MODEL_NOT_READY = (
        "ModelNotReady",
        "The model is being fetched or loaded and cannot answer yet.",
        "Wait; for a large model this takes minutes.",
    )
    TOKEN_REJECTED = (
        "TokenRejected",
        "The token was not accepted.",
        "Put a valid token into the Secret; nothing needs a restart.",
    )
    ACCESS_DENIED = (
        "AccessDenied",
        "The model or registry may not be used with this token, or without one.",
        "Accept the model's licence, or name a token that has the right; it is asked again by itself.",
    )
    STORAGE_FULL = (
        "StorageFull",
        "The claim is too small for the weights.",
        "Raise local.storage.size, if the storage class can grow volumes; the download then goes on by itself.",
    )
    CLAIM_PENDING = (
        "ClaimPending",
        "The claim is not bound to a volume.",
        "Look at `kubectl describe pvc`; the storage class may lack room or a provisioner.",
    )
    CLAIM_MISSING = (
        "ClaimMissing",
        "The claim of local.source.claim does not exist.",
        "Make it, or correct its name.",
    )
    CLAIM_IN_USE = (
        "ClaimInUse",
        "A ReadWriteOnce claim is attached to another node.",
        "Wait for the other pod, use ReadWriteMany, or set backend.rollout: Replace.",
    )
    NO_STORAGE_CLASS = (
        "NoStorageClass",
        "The cluster has no such storage class, or no default one.",
        "Set local.storage.storageClassName to one of `kubectl get storageclass`.",
    )
    DIGEST_MISMATCH = (
        "DigestMismatch",
        "What arrived is not what the registry announced.",
        "It is tried again by itself; if it lasts, the registry or a proxy alters files.",
    )
    SOURCE_UNREACHABLE = (
        "SourceUnreachable",
        "The registry or Hub cannot be reached from the cluster.",
        "It is tried again by itself; if it lasts, check spec.network, DNS and the cluster's network policies.",
    )

    ADDRESS_ASSIGNED = ("AddressAssigned", "The chatbot has an address outside the cluster.", "Nothing.")
    CLUSTER_INTERNAL = (
        "ClusterInternal",
        "The chatbot is reached from inside the cluster only, as expose.type: ClusterIP says.",
        "Nothing; `kubectl port-forward` reaches it from a workstation.",
    )
    ADDRESS_PENDING = (
        "AddressPending",
        "The load balancer or Ingress has no address yet.",
        "Wait; if it lasts, the cluster may lack a load balancer controller.",
    )
    ROUTE_NOT_ACCEPTED = (
        "RouteNotAccepted",
        "The Gateway did not accept the HTTPRoute, or the cluster knows no HTTPRoutes.",
        "Check expose.gatewayRef, the allowedRoutes of the Gateway's listener and expose.host.",
    )

    RATE_LIMITED = (
        "RateLimited",
        "The endpoint refuses more requests for now.",
        "Wait, lower hf.requestsPerMinute, or get a larger quota.",
    )
    PROVIDER_UNAVAILABLE = (
        "ProviderUnavailable",
        "The endpoint fails or does not answer in time.",
        "Wait; see the provider's status page, or raise hf.timeoutSeconds.",
    )
    ENGINE_DOWN = (
        "EngineDown",
        "The engine beside the runtime does not answer.",
        "It is started anew by itself; if it lasts, read its log: `kubectl logs <pod> -c engine --previous`.",
    )
    DISABLED = ("Disabled", "There is no fallback: its effective target is none.", "Nothing; see fallback.to.")
    UNKNOWN = ("Unknown", "No pod could be asked.", "Wait; if it lasts, look at the backend pods.")

    INVALID_SPEC = ("InvalidSpec", "The spec cannot be understood.", "Correct the field that the message names.")
    NOT_IMPLEMENTED = (
        "NotImplemented",
        "This version of the operator does not have what the spec asks for.",
        "Use another phase or a newer operator.",
    )
    NAME_CONFLICT = (
        "NameConflict",
        "An object that the chatbot needs exists and belongs to somebody else.",
        "Rename the Chatbot, or delete the object that the message names if nobody needs it.",
    )
    PERMISSION_DENIED = (
        "PermissionDenied",
        "The operator may not read or write an object.",
        "Apply the RBAC rules of this release.",
    )
    QUOTA_EXCEEDED = (
        "QuotaExceeded",
        "The namespace's quota has no room.",
        "Raise the quota, or lower resources or replicas.",
    )
    ADMISSION_REFUSED = (
        "AdmissionRefused",
        "The cluster's admission refused an object of the chatbot.",
        "Do what the quoted policy says.",
    )
    ENDPOINT_NOT_ALLOWED = (
        "EndpointNotAllowed",
        "The host of hf.baseURL is not on the administrator's list.",
        "Use an allowed host, or have the administrator add this one.",
    )
    TOKEN_SECRET_MISSING = (
        "TokenSecretMissing",
        "The Secret with the token, or its key, does not exist.",
        "Make it: `kubectl create secret generic hf-token --from-literal token=…`.",
    )
    ACCESS_SECRET_MISSING = (
        "AccessSecretMissing",
        "The Secret with the API keys does not exist or is empty.",
        "Make it: `kubectl create secret generic chat-keys --from-literal alice=…`.",
    )
    IMAGE_PULL_FAILED = (
        "ImagePullFailed",
        "A node cannot pull an image.",
        "Check the image's name, pods.imagePullSecrets and pods.imageRegistry.",
    )
    UNSCHEDULABLE = (
        "Unschedulable",
        "No node takes the pod.",
        "Lower resources, relax pods.nodeSelector, set backend.rollout: Replace, or add a node; the message quotes the "
        "scheduler.",
    )
    VOLUME_NOT_ATTACHED = (
        "VolumeNotAttached",
        "A volume cannot be attached to or mounted on the pod's node.",
        "Read the pod's events: `kubectl describe pod`.",
    )
    INSUFFICIENT_MEMORY = (
        "InsufficientMemory",
        "The model and its contexts are known not to fit into the memory that the engine gets.",
        "Raise local.resources.requests.memory, or use a smaller model, contextLength or parallel.",
    )
    OUT_OF_MEMORY = (
        "OutOfMemory",
        "A container was killed because it used more memory than its limit.",
        "Raise the memory of the phase's resources.",
    )
    CRASH_LOOPING = (
        "CrashLooping",
        "A container ends again and again.",
        "Read its last words: `kubectl logs <pod> --previous`.",
    )
    VERIFICATION_FAILED = (
        "VerificationFailed",
        "The new pods run, but their model did not answer the test question.",
        "Read the message; the previous version serves meanwhile.",
    )
    RUNTIME_INCOMPATIBLE = (
        "RuntimeIncompatible",
        "The runtime's image speaks another version of the operator's contract.",
        "Use the runtime image of this operator's release.",
    )
    SETTINGS_PENDING = (
        "SettingsPending",
        "Not every pod has read the new settings yet.",
        "Wait; the kubelet brings them within about a minute.",
    )
    STEPPED_BACK = (
        "SteppedBack",
        "The new version failed, and the previous one was put back.",
        "Correct the cause in the message, or retry by a new value of the annotation chatbot-operator.dev/retry.",
    )
    STALLED = ("Stalled", "A rollout makes no progress.", "Look at the pods of the Deployment in the message.")
    BACKEND_NOT_READY = ("BackendNotReady", "No backend pod is ready.", "Look at the backend pods.")
    WEB_NOT_READY = ("WebNotReady", "No web pod is ready.", "Look at the web pods.")
    RECONCILE_FAILED = (
        "ReconcileFailed",
        "The operator met an error that it did not expect, and tries again.",
        "Read the operator's log and report it.",
    )


class EventReason(StrEnum):
    """What an event tells. `severity` is the event's type."""

    severity: Literal["Normal", "Warning"]
    meaning: str

    def __new__(cls, name: str, severity: Literal["Normal", "Warning"], meaning: str) -> Self:
        reason = str.__new__(cls, name)
        reason._value_ = name
        reason.severity = severity
        reason.meaning = meaning
        return reason

    PHASE_CHANGE_STARTED = ("PhaseChangeStarted", "Normal", "spec.phase was edited and the migration has begun.")
    PHASE_CHANGED = ("PhaseChanged", "Normal", "The new phase answers.")
    STEPPED_BACK = ("SteppedBack", "Warning", "The new version failed, and the previous one was put back.")
    MODEL_DOWNLOAD_STARTED = ("ModelDownloadStarted", "Normal", "A download has begun.")
    MODEL_DOWNLOADED = ("ModelDownloaded", "Normal", "The weights are complete.")
    MODEL_DOWNLOAD_FAILED = ("ModelDownloadFailed", "Warning", "A download has failed.")
    FALLBACK_STARTED = ("FallbackStarted", "Warning", "The fallback answers instead of the model.")
    FALLBACK_ENDED = ("FallbackEnded", "Normal", "The model answers again.")
    TOKEN_REJECTED = ("TokenRejected", "Warning", "The token was not accepted.")
    ADDRESS_ASSIGNED = ("AddressAssigned", "Normal", "The chatbot got its address.")
    RECONCILE_FAILED = ("ReconcileFailed", "Warning", "The operator met an error and tries again.")
    DRIFT_REPAIRED = ("DriftRepaired", "Normal", "An object that was edited or deleted by hand was put right.")


@dataclass(frozen=True)
class ConditionText:
    """What a condition means while True, and the reasons it may have then and otherwise, in order of precedence."""

    meaning: str
    true: tuple[Reason, ...]
    otherwise: tuple[Reason, ...]


_MODEL_PROBLEMS = (
    Reason.QUEUED,
    Reason.DOWNLOADING,
    Reason.DOWNLOAD_FAILED,
    Reason.MODEL_NOT_FOUND,
    Reason.TOKEN_REJECTED,
    Reason.ACCESS_DENIED,
    Reason.STORAGE_FULL,
    Reason.CLAIM_PENDING,
    Reason.CLAIM_MISSING,
    Reason.CLAIM_IN_USE,
    Reason.NO_STORAGE_CLASS,
    Reason.DIGEST_MISMATCH,
    Reason.SOURCE_UNREACHABLE,
    Reason.INTERRUPTED,
)
_PROVIDER_PROBLEMS = (
    Reason.RATE_LIMITED,
    Reason.PROVIDER_UNAVAILABLE,
    Reason.TOKEN_REJECTED,
    Reason.ACCESS_DENIED,
    Reason.MODEL_NOT_FOUND,
    Reason.MODEL_NOT_READY,
    Reason.ENGINE_DOWN,
)
_READY_PROBLEMS = (
    Reason.INVALID_SPEC,
    Reason.NOT_IMPLEMENTED,
    Reason.NAME_CONFLICT,
    Reason.PERMISSION_DENIED,
    Reason.QUOTA_EXCEEDED,
    Reason.ADMISSION_REFUSED,
    Reason.ENDPOINT_NOT_ALLOWED,
    Reason.TOKEN_SECRET_MISSING,
    Reason.TOKEN_REJECTED,
    Reason.ACCESS_DENIED,
    Reason.ACCESS_SECRET_MISSING,
    *_MODEL_PROBLEMS,
    Reason.IMAGE_PULL_FAILED,
    Reason.UNSCHEDULABLE,
    Reason.VOLUME_NOT_ATTACHED,
    Reason.INSUFFICIENT_MEMORY,
    Reason.OUT_OF_MEMORY,
    Reason.CRASH_LOOPING,
    Reason.VERIFICATION_FAILED,
    Reason.RUNTIME_INCOMPATIBLE,
    *_PROVIDER_PROBLEMS,
    Reason.SETTINGS_PENDING,
    Reason.ROLLING_OUT,
    Reason.STEPPED_BACK,
    Reason.STALLED,
    Reason.SUSPENDED,
    Reason.BACKEND_NOT_READY,
    Reason.WEB_NOT_READY,
    Reason.ADDRESS_PENDING,
    Reason.ROUTE_NOT_ACCEPTED,
    Reason.RECONCILE_FAILED,
)

CONDITIONS: Mapping[ConditionType, ConditionText] = {
    ConditionType.AVAILABLE: ConditionText(
        "A person can chat at status.url now.",
        (Reason.SERVING, Reason.SERVING_PREVIOUS, Reason.SERVING_FALLBACK),
        (
            Reason.STARTING,
            Reason.MODEL_NOT_READY,
            Reason.SUSPENDED,
            Reason.BACKEND_NOT_READY,
            Reason.WEB_NOT_READY,
        ),
    ),
    ConditionType.READY: ConditionText(
        "What was asked for, at this generation and with these settings on every ready pod, is what serves.",
        (Reason.SERVING,),
        tuple(dict.fromkeys(_READY_PROBLEMS)),
    ),
    ConditionType.PROGRESSING: ConditionText(
        "Work is under way.",
        (Reason.CREATING, Reason.DOWNLOADING, Reason.ROLLING_OUT, Reason.SCALING),
        (Reason.SETTLED, Reason.STALLED),
    ),
    ConditionType.MODEL_READY: ConditionText(
        "The weights are where they must be.",
        (Reason.NOT_NEEDED, Reason.DOWNLOADED, Reason.MOUNTED, Reason.BAKED),
        _MODEL_PROBLEMS,
    ),
    ConditionType.EXPOSED: ConditionText(
        "An address is assigned.",
        (Reason.ADDRESS_ASSIGNED, Reason.CLUSTER_INTERNAL),
        (Reason.ADDRESS_PENDING, Reason.ROUTE_NOT_ACCEPTED),
    ),
    ConditionType.FALLBACK_ACTIVE: ConditionText(
        "A ready pod's circuit for the default model is open. This is the one condition whose True is a problem.",
        _PROVIDER_PROBLEMS,
        (Reason.NOT_NEEDED, Reason.DISABLED, Reason.UNKNOWN),
    ),
}
"""Each condition of a Chatbot. Ready's `otherwise` is in the order in which its checks are asked."""

FALLBACK_REASONS: Mapping[str, Reason] = {reason.value: reason for reason in _PROVIDER_PROBLEMS}
"""By the name with which a pod says why its fallback answers."""

DOWNLOAD_REASONS: Mapping[str, Reason] = {reason.value: reason for reason in _MODEL_PROBLEMS}
"""By the name with which a downloader says how it ended, or what it waits for."""
