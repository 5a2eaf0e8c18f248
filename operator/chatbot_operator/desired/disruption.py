"""The PodDisruptionBudget of the backend. Pure."""

from typing import Any

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, child
from chatbot_operator.kinds import DISRUPTION_BUDGET


def backend_budget(chatbot: Chatbot) -> dict[str, Any]:
    """One pod at a time may be evicted; one that is not ready always, so that it never blocks a drain."""
    name = names.backend(chatbot.metadata.name)
    body = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": names.selector(chatbot.metadata.name, BACKEND)},
    }
    return child(chatbot, DISRUPTION_BUDGET, name, BACKEND, {"spec": body})
