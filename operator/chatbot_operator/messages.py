"""Which Events a change of status is worth: old and new status -> texts. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from chatbot_operator.api import Chatbot, ChatbotStatus
from chatbot_operator.api.reasons import DOWNLOAD_REASONS, ConditionType, EventReason, Reason


@dataclass(frozen=True)
class Message:
    """One Event to be."""

    reason: EventReason
    note: str


_READY_EVENTS: dict[str, EventReason] = {
    Reason.STEPPED_BACK: EventReason.STEPPED_BACK,
    Reason.TOKEN_REJECTED: EventReason.TOKEN_REJECTED,
    Reason.RECONCILE_FAILED: EventReason.RECONCILE_FAILED,
}


_DOWNLOAD_FAILURES = frozenset(DOWNLOAD_REASONS.values()) - {Reason.QUEUED, Reason.DOWNLOADING, Reason.CLAIM_PENDING}


def messages(chatbot: Chatbot, new: ChatbotStatus) -> Iterator[Message]:
    """The Events that the step from the chatbot's written status to the new one is worth."""
    old, phase = chatbot.status, chatbot.spec.phase
    if old.serving_phase and new.serving_phase != old.serving_phase and new.serving_phase == phase:
        yield Message(EventReason.PHASE_CHANGED, f"Phase {phase} answers now; before, it was {old.serving_phase}.")
    ready = new.condition(ConditionType.READY)
    begun = ready is None or ready.reason != Reason.NOT_IMPLEMENTED
    if begun and new.serving_phase not in ("", phase) and new.observed_generation > old.observed_generation >= 0:
        yield Message(
            EventReason.PHASE_CHANGE_STARTED, f"Moving to phase {phase}; {new.serving_phase} answers meanwhile."
        )
    for type_, after in ((c.type, c) for c in new.conditions):
        before = old.condition(type_)
        if before is not None and (before.status, before.reason) == (after.status, after.reason):
            continue
        reason = _event(type_, after.status, after.reason, before.status if before else "")
        if reason is not None:
            yield Message(reason, after.message)


def _event(type_: str, status: str, reason: str, before: str) -> EventReason | None:
    if type_ == ConditionType.READY:
        return _READY_EVENTS.get(reason) if status == "False" else None
    if type_ == ConditionType.FALLBACK_ACTIVE and status == "True" and before != "True":
        return EventReason.FALLBACK_STARTED
    if type_ == ConditionType.FALLBACK_ACTIVE and status == "False" and before == "True":
        return EventReason.FALLBACK_ENDED
    if type_ == ConditionType.EXPOSED and reason == Reason.ADDRESS_ASSIGNED:
        return EventReason.ADDRESS_ASSIGNED
    if type_ == ConditionType.MODEL_READY:
        if reason == Reason.DOWNLOADING:
            return EventReason.MODEL_DOWNLOAD_STARTED
        if reason == Reason.DOWNLOADED:
            return EventReason.MODEL_DOWNLOADED
        if reason in _DOWNLOAD_FAILURES:
            return EventReason.MODEL_DOWNLOAD_FAILED
    return None
