"""Who answers at the public address: the pods of the chat page, or those of the backend. Pure."""

from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, WEB
from chatbot_operator.names import COMPONENT_LABEL
from chatbot_operator.observe import public_service
from chatbot_operator.observed import Observed


def front(chatbot: Chatbot, observed: Observed) -> str:
    """The component that the public Service is to select.

    Where the backend answers already, the page takes over once it can; where the page is not wanted any more, the
    backend does at once.
    """
    if not chatbot.spec.web.enabled:
        return BACKEND
    live = public_service(observed, chatbot.metadata.name)
    if live is None or selected(observed, chatbot) == WEB:
        return WEB
    return WEB if observed.web.ready_pods() else BACKEND


def selected(observed: Observed, chatbot: Chatbot) -> str:
    """The component that the live public Service selects; empty if there is none."""
    live = public_service(observed, chatbot.metadata.name)
    return str(live["spec"].get("selector", {}).get(COMPONENT_LABEL, "")) if live else ""
