"""`kubectl chatbot switch`."""

import time
from datetime import UTC, datetime
from typing import Any

from rich.live import Live
from rich.spinner import Spinner

from chatbot_operator.api import Chatbot, Phase
from chatbot_operator.cluster import Invalid, Transient
from chatbot_operator.kinds import CHATBOT, Ref
from kubectl_chatbot import gather, screen, status
from kubectl_chatbot.client import Client
from kubectl_chatbot.findings import Finding, any_failed, failed, plain
from kubectl_chatbot.forecast import Change, Forecast, forecast, in_phase
from kubectl_chatbot.needs import need_findings
from kubectl_chatbot.settings import known_settings

LOOK_SECONDS = 1.0


def run(
    client: Client,
    namespace: str,
    name: str | None,
    phase: Phase,
    *,
    dry_run: bool,
    force: bool,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> int:
    """Exit code 1 where something is missing, the API server refuses, or the time is over."""
    raw = gather.raw_chatbot(client, namespace, name)
    chatbot = gather.parsed(raw)
    ref = Ref(CHATBOT, namespace, chatbot.metadata.name)
    same = chatbot.spec.phase == phase
    if not same:
        ahead, findings = _look_ahead(client, ref, raw, chatbot, phase)
        if not as_json or dry_run:
            _tell(chatbot, phase, ahead, findings, as_json=as_json)
        if any_failed(findings) and (dry_run or not force):
            if not dry_run:
                screen.tell("error: not switched: something is missing. With --force it waits for it.", "red")
            return 1
    if dry_run:
        if same and not as_json:
            screen.say(f"{chatbot.metadata.name} is in phase {phase} already: nothing would change.")
        elif same:
            screen.as_json({"phase": phase, "rows": [], "changes": [], "findings": []})
        return 0
    if not same:
        chatbot = gather.parsed(client.patch(ref, {"spec": {"phase": phase}}))
    return _arrived(client, ref, chatbot.metadata.generation, wait=wait, timeout=timeout, as_json=as_json)


def _look_ahead(client: Client, ref: Ref, raw: Any, chatbot: Chatbot, phase: Phase) -> tuple[Forecast, list[Finding]]:
    facts = gather.facts(client, ref.namespace, [in_phase(chatbot, phase)])
    settings = known_settings(facts.operators, ref.namespace)
    known, now = gather.world(client, raw), datetime.now(UTC)
    ahead = forecast(chatbot, phase, known, settings, now)
    there = gather.with_strangers(client, known, ahead.created())
    if there.snapshot.strangers:
        ahead = forecast(chatbot, phase, there, settings, now)
    findings = need_findings(ahead.context, facts)
    try:
        client.patch(ref, {"spec": {"phase": phase}}, dry_run=True)
    except Invalid as error:
        findings.insert(0, failed("API server", error.message))
    return ahead, findings


def _tell(chatbot: Chatbot, phase: Phase, ahead: Forecast, findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        screen.as_json(
            {
                "phase": phase,
                "rows": [vars(row) for row in ahead.rows],
                "changes": [{**_change(c), "later": c.later} for c in ahead.changes],
                "findings": plain(findings),
            }
        )
        return
    screen.table(("", chatbot.spec.phase.upper(), phase.upper()), ((r.what, r.before, r.after) for r in ahead.rows))
    screen.say("")
    rows = [(c.verb, f"{c.ref.kind}/{c.ref.name}", _when(c), c.detail) for c in ahead.changes]
    screen.table(("CHANGE", "OBJECT", "WHEN", "WHAT"), rows)
    screen.say("")
    screen.findings(findings)


def _when(change: Change) -> str:
    return "" if change.verb == "keep" else "later" if change.later else "at once"


def _change(change: Change) -> dict[str, str]:
    return {"verb": change.verb, "kind": change.ref.kind.name, "name": change.ref.name, "detail": change.detail}


def _arrived(client: Client, ref: Ref, generation: int, *, wait: bool, timeout: float, as_json: bool) -> int:
    """Wait until what is asked for serves. Ctrl-C ends the wait, not the switch."""
    if not wait:
        if not as_json:
            screen.say(f"{ref.name} is switched; kubectl chatbot status {ref.name} shows how far it is.")
        return 0
    try:
        chatbot, arrived = _watched(client, ref, generation, time.monotonic() + timeout)
    except KeyboardInterrupt:
        screen.tell(f"The switch goes on; kubectl chatbot status {ref.name} shows how far it is.")
        raise
    if as_json:
        screen.as_json(status.report(chatbot, ()))
    elif arrived:
        screen.say(f"{ref.name} serves phase {chatbot.status.serving_phase}.")
    if not arrived:
        why = "" if status.is_stuck(chatbot) else f"not within {timeout:g} s. "
        screen.tell(f"error: {why}{progress(chatbot)}", "red")
    return 0 if arrived else 1


def _watched(client: Client, ref: Ref, generation: int, end: float) -> tuple[Chatbot, bool]:
    out, told = screen.console(stderr=True), ""
    spinner = Spinner("dots")
    with Live(spinner, console=out, transient=True, auto_refresh=out.is_terminal):
        while True:
            try:
                chatbot = gather.parsed(gather.raw_chatbot(client, ref.namespace, ref.name))
            except Transient:
                if time.monotonic() > end:
                    raise
                time.sleep(LOOK_SECONDS)
                continue
            seen = chatbot.status.observed_generation >= generation
            if seen and (status.is_ready(chatbot) or status.is_stuck(chatbot)):
                return chatbot, status.is_ready(chatbot)
            if time.monotonic() > end:
                return chatbot, False
            now = progress(chatbot)
            if out.is_terminal:
                spinner.update(text=now)
            elif now != told:
                screen.tell(now)
                told = now
            time.sleep(LOOK_SECONDS)


def progress(chatbot: Chatbot) -> str:
    """How far the switch is, in one line."""
    if chatbot.status.download and status.current(chatbot):
        return f"Downloading  {status.progress(chatbot.status.download)}  {status.serving(chatbot)} serves meanwhile"
    if not status.current(chatbot):
        return "The operator has not looked yet."
    return f"{status.headline(chatbot)}: {status.explanation(chatbot)} ({status.serving(chatbot)} serves meanwhile)"
