"""The part of the plan that is about the chat page: its objects, and its pods in an order that never drops the page.
Pure; it must not know phases or models."""

from collections.abc import Iterator, Mapping
from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.actions import Action, Apply, Scale, delete
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.account import web_account
from chatbot_operator.desired.autoscaler import web_autoscaler
from chatbot_operator.desired.base import WEB
from chatbot_operator.desired.config import nginx_text, web_config
from chatbot_operator.desired.disruption import web_budget
from chatbot_operator.desired.network import web_policy
from chatbot_operator.desired.page import web_deployment
from chatbot_operator.desired.service import web_service
from chatbot_operator.front import selected
from chatbot_operator.kinds import SERVICE, Ref, ref_of
from chatbot_operator.observe import autoscaler
from chatbot_operator.observed import Observed
from chatbot_operator.revision import web_inputs
from chatbot_operator.rollouts import in_turn
from chatbot_operator.settings import Settings


def page_basics(chatbot: Chatbot) -> list[Mapping[str, Any]]:
    """What the page's pods need beside their configuration."""
    if not chatbot.spec.web.enabled:
        return []
    return [web_account(chatbot), web_policy(chatbot), web_service(chatbot)]


def page_pods(chatbot: Chatbot, observed: Observed, settings: Settings) -> Iterator[Action]:
    """The configuration and the Deployment, once the backend's Service has the address that they name."""
    address = _backend_address(chatbot, observed)
    if not chatbot.spec.web.enabled or not address:
        return
    conf = nginx_text(chatbot, address)
    yield Apply(web_config(chatbot, conf))
    live, scaler = observed.web.live, autoscaler(observed, names.web(chatbot.metadata.name))
    same_inputs = live is not None and live.template_inputs == web_inputs(chatbot.spec)
    deployment = Apply(web_deployment(chatbot, settings, conf), own_making=same_inputs)
    if live is None:
        yield deployment
        return
    scales = chatbot.spec.web.autoscaling.enabled and not chatbot.spec.suspend
    if not scales and scaler is not None:
        yield delete(observed, ref_of(scaler))
    count = _count(chatbot, live.replicas, scaled=scaler is not None)
    if count is not None and count > live.replicas:
        yield Scale(deployment.ref, count)
    if scales:
        yield Apply(web_autoscaler(chatbot))
    yield Apply(web_budget(chatbot))
    if count is not None and count < live.replicas:
        yield Scale(deployment.ref, count)
    turn = in_turn(observed.web, observed.children[deployment.ref]["spec"]["template"], deployment)
    if turn is not None:
        yield turn


def page_may_go(chatbot: Chatbot, observed: Observed) -> bool:
    """Never while the public address leads to it."""
    return not chatbot.spec.web.enabled and selected(observed, chatbot) not in ("", WEB)


def _backend_address(chatbot: Chatbot, observed: Observed) -> str:
    metadata = chatbot.metadata
    live = observed.children.get(Ref(SERVICE, metadata.namespace, names.backend(metadata.name)))
    address = str(live["spec"].get("clusterIP", "")) if live else ""
    return "" if address == "None" else address


def _count(chatbot: Chatbot, replicas: int, *, scaled: bool) -> int | None:
    """How many pods to set by hand; None: leave the number to the autoscaler."""
    least = effective.web_minimum(chatbot.spec)
    by_hand = chatbot.spec.suspend or not chatbot.spec.web.autoscaling.enabled
    wanted = by_hand or replicas == 0 or (replicas < least and not scaled)
    return least if wanted and replicas != least else None
