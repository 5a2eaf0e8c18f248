"""What every check looks at and answers with. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from chatbot_operator import names
from chatbot_operator.api import Chatbot, Phase
from chatbot_operator.api.reasons import Reason
from chatbot_operator.kinds import DEPLOYMENT, Ref
from chatbot_operator.migration import Migration
from chatbot_operator.observe import Observed
from chatbot_operator.settings import Settings


@dataclass(frozen=True)
class Context:
    """All that a check may look at."""

    chatbot: Chatbot
    observed: Observed
    migration: Migration
    settings: Settings
    now: datetime
    built: frozenset[Phase]

    @property
    def namespace(self) -> str:
        return self.chatbot.metadata.namespace

    @property
    def backend_ref(self) -> Ref:
        return Ref(DEPLOYMENT, self.namespace, names.backend(self.chatbot.metadata.name))


@dataclass(frozen=True)
class Verdict:
    """A reason and the sentence that goes with it."""

    reason: Reason
    message: str


Check = Callable[[Context], Verdict | None]
