"""What one Chatbot needs to serve the phase of its spec, and whether it is there: for `doctor`, and for `switch` before
anything is changed. Pure; it never sees a Secret's value."""

from collections.abc import Iterator

from chatbot_operator import effective
from chatbot_operator.api import Chatbot, ChatbotSpec
from chatbot_operator.api.reasons import Reason
from chatbot_operator.checks import verdicts
from chatbot_operator.checks.base import Context
from chatbot_operator.kinds import CLAIM
from chatbot_operator.migration import engine_memory, needed_memory
from chatbot_operator.names import PAUSED
from chatbot_operator.units import memory_text, quantity
from kubectl_chatbot.cluster_checks import default_class
from kubectl_chatbot.facts import Facts
from kubectl_chatbot.findings import Finding, Unknown, failed, ok, unknown, warning
from kubectl_chatbot.room import has_claim, node_finding, quota_finding

FORESEEN = {
    Reason.NOT_IMPLEMENTED: "phase",
    Reason.NAME_CONFLICT: "names",
    Reason.ENDPOINT_NOT_ALLOWED: "endpoint",
}
"""Reasons that the operator gives from spec and objects alone, before any pod has said anything."""

HUB_TOKEN_BY_DEFAULT = "router.huggingface.co"  # noqa: S105 - a host


def need_findings(c: Context, facts: Facts) -> list[Finding]:
    """All of them, in the order in which a person would mend them."""
    return [
        *_foreseen(c),
        *_hands_off(c.chatbot),
        *_secrets(c.chatbot, facts),
        *_weights(c, facts),
        *_room(c, facts),
    ]


def secrets_of(spec: ChatbotSpec) -> dict[str, str]:
    """The Secrets that the spec's phase needs: name -> the key that must hold something; empty: any key."""
    wanted: dict[str, str] = {}
    if spec.phase == "hf":
        wanted[spec.hf.token_secret_ref.name] = spec.hf.token_secret_ref.key
    if spec.local.token_secret_ref and effective.downloads(spec):
        wanted[spec.local.token_secret_ref.name] = spec.local.token_secret_ref.key
    if spec.access.mode == "APIKey" and spec.access.keys_secret_ref:
        wanted[spec.access.keys_secret_ref.name] = ""
    return wanted


def claim_of(spec: ChatbotSpec) -> str:
    """The claim that the spec names as the source of its weights; empty if it names none."""
    source = spec.local.source
    return source.claim.name if spec.phase == "local" and source.claim else ""


def _foreseen(c: Context) -> Iterator[Finding]:
    for verdict in verdicts(c):
        if verdict.reason in FORESEEN:
            yield failed(FORESEEN[verdict.reason], verdict.message)


def _hands_off(chatbot: Chatbot) -> Iterator[Finding]:
    if chatbot.spec.suspend:
        yield failed("suspend", "spec.suspend is true: no pods run in any phase. Set it to false.")
    if chatbot.metadata.annotations.get(PAUSED) == "true":
        yield failed("paused", f"Annotation {PAUSED} keeps the operator from acting. Remove it.")


def _secrets(chatbot: Chatbot, facts: Facts) -> Iterator[Finding]:
    spec, namespace = chatbot.spec, chatbot.metadata.namespace
    for name, key in secrets_of(spec).items():
        keys, check = facts.secrets.get(name), f"secret {name}"
        what = f"the token is read from its key {key}" if key else "its keys are clients, their values API keys"
        make = f"kubectl create secret generic -n {namespace} {name} --from-literal {key or 'alice'}=…"
        if isinstance(keys, Unknown):
            yield unknown(check, keys)
        elif keys is None:
            optional = spec.phase == "hf" and HUB_TOKEN_BY_DEFAULT not in spec.hf.base_url and key
            say = warning if optional else failed
            yield say(check, f"There is no such Secret; {what}. Make it: {make}")
        elif not (keys.get(key) if key else any(keys.values())):
            yield failed(check, f"{f'Key {key} is missing or empty' if key else 'It is empty'}; {what}. Set it: {make}")
        else:
            yield ok(
                check, f"Has {f'key {key}' if key else f'{sum(keys.values())} keys'}; the value was not looked at."
            )


def _weights(c: Context, facts: Facts) -> Iterator[Finding]:
    spec = c.chatbot.spec
    if name := claim_of(spec):
        claim = facts.claims.get(name)
        if isinstance(claim, Unknown):
            yield unknown(f"claim {name}", claim)
        elif claim is None:
            yield failed(f"claim {name}", "local.source.claim: there is no such PersistentVolumeClaim. Make it first.")
        else:
            yield ok(f"claim {name}", "Is there.")
    if effective.downloads(spec):
        yield _class(spec, facts)
        yield _fits(c)


def _class(spec: ChatbotSpec, facts: Facts) -> Finding:
    classes, wanted = facts.storage_classes, spec.local.storage.storage_class_name
    if isinstance(classes, Unknown):
        return unknown("storage class", classes)
    names = sorted(c["metadata"]["name"] for c in classes)
    if wanted is None:
        if found := default_class(classes):
            return ok("storage class", f"{found}, the cluster's default.")
        return failed(
            "storage class", f"The cluster has no default: set local.storage.storageClassName ({_or(names)})."
        )
    if wanted in names:
        return ok("storage class", f"{wanted} exists.")
    return failed("storage class", f"local.storage.storageClassName: there is no {wanted}. Use {_or(names)}.")


def _or(names: list[str]) -> str:
    return " or ".join(names) or "none exists; install one"


def _fits(c: Context) -> Finding:
    local, weights = c.chatbot.spec.local, c.migration.model.weights
    given = memory_text(engine_memory(local))
    if not weights:
        return unknown("model fits", Unknown(f"Known once it is downloaded. The engine has {given} of memory."))
    size = sum(w.size_bytes for w in weights)
    if size > quantity(local.storage.size):
        return failed(
            "model fits", f"It takes {_gib(size)} and local.storage.size is {local.storage.size}. Raise that."
        )
    if c.migration.fits:
        return ok("model fits", f"It needs {_gib(int(needed_memory(local, c.migration.model)))} of memory of {given}.")
    message = next(v.message for v in verdicts(c) if v.reason == Reason.INSUFFICIENT_MEMORY)
    return failed("model fits", message)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}Gi" if size >= 2**30 else f"{size / 2**20:.0f}Mi"


def _room(c: Context, facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.nodes, Unknown):
        yield unknown("node", facts.nodes)
    else:
        yield node_finding(c.chatbot, facts.nodes, None if isinstance(facts.pods, Unknown) else facts.pods)
    if isinstance(facts.quotas, Unknown):
        yield unknown("quota", facts.quotas)
    else:
        claims = [o for ref, o in c.observed.children.items() if ref.kind == CLAIM]
        yield quota_finding(c.chatbot, facts.quotas, claim_there=has_claim(c.chatbot, claims))
