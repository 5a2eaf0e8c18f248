"""Chatbots on a real node with the operator in the cluster, installed by its chart: they answer, change, survive kills,
and outlive the operator."""

import subprocess

import openai
import pytest

from devcluster import demo
from devcluster.progress import Plain
from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess, make_namespace
from tests.support.load import service_url
from tests.support.operator import NAMESPACE, wait_for

pytestmark = pytest.mark.needs("pods run")


def client(bot: Bot) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service_url(bot)}/v1", api_key="unused", max_retries=0, timeout=30)


def say(bot: Bot, text: str = "hello") -> str:
    """A whole answer through the Service; empty while nothing answers."""
    try:
        answer = client(bot).chat.completions.create(model="demo", messages=[{"role": "user", "content": text}])
    except openai.APIConnectionError:
        return ""
    return answer.choices[0].message.content or ""


def test_a_manifest_becomes_a_chatbot_that_streams_answers(bot: Bot) -> None:
    bot.create(mock={"replies": ["Good morning from the cluster."]}).wait_ready(60)
    wait_for("the Service answers", lambda: say(bot), 20)
    stream = client(bot).chat.completions.create(
        model="", messages=[{"role": "user", "content": "hi"}], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == "Good morning from the cluster."
    assert {c.model for c in chunks} == {"mock"}
    assert chunks[-1].usage is not None
    status = bot.status()
    assert (status["servingPhase"], status["readyReplicas"], status["model"]["engine"]) == ("mock", 2, "mock")
    assert [m.id for m in client(bot).models.list()] == ["mock"]


def test_edited_replies_are_answered_by_the_same_pods_within_seconds(bot: Bot) -> None:
    bot.create(mock={"replies": ["before"]}).wait_ready(60)
    wait_for("the first answer", lambda: say(bot) == "before", 20)
    pods = {p["metadata"]["uid"] for p in bot.get("pods")["items"]}
    bot.patch(mock={"replies": ["after"]})
    bot.wait_ready(30)
    answers = {say(bot) for _ in range(10)}
    assert answers == {"after"}
    assert {p["metadata"]["uid"] for p in bot.get("pods")["items"]} == pods


def test_a_pod_that_is_killed_is_replaced_and_the_operator_may_be_killed_too(bot: Bot) -> None:
    bot.create().wait_ready(60)
    wait_for("the Service answers", lambda: say(bot), 20)
    gone = bot.get("pods")["items"][0]["metadata"]
    bot.kubectl("delete", "pod", gone["name"], "--grace-period=0", "--force")
    bot.access.kubectl("delete", "pod", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=chatbot-operator", "--force")
    bot.wait_ready(90)
    alive = {p["metadata"]["uid"] for p in bot.get("pods")["items"] if "deletionTimestamp" not in p["metadata"]}
    assert gone["uid"] not in alive
    assert len(alive) == 2
    bot.patch(mock={"replies": ["after the operator's death"]})
    bot.wait_ready(60)
    assert say(bot) == "after the operator's death"


def test_six_chatbots_at_once_become_ready_on_one_node(chart: ClusterAccess) -> None:
    with make_namespace(chart) as namespace:
        bots = [Bot(chart, namespace, f"bot-{i}").create() for i in range(6)]
        for bot in bots:
            bot.wait_ready(90)


def test_the_chart_is_upgraded_in_place_and_uninstalling_leaves_the_chatbots(bot: Bot) -> None:
    bot.create().wait_ready(60)
    wait_for("the Service answers", lambda: say(bot), 20)
    before = bot.get("deployment/demo-backend")["metadata"]["generation"]
    environment = dict(bot.access.environment)
    demo.install(environment, bot.access.images, Plain())
    bot.wait_ready(60)
    assert bot.get("deployment/demo-backend")["metadata"]["generation"] == before
    helm = ("helm", "uninstall", demo.RELEASE, "--namespace", NAMESPACE, "--wait")
    subprocess.run(helm, env=environment, check=True, capture_output=True)
    try:
        assert say(bot)
        assert bot.get("chatbot/demo")["status"]["servingPhase"] == "mock"
    finally:
        demo.install(environment, bot.access.images, Plain())
    bot.patch(mock={"replies": ["installed again"]})
    bot.wait_ready(90)
    assert say(bot) == "installed again"
