"""Comparing an old status with a new one: the patch between them, and whether it is bad news. Pure."""

from collections.abc import Mapping
from typing import Any

from chatbot_operator.api import ChatbotStatus
from chatbot_operator.api.reasons import ConditionType


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7396) that makes `old` into `new`; empty if they are equal."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = merge_patch(before, value)
            if inner:
                patch[key] = inner
        elif before != value:
            patch[key] = value
    return patch


def worsens(old: ChatbotStatus, new: ChatbotStatus) -> bool:
    """Whether people or scripts that rely on Available or Ready must learn that it no longer holds."""
    relied_on = (ConditionType.AVAILABLE, ConditionType.READY)
    held = [c.type for c in old.conditions if c.type in relied_on and c.status == "True"]
    return any((after := new.condition(type_)) is None or after.status != "True" for type_ in held)


def is_news(old: ChatbotStatus, new: ChatbotStatus) -> bool:
    """Whether a condition has another status or reason: more than a count or a wording."""

    def told(status: ChatbotStatus) -> set[tuple[str, str, str]]:
        return {(c.type, c.status, c.reason) for c in status.conditions}

    return told(old) != told(new)
