"""Phase local on a real node: a model is fetched from a Hub, served by the real llama.cpp, and never leaves again.

The Hub is a stand-in in a pod; the engine is llama.cpp's own server with tiny models, each of which says a sentence of
its own. Ollama is its stand-in, which stores blobs in Ollama's own layout, or the real one of the image that
CHATBOT_TEST_OLLAMA_IMAGE names, which the cluster must be able to pull.
"""

import os
from typing import Any

import openai
import pytest

from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess
from tests.support.load import service_url
from tests.support.model_hub import SENTENCES, ModelHub, gguf, ollama, reference
from tests.support.ollama_registry import model_bytes
from tests.support.operator import wait_for
from tests.support.private import SMALL, answers_of, job, local, pods, registry, say, serve_local, serve_mock

pytestmark = pytest.mark.needs("pods run", "storage")

REAL_OLLAMA = os.environ.get("CHATBOT_TEST_OLLAMA_IMAGE", "")


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


def test_models_of_ollama_are_fetched_served_and_listed_and_each_answers(chart: ClusterAccess, bot: Bot) -> None:
    image = ollama(chart)
    one, two = "The first of two.", "The second of two."
    weights = gguf if REAL_OLLAMA else model_bytes
    with registry(chart, bot.namespace, image, {"first": weights(one), "second": weights(two)}) as host:
        download = {"registry": host, "insecure": True}
        spec = {"models": ["first", "second"], "source": {"download": download}, "image": REAL_OLLAMA or image}
        spec["resources"] = {"requests": {"cpu": "500m", "memory": "2Gi"}} if REAL_OLLAMA else SMALL
        serve_mock(bot, local={**spec, "storage": {"size": "1Gi"}})
        bot.patch(phase="local")
        assert answers_of(bot, "first", 90) == [("mock", "A canned answer."), ("first", one)]
        bot.wait_ready(30)
        client = openai.OpenAI(base_url=f"{service_url(bot)}/v1", api_key="unused", max_retries=0, timeout=30)
        assert [model.id for model in client.models.list()] == ["first", "second"]
        messages: Any = [{"role": "user", "content": "hello"}]
        answer = client.chat.completions.create(model="second", messages=messages)
        assert (answer.model, str(answer.choices[0].message.content).strip()) == ("second", two)
        wait_for("the Job has gone", lambda: not job(bot), 30)
    # Without the registry a model that is here is served on.
    bot.kubectl("rollout", "restart", "deployment/demo-backend")
    bot.kubectl("rollout", "status", "deployment/demo-backend", "--timeout=90s")
    assert say(bot) == ("first", one)


def test_a_model_that_was_fetched_ahead_is_switched_to_without_a_download_and_is_kept_for_a_successor(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    model, text = reference("org/tiny"), SENTENCES["org/tiny"]
    serve_mock(bot, local=local(engine, prefetch=True))

    def fetched() -> bool:
        return bot.condition("ModelReady").get("reason") == "Downloaded" and not job(bot)

    wait_for("it is fetched while the mock serves", fetched, 60)
    assert say(bot)[0] == "mock"
    hub.forget()
    bot.patch(phase="local")
    assert answers_of(bot, model, 60) == [("mock", "A canned answer."), (model, text)]
    (claim,) = bot.get("pvc")["items"]
    bot.kubectl("delete", "chatbot/demo", "--wait=true")
    wait_for("its children are gone", lambda: not pods(bot), 60)
    serve_local(bot, local(engine))
    assert [c["metadata"]["uid"] for c in bot.get("pvc")["items"]] == [claim["metadata"]["uid"]]
    assert hub.asked() == []
