"""`kubectl chatbot doctor`."""

from datetime import UTC, datetime

from kubectl_chatbot import gather, screen
from kubectl_chatbot.client import Client
from kubectl_chatbot.cluster_checks import cluster_findings
from kubectl_chatbot.findings import Finding, any_failed
from kubectl_chatbot.forecast import context_of
from kubectl_chatbot.health import chatbot_findings
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
        context = context_of(chatbot, gather.world(client, raw), settings, datetime.now(UTC))
        found[chatbot.metadata.name] = chatbot_findings(context, facts)
    wrong = any(any_failed(findings) for findings in found.values())
    if as_json:
        screen.as_json({"ok": not wrong, "cluster": _plain(found.pop("")), "chatbots": _named(found)})
    else:
        for index, (about, findings) in enumerate(found.items()):
            screen.say(("\n" if index else "") + (f"Chatbot {namespace}/{about}" if about else "Cluster"))
            screen.findings(findings)
    return 1 if wrong else 0


def _named(found: dict[str, list[Finding]]) -> dict[str, object]:
    return {name: _plain(findings) for name, findings in found.items()}


def _plain(findings: list[Finding]) -> list[dict[str, str]]:
    return [{"check": f.check, "result": f.verdict, "message": f.message} for f in findings]
