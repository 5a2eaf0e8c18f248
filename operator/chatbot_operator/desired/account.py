"""The ServiceAccount of the backend: no rights and no token. Pure."""

from typing import Any

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, child
from chatbot_operator.kinds import SERVICE_ACCOUNT


def backend_account(chatbot: Chatbot) -> dict[str, Any]:
    """An identity of its own, so that nobody grants rights to the namespace's default account for its sake."""
    name = names.backend(chatbot.metadata.name)
    return child(chatbot, SERVICE_ACCOUNT, name, BACKEND, {"automountServiceAccountToken": False})
