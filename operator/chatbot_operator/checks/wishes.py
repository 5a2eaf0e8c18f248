"""What the spec asks for and cannot have: phases, Secrets, weights, addresses. Pure."""

from chatbot_operator import names
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


def suspended(c: Context) -> Verdict | None:
    """Somebody asked for no pods."""
    if not c.chatbot.spec.suspend:
        return None
    return Verdict(Reason.SUSPENDED, "spec.suspend is true: no pods run. Set it to false to go on.")
