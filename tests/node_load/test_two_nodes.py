"""A private model on two real nodes: what the access mode of its claim means for where pods run and for a drain."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chatbot_operator.names import CHATBOT_LABEL
from devcluster.objects import PROVISIONER
from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess
from tests.support.load import OPEN_DOOR
from tests.support.model_hub import SENTENCES, ModelHub, reference
from tests.support.operator import wait_for
from tests.support.private import answers_of, asked_all_along, local, pods

pytestmark = pytest.mark.needs("pods run", "storage")

WELL = (reference("org/tiny"), SENTENCES["org/tiny"])
TWO = {"replicas": 2, "autoscaling": {"enabled": False}}


@pytest.fixture
def shared(chart: ClusterAccess) -> Iterator[str]:
    """A class whose volumes every node can mount: folders of the machine that all nodes run on."""
    chart.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "shared"},
            "provisioner": PROVISIONER,
            "volumeBindingMode": "Immediate",
        }
    )
    yield "shared"
    chart.kubectl("delete", "storageclass", "shared")


def serve_two(bot: Bot, engine: str, **storage: Any) -> list[str]:
    """Two pods with the model, both ready; their nodes."""
    bot.create(phase="local", access=OPEN_DOOR, local=local(engine, storage=storage), backend=TWO)
    bot.kubectl("wait", "--for=create", f"service/{bot.name}", "--timeout=20s")
    answers_of(bot, WELL[0], 90)
    bot.wait_ready(60)
    return nodes(bot)


def nodes(bot: Bot) -> list[str]:
    """The nodes of the backend's pods."""
    return sorted(pod["spec"].get("nodeName", "") for pod in pods(bot))


@contextmanager
def drained(bot: Bot, node: str, seconds: int) -> Iterator[bool]:
    """The chatbot's pods of a node evicted, and the node closed until the end; whether that was done in time."""
    selector = f"--pod-selector={CHATBOT_LABEL}={bot.name}"
    flags = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", f"--timeout={seconds}s")
    try:
        yield not bot.access.kubectl("drain", node, selector, *flags, check=False, timeout=seconds + 30).returncode
    finally:
        bot.access.kubectl("uncordon", node)


def test_a_claim_that_all_nodes_mount_lets_a_model_run_on_both_and_a_drain_is_not_noticed(
    bot: Bot, two_nodes: tuple[str, str], hub: ModelHub, engine: str, shared: str
) -> None:
    assert serve_two(bot, engine, storageClassName=shared, accessMode="ReadWriteMany") == sorted(two_nodes)
    (claim,) = bot.get("pvc")["items"]
    hub.forget()
    with asked_all_along(bot) as seen:
        with drained(bot, two_nodes[0], 150) as done:
            assert done
            assert set(nodes(bot)) == {two_nodes[1]}
        bot.wait_ready(60)
    assert seen == {WELL}
    assert hub.asked() == []
    assert [c["metadata"]["uid"] for c in bot.get("pvc")["items"]] == [claim["metadata"]["uid"]]


def test_a_claim_of_one_node_keeps_its_pods_together_and_a_drain_waits_rather_than_lose_an_answer(
    bot: Bot, two_nodes: tuple[str, str], hub: ModelHub, engine: str
) -> None:
    (node, other) = serve_two(bot, engine)
    assert node == other
    with asked_all_along(bot) as seen:
        with drained(bot, node, 20) as done:
            assert not done
            told = bot.wait_reason("Unschedulable", 60)
        wait_for("both pods are back", lambda: nodes(bot) == [node, node], 60)
        bot.wait_ready(90)
    assert "node" in told["message"]
    assert seen == {WELL}
