"""Phase hf on a real node: the token comes, is wrong, is mended; the provider dies and comes back; people chat on.

CHATBOT_LOAD=long keeps the provider dead for five minutes.
"""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess
from tests.support.load import OPEN_DOOR, service_url
from tests.support.operator import wait_for
from tests.support.provider import MODEL, SHORT, Provider, provider

pytestmark = pytest.mark.needs("pods run")

GOOD = "hf_the_canary_that_must_not_sing"
MOCK = {"replies": ["A canned answer."], "tokensPerSecond": 1000}
SECONDS = 30
OUTAGE_SECONDS = 300 if os.environ.get("CHATBOT_LOAD") == "long" else 0
"""How long the provider is dead at least; what is done meanwhile takes half a minute."""
CHECK = ("python", "-m", "chatbot_runtime", "check", "--output", "json")


@pytest.fixture(scope="module")
def router(chart: ClusterAccess) -> Iterator[Provider]:
    with provider(chart, GOOD) as found:
        yield found


@pytest.fixture
def asked(router: Provider) -> Iterator[Provider]:
    yield router
    router.start()


def secret(bot: Bot, token: str) -> None:
    metadata = {"name": "hf-token"}
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": token}}
    bot.access.apply(made, namespace=bot.namespace)


def say(bot: Bot) -> tuple[str, str, str | None]:
    """Model, text and header of the fallback of one answer; empty while nothing answers."""
    client = openai.OpenAI(base_url=f"{service_url(bot)}/v1", api_key="unused", max_retries=0, timeout=30)
    try:
        raw = client.chat.completions.with_raw_response.create(
            model="demo", messages=[{"role": "user", "content": "hello"}]
        )
    except openai.APIConnectionError:
        return "", "", None
    answer = raw.parse()
    return answer.model, answer.choices[0].message.content or "", raw.headers.get("x-chatbot-fallback")


def told_while_asked(bot: Bot, reason: str) -> dict[str, Any]:
    """Ready says the reason while people ask: a pod's circuit opens by their questions only, and old pods that are
    on their way out take some of them."""

    def told() -> dict[str, Any]:
        assert say(bot) == ("mock", "A canned answer.", reason)
        condition = bot.condition("Ready")
        return condition if condition.get("reason") == reason else {}

    found: dict[str, Any] = wait_for(f"Ready says {reason}", told, SECONDS)
    return found


def serve_mock(bot: Bot, **spec: Any) -> None:
    bot.create(mock=MOCK, access=OPEN_DOOR, backend={"autoscaling": {"maxReplicas": 2}}, **spec).wait_ready(60)
    wait_for("the mock answers", lambda: say(bot)[0] == "mock", 20)


def test_the_token_comes_late_is_wrong_and_is_mended_and_nobody_notices(bot: Bot, asked: Provider) -> None:
    serve_mock(bot, hf=asked.hf())
    bot.patch(phase="hf")
    condition = bot.wait_reason("TokenSecretMissing", SECONDS)
    assert f"kubectl create secret generic -n {bot.namespace} hf-token" in condition["message"]
    assert bot.status()["servingPhase"] == "mock"
    secret(bot, "hf_wrong")
    condition = bot.wait_reason("TokenRejected", SECONDS)
    assert "What served before goes on." in condition["message"]
    new = bot.get("pods", "-l", "chatbot-operator.dev/phase=hf")["items"][0]["metadata"]["name"]
    checked = json.loads(bot.kubectl("exec", new, "--", *CHECK, check=False))
    assert (checked["usable"], checked["reason"]) == (False, "TokenRejected")
    assert say(bot) == ("mock", "A canned answer.", None)
    secret(bot, GOOD)
    bot.wait_ready(SECONDS)
    wait_for("the hosted model answers", lambda: say(bot) == (MODEL, SHORT, None), 10)
    assert bot.status()["servingPhase"] == "hf"
    everything = bot.kubectl("get", "all,events,configmaps,chatbots", "-o", "yaml")
    logs = bot.kubectl("logs", "-l", "app.kubernetes.io/component=backend", "--prefix", "--tail=-1")
    operator = bot.access.kubectl("logs", "-n", "chatbot-system", "deployment/chatbot-operator").stdout
    assert GOOD not in everything + logs + operator


@pytest.mark.timeout(300 + OUTAGE_SECONDS)
def test_the_provider_dies_pods_restart_meanwhile_and_all_is_well_again_by_itself(bot: Bot, asked: Provider) -> None:
    secret(bot, GOOD)
    serve_mock(bot, hf=asked.hf(timeoutSeconds=5), fallback={"retryAfterSeconds": 5})
    bot.patch(phase="hf")
    bot.wait_ready(60)
    asked.stop()
    dead_until = time.monotonic() + OUTAGE_SECONDS
    wait_for("the fallback answers", lambda: say(bot) == ("mock", "A canned answer.", "ProviderUnavailable"), 10)
    for _ in range(4):
        assert say(bot)[:2] == ("mock", "A canned answer.")
    bot.kubectl("rollout", "restart", "deployment/demo-backend")
    bot.kubectl("rollout", "status", "deployment/demo-backend", "--timeout=60s")
    for _ in range(8):
        assert say(bot) == ("mock", "A canned answer.", "ProviderUnavailable")
    condition = told_while_asked(bot, "ProviderUnavailable")
    assert bot.status()["readyReplicas"] == 2
    assert "The demo answers meanwhile." in condition["message"]
    assert bot.condition("FallbackActive")["status"] == "True"
    while time.monotonic() < dead_until:
        assert say(bot) == ("mock", "A canned answer.", "ProviderUnavailable")
    asked.start()
    wait_for("the hosted model answers again", lambda: say(bot) == (MODEL, SHORT, None), SECONDS + 5)
    wait_for("by every pod", lambda: all(say(bot)[0] == MODEL for _ in range(8)), SECONDS + 5)
    bot.wait_ready(SECONDS)
