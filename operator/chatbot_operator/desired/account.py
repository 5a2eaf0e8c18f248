"""The ServiceAccounts of the pods: no rights and no token. Pure."""

from typing import Any

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, WEB, child
from chatbot_operator.kinds import SERVICE_ACCOUNT


def backend_account(chatbot: Chatbot) -> dict[str, Any]:
    """An identity of its own, so that nobody grants rights to the namespace's default account for its sake."""
    return _account(chatbot, names.backend(chatbot.metadata.name), BACKEND)


def web_account(chatbot: Chatbot) -> dict[str, Any]:
    """The chat page's."""
    return _account(chatbot, names.web(chatbot.metadata.name), WEB)


def _account(chatbot: Chatbot, name: str, component: str) -> dict[str, Any]:
    return child(chatbot, SERVICE_ACCOUNT, name, component, {"automountServiceAccountToken": False})
