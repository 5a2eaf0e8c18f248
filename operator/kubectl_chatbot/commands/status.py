"""`kubectl chatbot status`."""

from datetime import UTC, datetime

from chatbot_operator.api import Chatbot
from kubectl_chatbot import gather, screen, status
from kubectl_chatbot.client import Client


def list_all(client: Client, namespace: str | None, *, as_json: bool) -> int:
    """A line for each Chatbot."""
    found = [gather.parsed(raw) for raw in gather.chatbots(client, namespace)]
    if as_json:
        screen.as_json({"items": [status.report(chatbot, ()) for chatbot in found]})
    elif not found:
        screen.tell(f"No Chatbots in {f'namespace {namespace}' if namespace else 'this cluster'}.")
    else:
        head = ("NAME", "PHASE", "SERVING", "READY", "STATUS", "PODS", "COST A MONTH", "URL")
        named = "NAMESPACE" if namespace is None else ""
        rows = [((c.metadata.namespace,) if named else ()) + _row(c) for c in found]
        screen.table(((named,) if named else ()) + head, rows)
    return 0


def _row(chatbot: Chatbot) -> tuple[str, ...]:
    shown = chatbot.status
    cost = f"{shown.cost.monthly} {shown.cost.currency}" if shown.cost else ""
    pods = f"{shown.ready_replicas}/{shown.replicas}"
    ready = str(status.is_ready(chatbot))
    name = chatbot.metadata.name
    return (name, chatbot.spec.phase, shown.serving_phase, ready, status.headline(chatbot), pods, cost, shown.url)


def show(client: Client, namespace: str, name: str, *, as_json: bool) -> int:
    """Everything about one."""
    chatbot = gather.parsed(gather.raw_chatbot(client, namespace, name))
    events = gather.events(client, chatbot)[-status.EVENTS_SHOWN :]
    if as_json:
        screen.as_json(status.report(chatbot, events))
        return 0
    now = datetime.now(UTC)
    screen.pairs([("Name", f"{namespace}/{name}"), *status.facts(chatbot)])
    if chatbot.status.conditions:
        screen.say("")
        rows = [
            (c.type, c.status, c.reason, status.age(c.last_transition_time, now), c.message)
            for c in chatbot.status.conditions
        ]
        screen.table(("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"), rows)
    if events:
        screen.say("")
        told = [
            (status.age(e.at, now), e.type, f"{e.reason}{f' ×{e.count}' if e.count > 1 else ''}", e.note)
            for e in events
        ]
        screen.table(("EVENT", "TYPE", "REASON", "MESSAGE"), told)
    return 0
