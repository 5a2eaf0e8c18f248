"""What the API server refused to be written, and whose names are taken. Pure."""

from collections.abc import Callable, Iterator

from chatbot_operator.api.reasons import Reason
from chatbot_operator.checks.base import Context, Verdict
from chatbot_operator.kinds import RawObject, Ref
from chatbot_operator.names import CHATBOT_LABEL
from chatbot_operator.observed import WriteProblem


def name_conflict(c: Context) -> Verdict | None:
    """Somebody else's object has the name of one of ours."""
    taken = c.observed.strangers
    if not taken:
        return None
    of_chatbots = {ref: owner for ref, obj in taken.items() if (owner := _other_chatbot(c, obj))}
    named = ", ".join(f"{r} (of Chatbot {of_chatbots[r]})" if r in of_chatbots else str(r) for r in sorted(taken))
    remedy = "Rename one of the two Chatbots." if of_chatbots else "Rename the Chatbot, or delete that object."
    return Verdict(
        Reason.NAME_CONFLICT,
        f"{named}: exists and does not belong to this Chatbot, so it is left alone. {remedy}",
    )


def _other_chatbot(c: Context, obj: RawObject) -> str:
    """The Chatbot of another name that an object is a child of; empty when it is none's."""
    owner: str = obj["metadata"].get("labels", {}).get(CHATBOT_LABEL, "")
    return owner if owner != c.chatbot.metadata.name else ""


def problem(c: Context, matches: Callable[[WriteProblem], bool]) -> tuple[Ref, WriteProblem] | None:
    """The first write that failed in such a way."""
    return next(((ref, p) for ref, p in sorted(c.observed.problems.items()) if matches(p)), None)


def _is_quota(message: str) -> bool:
    return "exceeded quota" in message or "exceed quota" in message


def permission_denied(c: Context) -> Verdict | None:
    """RBAC refuses the operator: its message begins with who may not do what."""
    denied = problem(c, lambda p: p.error == "Forbidden" and " cannot " in p.message and not _is_quota(p.message))
    if denied is None:
        return None
    ref, write = denied
    return Verdict(
        Reason.PERMISSION_DENIED,
        f"The operator may not {write.verb} {write.resource} ({ref}). Apply the RBAC rules of this release, "
        "for example by upgrading its chart.",
    )


def quota_exceeded(c: Context) -> Verdict | None:
    """A ResourceQuota has no room, for one of our objects or for a pod."""
    found = problem(c, lambda p: p.error == "Forbidden" and _is_quota(p.message))
    if found is not None:
        return Verdict(Reason.QUOTA_EXCEEDED, f"{found[0]}: {found[1].message}. Raise the quota, or ask for less.")
    for ref, failure in _failures(c):
        if _is_quota(failure):
            return Verdict(Reason.QUOTA_EXCEEDED, f"{ref}: {failure}. Raise the quota, or lower resources or replicas.")
    return None


def admission_refused(c: Context) -> Verdict | None:
    """The API server or an admission policy refuses one of our objects, or a pod."""
    found = problem(c, lambda p: p.error in ("Forbidden", "Invalid") and not _is_quota(p.message))
    if found is not None:
        return Verdict(
            Reason.ADMISSION_REFUSED,
            f"{found[0]}: {found[1].message}. Change the field or the policy that it names.",
        )
    for ref, failure in _failures(c):
        if not _is_quota(failure):
            return Verdict(Reason.ADMISSION_REFUSED, f"{ref}: {failure}. Change the field or the policy that it names.")
    return None


def _failures(c: Context) -> Iterator[tuple[Ref, str]]:
    """Why pods of a Deployment are not made, in the words of its controller."""
    for ref, workload in c.workloads:
        if workload.live and not workload.live.rolled_out and workload.live.replica_failure:
            yield ref, workload.live.replica_failure
