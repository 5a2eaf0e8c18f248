"""What every check looks at and answers with. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from chatbot_operator import names
from chatbot_operator.api import Chatbot, Phase
from chatbot_operator.api.reasons import Reason
from chatbot_operator.front import front
from chatbot_operator.kinds import DEPLOYMENT, Ref
from chatbot_operator.migration import Migration
from chatbot_operator.observed import Observed, Pod, Workload
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

    @property
    def front(self) -> str:
        """The component that the public Service is to lead to."""
        return front(self.chatbot, self.observed)

    @property
    def web_ref(self) -> Ref:
        return Ref(DEPLOYMENT, self.namespace, names.web(self.chatbot.metadata.name))

    @property
    def workloads(self) -> tuple[tuple[Ref, Workload], ...]:
        """The Deployments that are wanted, with what is there of them."""
        backend = (self.backend_ref, self.observed.workload)
        return (backend, (self.web_ref, self.observed.web)) if self.chatbot.spec.web.enabled else (backend,)

    def new_pods(self) -> tuple[Pod, ...]:
        """The pods of the newest templates."""
        return tuple(pod for _, workload in self.workloads for pod in workload.current_pods())


@dataclass(frozen=True)
class Verdict:
    """A reason and the sentence that goes with it."""

    reason: Reason
    message: str


Check = Callable[[Context], Verdict | None]
