"""Phase local on a real node: a model is fetched from a Hub, served by the real llama.cpp, and never leaves again.

The Hub is a stand-in in a pod; the engine is llama.cpp's own server with tiny models, each of which says a sentence of
its own. Ollama is its stand-in, which stores blobs in Ollama's own layout.
"""

import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess
from tests.support.load import OPEN_DOOR, service_url
from tests.support.model_hub import SENTENCES, ModelHub, llama_server, model_hub, reference
from tests.support.operator import wait_for

pytestmark = pytest.mark.needs("pods run", "storage")

MOCK = {"replies": ["A canned answer."], "tokensPerSecond": 1000}
SMALL = {"requests": {"cpu": "200m", "memory": "320Mi"}}
CAUSE_SECONDS = 15
"""A reason is told this long after its cause at most."""


@pytest.fixture(scope="module")
def source(chart: ClusterAccess) -> Iterator[ModelHub]:
    with model_hub(chart) as found:
        yield found


@pytest.fixture
def hub(source: ModelHub) -> Iterator[ModelHub]:
    yield source
    source.behave()


@pytest.fixture(scope="module")
def engine(chart: ClusterAccess) -> str:
    """The engine's image."""
    return llama_server(chart)


def local(engine: str, repository: str = "org/tiny", **more: Any) -> dict[str, Any]:
    """`spec.local` of a small model."""
    storage = {"size": "1Gi"} | more.pop("storage", {})
    models = [reference(repository)]
    return {"models": models, "image": engine, "resources": SMALL, "contextLength": 512, "storage": storage, **more}


def serve_mock(bot: Bot, **spec: Any) -> Bot:
    spec = {"mock": MOCK, "access": OPEN_DOOR, "backend": {"autoscaling": {"maxReplicas": 1}}} | spec
    bot.create(**spec).wait_ready(60)
    wait_for("the mock answers", lambda: say(bot) == ("mock", "A canned answer."), 20)
    return bot


def say(bot: Bot) -> tuple[str, str]:
    """Model and text of one answer; a reason of ours in place of them where there is none."""
    client = openai.OpenAI(base_url=f"{service_url(bot)}/v1", api_key="unused", max_retries=0, timeout=30)
    try:
        answer = client.chat.completions.create(model=bot.name, messages=[{"role": "user", "content": "hello"}])
    except openai.APIStatusError as error:
        return "", str(error.code)
    except openai.APIConnectionError:
        return "", "no connection"
    return answer.model, (answer.choices[0].message.content or "").strip()


def answers_of(bot: Bot, model: str, timeout: float) -> list[tuple[str, str]]:
    """Asks until `model` answers; all answers so far, each only once in a row."""
    seen: list[tuple[str, str]] = []

    def arrived() -> bool:
        answer = say(bot)
        if not seen or seen[-1] != answer:
            seen.append(answer)
        return answer[0] == model

    wait_for(f"{model} answers, after {seen}", arrived, timeout)
    return seen


def job(bot: Bot) -> dict[str, Any]:
    """The Job of the download; nothing if there is none."""
    found = bot.get("jobs")["items"]
    return dict(found[0]) if found else {}


def pods(bot: Bot) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = bot.get("pods", "-l", "app.kubernetes.io/component=backend")["items"]
    return found


def test_from_mock_to_a_private_model_by_one_edit_while_people_ask(bot: Bot, hub: ModelHub, engine: str) -> None:
    hub.behave(rate=150_000)
    serve_mock(bot, local=local(engine, "org/slow"))
    bot.patch(phase="local")
    wait_for("the progress is told", lambda: bot.status().get("download", {}).get("completedBytes", 0) > 0, 30)
    assert bot.status()["servingPhase"] == "mock"
    wide = bot.kubectl("get", "chatbot/demo", "-o", "wide")
    assert "Downloading" in wide
    model, text = reference("org/slow"), SENTENCES["org/slow"]
    assert answers_of(bot, model, 90) == [("mock", "A canned answer."), (model, text)]
    bot.wait_ready(30)
    status = bot.status()
    assert status["servingPhase"] == "local"
    assert status["model"]["name"] == model
    assert status["model"]["sizeBytes"] > 3_000_000
    assert status["model"]["digest"].startswith("sha256:")
    assert "download" not in status
    events = {e["reason"] for e in bot.get("events.events.k8s.io")["items"]}
    assert {"ModelDownloadStarted", "ModelDownloaded", "PhaseChanged"} <= events


def test_a_model_that_is_here_is_not_fetched_again_by_new_pods_and_nobody_gets_a_canned_answer(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    model, text = reference("org/tiny"), SENTENCES["org/tiny"]
    bot.create(phase="local", mock=MOCK, access=OPEN_DOOR, local=local(engine), fallback={"to": "mock"})
    answers_of(bot, model, 90)
    bot.wait_ready(30)
    wait_for("the Job has gone", lambda: not job(bot), 30)
    (claim,) = bot.get("pvc")["items"]
    hub.forget()
    bot.kubectl("delete", pods(bot)[0]["metadata"]["name"].join(("pod/", "")), "--wait=false")
    answers_of(bot, model, 60)
    bot.kubectl("rollout", "restart", "deployment/demo-backend")
    end = time.monotonic() + 25
    while time.monotonic() < end or bot.condition("Ready").get("status") != "True":
        answer = say(bot)
        assert answer in ((model, text), ("", "no connection")), answer
        assert time.monotonic() < end + 60
    assert hub.asked() == []
    assert job(bot) == {}
    assert [c["metadata"]["uid"] for c in bot.get("pvc")["items"]] == [claim["metadata"]["uid"]]
