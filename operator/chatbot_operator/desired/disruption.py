"""The PodDisruptionBudgets. Pure."""

from typing import Any

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, WEB, child
from chatbot_operator.kinds import DISRUPTION_BUDGET


def backend_budget(chatbot: Chatbot) -> dict[str, Any]:
    """One pod at a time may be evicted; one that is not ready always, so that it never blocks a drain."""
    return _budget(chatbot, names.backend(chatbot.metadata.name), BACKEND)


def web_budget(chatbot: Chatbot) -> dict[str, Any]:
    """The same for the chat page's pods."""
    return _budget(chatbot, names.web(chatbot.metadata.name), WEB)


def _budget(chatbot: Chatbot, name: str, component: str) -> dict[str, Any]:
    body = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": names.selector(chatbot.metadata.name, component)},
    }
    return child(chatbot, DISRUPTION_BUDGET, name, component, {"spec": body})
