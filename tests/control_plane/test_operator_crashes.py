"""The operator is killed at any moment, or there are two of it: the end is the same."""

import random
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.control_plane.conftest import FULL, Operated
from tests.support.chatbot import Bot, now, operator_calls, tally
from tests.support.cluster import make_namespace
from tests.support.operator import OperatorProcess, wait_for

SEED = 20261125
MOMENTS = 10 if FULL else 3
CREATE_SECONDS = 1.5
"""A create's writes happen within this time; the moments of death are spread over it."""

RECOVERED_SECONDS = 30
CHANGE: dict[str, Any] = {
    "systemPrompt": "Be brief.",
    "mock": {"resources": {"requests": {"cpu": "50m"}}},
    "backend": {"autoscaling": {"maxReplicas": 4}},
    "expose": {"port": 8080},
}


def moments(salt: int) -> list[float]:
    rng = random.Random(SEED + salt)
    return [rng.uniform(0, CREATE_SECONDS) for _ in range(MOMENTS)]


def die_after(operator: OperatorProcess, seconds: float) -> None:
    """Let it work for a moment, kill it, start it again."""
    end = time.monotonic() + seconds
    wait_for("its moment has come", lambda: time.monotonic() >= end, seconds + 5, 0.005)
    operator.kill()
    operator.start()


@pytest.fixture(scope="module")
def reference(operated: Operated) -> tuple[dict[str, Any], dict[str, Any]]:
    """The end states of a create and of a change that nothing disturbs."""
    with make_namespace(operated.access) as namespace:
        bot = Bot(operated.access, namespace).create()
        bot.wait_ready(60)
        created = bot.state()
        bot.patch(**CHANGE)
        bot.wait_ready(60)
        return created, bot.state()


@pytest.mark.parametrize("moment", moments(1), ids=lambda m: f"{m:.3f}s")
def test_killed_during_a_create_it_ends_as_if_it_had_not_been(
    operated: Operated, reference: tuple[dict[str, Any], dict[str, Any]], moment: float
) -> None:
    with make_namespace(operated.access) as namespace:
        started = now()
        bot = Bot(operated.access, namespace).create()
        die_after(operated.operator, moment)
        bot.wait_ready(RECOVERED_SECONDS)
        assert bot.state() == reference[0]
        assert duplicates(operated, started, namespace) == []


@pytest.mark.parametrize("moment", moments(2), ids=lambda m: f"{m:.3f}s")
def test_killed_during_a_change_it_ends_as_if_it_had_not_been(
    operated: Operated, reference: tuple[dict[str, Any], dict[str, Any]], moment: float
) -> None:
    with make_namespace(operated.access) as namespace:
        started = now()
        bot = Bot(operated.access, namespace).create()
        bot.wait_ready(60)
        bot.patch(**CHANGE)
        die_after(operated.operator, moment)
        bot.wait_ready(RECOVERED_SECONDS)
        assert bot.state() == reference[1]
        assert duplicates(operated, started, namespace) == []


def duplicates(operated: Operated, since: Any, namespace: str) -> list[Any]:
    """Objects that were made more than once, and deletes."""
    calls = operator_calls(operated.access, since, namespace=namespace)
    made = Counter(
        (c["objectRef"]["resource"], c["objectRef"].get("name")) for c in calls if c["responseStatus"]["code"] == 201
    )
    made = Counter({k: n for k, n in made.items() if k[0] != "events"})
    return [k for k, n in made.items() if n > 1] + [c for c in tally(calls) if c[0] == "delete"]


def test_a_restart_over_settled_chatbots_writes_nothing(operated: Operated) -> None:
    with make_namespace(operated.access) as namespace:
        bots = [Bot(operated.access, namespace, f"bot-{i}").create() for i in range(5)]
        for bot in bots:
            bot.wait_ready(60)
        operated.operator.kill()
        since = now()
        operated.operator.start()
        wait_for("it works again", lambda: "leader 1.0" in operated.operator.http("/metrics")[1], 30)

        def looked_at_all() -> bool:
            text = operated.operator.http("/metrics")[1]
            line = next((x for x in text.splitlines() if x.startswith("chatbot_operator_reconciles_total{")), "")
            return bool(line) and float(line.rsplit(" ", 1)[1]) >= len(bots)

        wait_for("every chatbot was looked at", looked_at_all, 30)
        calls = tally(operator_calls(operated.access, since, namespace=namespace))
        assert [c for c in calls if c[0] != "list"] == []


def test_a_second_process_fills_its_store_and_writes_nothing_until_the_first_is_gone(operated: Operated) -> None:
    first = operated.operator
    log = first.log_path.with_name("second.log")
    second = replace(first, log_path=log, settings={**first.settings, "IDENTITY": "second"}, process=None)
    wait_for("the first one leads", lambda: "leader 1.0" in first.http("/metrics")[1], 30)
    second.start()
    try:
        wait_for("the second is synced", lambda: second.http("/readyz")[0] == 200, 30)
        with make_namespace(operated.access) as namespace:
            bot = Bot(operated.access, namespace).create()
            bot.wait_ready(30)
            metrics = second.http("/metrics")[1]
            assert "chatbot_operator_leader 0.0" in metrics
            assert 'chatbots{phase="mock"' in metrics  # its store is filled
            writes = [x for x in metrics.splitlines() if 'verb="patch"' in x or 'verb="create"' in x]
            assert writes == []
            first.stop()
            # Whoever is told to stop gives the Lease back: the next one need not wait for the end of its term.
            assert any(e["message"] == "stopping" for e in first.lines())
            wait_for("the second leads", lambda: "leader 1.0" in second.http("/metrics")[1], 20)
            bot.patch(systemPrompt="Be brief.")
            bot.wait_ready(30)
            assert "Be brief." in bot.get("configmap/demo-backend")["data"]["settings.json"]
    finally:
        second.stop()
        if not first.alive():
            first.start()
