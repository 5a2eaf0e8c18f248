"""What keeps the provider behind the pods from answering: endpoint, token, model, limits. Pure.

It is the pods that know: a new one says why its test question was not answered, one that serves why its circuit is
open. What is not known here counts as a provider that is not available.
"""

from collections.abc import Iterator

from chatbot_operator import effective
from chatbot_operator.api.reasons import FALLBACK_REASONS, Reason
from chatbot_operator.checks.base import Context, Verdict
from chatbot_operator.endpoints import endpoint
from chatbot_operator.observed import Pod
from chatbot_runtime.contract import BY_TOKEN

CHECK = "<check>"
"""Stands in a remedy for the command that asks the troubled pod for details: others may be of another phase."""

TOKEN_STATES = {
    "missing": "does not exist, or has no key {key}",
    "empty": "holds nothing under the key {key}",
    "unreadable": "holds something under the key {key} that is no token",
}


def endpoint_not_allowed(c: Context) -> Verdict | None:
    """The administrator has not put the endpoint's host on the list."""
    if c.migration.endpoint_allowed:
        return None
    target = endpoint(c.chatbot.spec.hf.base_url)
    host = target.host if target else c.chatbot.spec.hf.base_url
    listed = ", ".join(c.settings.allowed_hosts) or "none"
    return Verdict(
        Reason.ENDPOINT_NOT_ALLOWED,
        f"hf.baseURL: prompts may not be sent to {host}; allowed are: {listed}. What served before goes on. Change "
        "hf.baseURL, or ask the administrator to add the host to allowedHosts in the values of the operator's chart.",
    )


def token_secret_missing(c: Context) -> Verdict | None:
    """The provider wants a token and the pods have none."""
    for pod in _troubled(c, Reason.TOKEN_REJECTED):
        state = pod.report.status.token if pod.report and pod.report.status else ""
        if state in TOKEN_STATES:
            secret = c.chatbot.spec.hf.token_secret_ref
            return Verdict(
                Reason.TOKEN_SECRET_MISSING,
                f"Secret {secret.name} {TOKEN_STATES[state].format(key=secret.key)}.{_meanwhile(c)} Make it: kubectl "
                f"create secret generic -n {c.namespace} {secret.name} --from-literal {secret.key}=hf_… "
                "Pods find it by themselves.",
            )
    return None


def token_rejected(c: Context) -> Verdict | None:
    """The provider does not know the token."""
    secret = c.chatbot.spec.hf.token_secret_ref
    return _verdict(
        c,
        Reason.TOKEN_REJECTED,
        f"Put a valid token into Secret {secret.name}, key {secret.key}: kubectl create secret generic "
        f"-n {c.namespace} {secret.name} --from-literal {secret.key}=hf_… --dry-run=client -o yaml "
        "| kubectl apply -f -",
    )


def access_denied(c: Context) -> Verdict | None:
    """The token is known and may not do this."""
    return _verdict(
        c,
        Reason.ACCESS_DENIED,
        "Give the token the right to call inference providers, accept the model's licence, or add credits; "
        f"details: {CHECK}",
    )


def model_not_found(c: Context) -> Verdict | None:
    """The provider does not have the model."""
    return _verdict(c, Reason.MODEL_NOT_FOUND, f"Correct {c.chatbot.spec.phase}.models; what there is: {CHECK}")


def rate_limited(c: Context) -> Verdict | None:
    """The provider refuses more requests for now."""
    return _verdict(
        c,
        Reason.RATE_LIMITED,
        "It is tried again by itself. If that lasts, lower hf.requestsPerMinute or get a larger quota.",
    )


def provider_unavailable(c: Context) -> Verdict | None:
    """The provider fails or does not answer."""
    return _verdict(
        c,
        Reason.PROVIDER_UNAVAILABLE,
        "It is tried again by itself. If that lasts, see the provider's status page, spec.network for a proxy, or "
        f"raise hf.timeoutSeconds; details: {CHECK}",
    )


def verification_failed(c: Context) -> Verdict | None:
    """A new pod's test question was not answered, for a reason that has no check of its own."""
    remedy = f"It is asked again by itself. See: {_log(c)}"
    return _verdict(c, Reason.MODEL_NOT_READY, remedy, Reason.VERIFICATION_FAILED)


def engine_down(c: Context) -> Verdict | None:
    """The engine beside the runtime does not answer."""
    return _verdict(c, Reason.ENGINE_DOWN, f"See: {_log(c)}")


def _verdict(c: Context, reason: Reason, remedy: str, told_as: Reason | None = None) -> Verdict | None:
    pod = next(_troubled(c, reason), None)
    if pod is None:
        return None
    what = "its provider does not answer" if pod.ready else "its test question was not answered"
    status = pod.report.status if pod.report else None
    message = status.verification.message.rstrip(".") if status and not pod.ready else ""
    said = f": {message}." if message else "."
    command = f"kubectl exec -n {c.namespace} {pod.ref.name} -- python -m chatbot_runtime check"
    text = f"Pod {pod.ref.name}: {what}{said}{_meanwhile(c)} {remedy.replace(CHECK, command)}"
    return Verdict(told_as or reason, text)


def _troubled(c: Context, reason: Reason) -> Iterator[Pod]:
    return (pod for pod in c.observed.current_pods() if trouble(pod) == reason)


def trouble(pod: Pod) -> Reason | None:
    """Why a pod's provider does not answer, as the pod says. A newer runtime may know reasons that we do not."""
    status = pod.report.status if pod.report else None
    if status is None:
        return None
    said = status.fallback if pod.ready else None if status.verification.verified else status.verification.reason
    return FALLBACK_REASONS.get(said, Reason.PROVIDER_UNAVAILABLE) if said else None


def waits_for_token(pod: Pod) -> bool:
    """Whether another token would help the pod."""
    if pod.report and pod.report.download:
        return pod.report.download.reason in BY_TOKEN
    return trouble(pod) in (Reason.TOKEN_REJECTED, Reason.ACCESS_DENIED)


def _meanwhile(c: Context) -> str:
    ready = c.observed.ready_pods()
    if not ready:
        return ""
    if c.migration.arrived or any(p in ready for p in c.observed.current_pods()):
        return " The demo answers meanwhile." if effective.fallback_to(c.chatbot.spec) == "mock" else ""
    return " What served before goes on."


def _log(c: Context) -> str:
    return f"kubectl logs -n {c.namespace} deployment/{c.backend_ref.name} --all-containers"
