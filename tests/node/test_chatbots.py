"""Chatbots on a real node with the operator in the cluster, installed by its chart: they answer, change under load,
and say why a pod cannot run."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from devcluster import demo
from devcluster.progress import Plain
from tests.node.load import REPORT_MARK
from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess, make_namespace
from tests.support.operator import NAMESPACE, wait_for

pytestmark = pytest.mark.needs("pods run")

OPEN_DOOR = {"requestsPerMinute": 100_000, "concurrentRequests": 1000}
"""A load comes from one address; here the limits per client are not what is tested."""

LONG_REPLY = "This sentence is streamed word by word, so that it takes a while. " * 6


@pytest.fixture(scope="module")
def chart(node_cluster: ClusterAccess) -> ClusterAccess:
    """The cluster with the operator in it, as `make up` puts it there."""
    demo.install({**node_cluster.environment}, node_cluster.images, Plain())
    return node_cluster


@pytest.fixture
def bot(chart: ClusterAccess, node_namespace: str) -> Bot:
    return Bot(chart, node_namespace)


def service_url(bot: Bot) -> str:
    spec = bot.get("service/demo")["spec"]
    return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"


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


@dataclass(frozen=True)
class Load:
    """A running load."""

    bot: Bot

    def result(self) -> dict[str, Any]:
        """Stop it; how many short and streamed answers there were, and what was wrong."""
        self.bot.kubectl("exec", "load", "--", "touch", "/tmp/stop")  # noqa: S108 - of that pod alone

        def report() -> str:
            lines = self.bot.kubectl("logs", "load", check=False).splitlines()
            return next((x.removeprefix(REPORT_MARK) for x in lines if x.startswith(REPORT_MARK)), "")

        found: dict[str, Any] = json.loads(wait_for("the load has reported", report, 90))
        return found


@contextmanager
def load(bot: Bot, *, short: int = 4, streams: int = 4) -> Iterator[Load]:
    """Clients in a pod that ask without pause."""
    script = Path(__file__).with_name("load.py").read_text()
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "load"}, "data": {"load.py": script}}
    container = {
        "name": "load",
        "image": bot.access.images["chatbot-runtime"],
        "command": ["python", "/load/load.py", service_url(bot), str(short), str(streams)],
        "volumeMounts": [{"name": "load", "mountPath": "/load"}],
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "load", "configMap": {"name": "load"}}],
        "terminationGracePeriodSeconds": 1,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "load"}, "spec": spec}
    bot.access.apply(data, pod, namespace=bot.namespace)
    wait_for("the load runs", lambda: "started" in bot.kubectl("logs", "load", check=False), 60)
    try:
        yield Load(bot)
    finally:
        bot.kubectl("delete", "pod/load", "configmap/load", "--wait=false")


def test_a_change_under_load_loses_no_request_and_cuts_no_stream(bot: Bot) -> None:
    bot.create(mock={"replies": [LONG_REPLY]}, access=OPEN_DOOR).wait_ready(60)
    wait_for("the Service answers", lambda: say(bot), 20)
    first = {p["metadata"]["uid"] for p in bot.get("pods", "-l", "app.kubernetes.io/component=backend")["items"]}
    with load(bot) as running:
        bot.patch(mock={"replies": [LONG_REPLY + "Again."], "resources": {"requests": {"cpu": "60m"}}})
        bot.wait_ready(120)
        bot.patch(systemPrompt="Be brief.", mock={"resources": {"requests": {"cpu": "70m"}}})
        bot.wait_ready(120)
        bot.kubectl("rollout", "restart", "deployment/demo-backend")
        wait_for("the restart is seen", lambda: bot.condition("Ready").get("status") == "False", 20)
        bot.wait_ready(120)
        result = running.result()
    last = {p["metadata"]["uid"] for p in bot.get("pods", "-l", "app.kubernetes.io/component=backend")["items"]}
    assert first.isdisjoint(u for u in last)
    assert result["problems"] == []
    assert result["short"] > 100
    assert result["streams"] > 10


def test_an_image_that_cannot_be_pulled_is_said_and_the_old_pods_answer(bot: Bot) -> None:
    bot.create().wait_ready(60)
    wait_for("the Service answers", lambda: say(bot), 20)
    bot.patch(pods={"imageRegistry": "registry.invalid/mirror"})
    condition = bot.wait_reason("ImagePullFailed", 20)
    assert "registry.invalid/mirror" in condition["message"]
    assert say(bot)
    assert bot.condition("Available")["reason"] == "ServingPrevious"
    bot.patch(pods={"imageRegistry": None})
    bot.wait_ready(60)


def test_a_container_killed_at_its_memory_limit_is_said_and_the_old_pods_answer(bot: Bot) -> None:
    bot.create().wait_ready(60)
    wait_for("the Service answers", lambda: say(bot), 20)
    bot.patch(mock={"resources": {"requests": {"memory": "12Mi"}}})

    def said() -> dict[str, Any]:
        condition = bot.condition("Ready")
        return condition if condition.get("reason") in ("OutOfMemory", "CrashLooping") else {}

    condition = wait_for("Ready says why", said, 60)
    assert "container" in condition["message"]
    assert say(bot)
    bot.patch(mock={"resources": {"requests": {"memory": "128Mi"}}})
    bot.wait_ready(60)


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
