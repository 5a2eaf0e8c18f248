"""A12 of the quality goals, on a real node: the chart of the commit before is upgraded, rolled back and upgraded again
under 20 running chatbots, and nobody who chats notices."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from devcluster import demo
from devcluster.progress import Plain
from tests.support.chatbot import Bot, manifest
from tests.support.cluster import ClusterAccess
from tests.support.helm import helm, previous_chart
from tests.support.load import OPEN_DOOR, load
from tests.support.operator import NAMESPACE, wait_for

pytestmark = pytest.mark.needs("pods run")

CHATBOTS, UNDER_LOAD = 20, 4
REPLY = "This sentence is streamed word by word, so that it takes a while. " * 4 + "The end."
SPEC = {
    "mock": {"replies": [REPLY], "tokensPerSecond": 20, "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}},
    "access": OPEN_DOOR,
    "backend": {"replicas": 1, "autoscaling": {"enabled": False}},
}


@pytest.fixture
def before(chart: ClusterAccess, tmp_path: Path) -> Iterator[ClusterAccess]:
    """The chart of the commit before, as a first install; the current one again at the end."""
    environment = dict(chart.environment)
    old = previous_chart(tmp_path)
    demo.call(environment, "helm", "uninstall", demo.RELEASE, "--namespace", NAMESPACE, "--wait")
    try:
        demo.install(environment, chart.images, Plain(), chart=str(old))
        yield chart
    finally:
        demo.install(environment, chart.images, Plain())


def pods(access: ClusterAccess, namespace: str) -> dict[str, tuple[str, int]]:
    """The chatbots' pods by name: which they are, and how often their containers were started anew."""
    found = access.get("pods", "-n", namespace, "-l", "app.kubernetes.io/name=chatbot")["items"]
    return {
        p["metadata"]["name"]: (p["metadata"]["uid"], sum(c["restartCount"] for c in p["status"]["containerStatuses"]))
        for p in found
    }


@pytest.mark.timeout(600)
def test_a12_an_upgrade_of_the_chart_restarts_no_pod_and_loses_no_request(
    before: ClusterAccess, node_namespace: str
) -> None:
    bots = [Bot(before, node_namespace, f"bot-{i}") for i in range(CHATBOTS)]
    before.apply(*(manifest(bot.name, **SPEC) for bot in bots), namespace=node_namespace)
    for bot in bots:
        bot.wait_ready(240)
    were, environment = pods(before, node_namespace), dict(before.environment)
    assert len(were) == CHATBOTS
    with ExitStack() as stack:
        running = [
            stack.enter_context(load(bot, {"mock": [REPLY]}, short=1, streams=1, pause=0.2, longest_seconds=500))
            for bot in bots[:UNDER_LOAD]
        ]
        for each in running:
            each.wait_more(1, 1)
        demo.install(environment, before.images, Plain())
        looked_at_all(bots, "after the upgrade")
        helm("helm", environment)("rollback", demo.RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=180s")
        looked_at_all(bots, "after the rollback")
        demo.install(environment, before.images, Plain())
        looked_at_all(bots, "after the second upgrade")
        for each in running:
            each.wait_more(5, 2)
        tallies = [each.result() for each in running]
    for tally in tallies:
        assert tally.problems == []
        assert tally.short >= 20
        assert tally.streams >= 5
    assert pods(before, node_namespace) == were


def looked_at_all(bots: list[Bot], prompt: str) -> None:
    """The operator that runs now has brought in a change to every one, which needs no new pod."""
    for bot in bots:
        bot.patch(systemPrompt=prompt)
    for bot in bots:
        wait_for(f"{bot.name} has the new prompt", lambda bot=bot: bot.condition("Ready").get("status") == "True", 180)
