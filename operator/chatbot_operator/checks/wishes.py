"""What the spec asks for and cannot have: phases, Secrets, weights, addresses. Pure."""

from chatbot_operator.api.reasons import Reason
from chatbot_operator.checks.base import Context, Verdict


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


def suspended(c: Context) -> Verdict | None:
    """Somebody asked for no pods."""
    if not c.chatbot.spec.suspend:
        return None
    return Verdict(Reason.SUSPENDED, "spec.suspend is true: no pods run. Set it to false to go on.")
