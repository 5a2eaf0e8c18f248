"""`kubectl chatbot doctor`."""

from datetime import UTC, datetime

from chatbot_operator.cluster import Forbidden
from chatbot_operator.kinds import Key, RawObject
from chatbot_operator.store import Snapshot
from kubectl_chatbot import gather, screen
from kubectl_chatbot.client import Client
from kubectl_chatbot.cluster_checks import cluster_findings
from kubectl_chatbot.findings import Finding, Unknown, any_failed, plain, unknown
from kubectl_chatbot.forecast import context_of
from kubectl_chatbot.health import chatbot_findings
from kubectl_chatbot.rehearsal import World
from kubectl_chatbot.settings import known_settings


def run(client: Client, namespace: str, name: str | None, *, as_json: bool) -> int:
    """Exit code 1 where a check has failed."""
    try:
        raws = [gather.raw_chatbot(client, namespace, name)] if name else gather.chatbots(client, namespace)
    except gather.Missing:
        if name:
            raise
        raws = []  # the cluster does not know Chatbots: that is among the findings
    chatbots = [gather.parsed(raw) for raw in raws]
    facts = gather.facts(client, namespace, chatbots)
    settings = known_settings(facts.operators, namespace)
    found = {"": cluster_findings(facts, namespace)}
    for raw, chatbot in zip(raws, chatbots, strict=True):
        world, unread = _world(client, raw)
        context = context_of(chatbot, world, settings, datetime.now(UTC))
        found[chatbot.metadata.name] = [*unread, *chatbot_findings(context, facts)]
    wrong = any(any_failed(findings) for findings in found.values())
    if as_json:
        screen.as_json({"ok": not wrong, "cluster": plain(found.pop("")), "chatbots": _named(found)})
    else:
        for index, (about, findings) in enumerate(found.items()):
            screen.say(("\n" if index else "") + (f"Chatbot {namespace}/{about}" if about else "Cluster"))
            screen.findings(findings)
    return 1 if wrong else 0


def _world(client: Client, raw: RawObject) -> tuple[World, list[Finding]]:
    """The Chatbot's children; without them, where they may not be read, some things are not known."""
    try:
        return gather.world(client, raw), []
    except Forbidden as error:
        key = Key(raw["metadata"]["namespace"], raw["metadata"]["name"])
        return World(Snapshot(key, raw, {}, {})), [
            unknown("objects", Unknown(f"You may not read them: {error.message}"))
        ]


def _named(found: dict[str, list[Finding]]) -> dict[str, object]:
    return {name: plain(findings) for name, findings in found.items()}
