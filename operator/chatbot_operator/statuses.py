"""Comparing an old status with a new one: whether it is news, and whether bad news. Pure."""

from chatbot_operator.api import ChatbotStatus
from chatbot_operator.api.reasons import ConditionType


def worsens(old: ChatbotStatus, new: ChatbotStatus) -> bool:
    """Whether people or scripts that rely on Available or Ready must learn that it no longer holds."""
    relied_on = (ConditionType.AVAILABLE, ConditionType.READY)
    held = [c.type for c in old.conditions if c.type in relied_on and c.status == "True"]
    return any((after := new.condition(type_)) is None or after.status != "True" for type_ in held)


def goes_dark(old: ChatbotStatus, new: ChatbotStatus) -> bool:
    """Whether people could chat and can no longer."""
    before, after = old.condition(ConditionType.AVAILABLE), new.condition(ConditionType.AVAILABLE)
    held = before is not None and before.status == "True"
    return held and (after is None or after.status != "True")


def is_news(old: ChatbotStatus, new: ChatbotStatus) -> bool:
    """Whether a condition has another status or reason: more than a count or a wording."""

    def told(status: ChatbotStatus) -> set[tuple[str, str, str]]:
        return {(c.type, c.status, c.reason) for c in status.conditions}

    return told(old) != told(new)


def is_progress(old: ChatbotStatus, new: ChatbotStatus) -> bool:
    """Whether nothing has changed but how far a download is."""
    if old.download is None or new.download is None:
        return False
    return old.model_copy(update={"download": new.download}) == new
