"""What `doctor` says of one Chatbot: what it needs, and what its status already tells. Pure."""

from chatbot_operator.api import Chatbot
from chatbot_operator.api.reasons import Reason
from chatbot_operator.checks.base import Context
from kubectl_chatbot import status
from kubectl_chatbot.facts import Facts
from kubectl_chatbot.findings import Finding, failed, ok, warning
from kubectl_chatbot.needs import need_findings

_TOKEN = {Reason.TOKEN_REJECTED, Reason.ACCESS_DENIED}
_PASSING = {Reason.ROLLING_OUT, Reason.DOWNLOADING, Reason.QUEUED, Reason.STARTING, Reason.SETTINGS_PENDING}


def chatbot_findings(c: Context, facts: Facts) -> list[Finding]:
    """What is needed comes first: it usually explains the rest."""
    found = need_findings(c, facts)
    if token := _token(c.chatbot):
        found.append(token)
    return [*found, _address(c.chatbot), _ready(c.chatbot)]


def _token(chatbot: Chatbot) -> Finding | None:
    """Whether the provider takes the token, as the pods have found out."""
    ready = status.ready(chatbot)
    if chatbot.spec.phase == "mock" or ready is None:
        return None
    if ready.reason in _TOKEN:
        return failed("token", ready.message)
    if chatbot.spec.phase == "hf" and ready.status == "True":
        return ok("token", "The provider has answered with it.")
    return None


def _address(chatbot: Chatbot) -> Finding:
    exposed = chatbot.status.condition("Exposed")
    if exposed is None:
        return warning("address", "The operator has not said yet how it is reached.")
    return (ok if exposed.status == "True" else failed)("address", exposed.message)


def _ready(chatbot: Chatbot) -> Finding:
    told = f"{status.headline(chatbot)}: {status.explanation(chatbot)}"
    if status.is_ready(chatbot):
        return ok("ready", told)
    return (warning if status.headline(chatbot) in _PASSING else failed)("ready", told)
