"""Upgrades and rollbacks with Helm on a real API server."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.chart.conftest import CRD, FEW, Make, pods_of, ready
from tests.support.chatbot import Bot, manifest
from tests.support.cluster import ClusterAccess, await_definition
from tests.support.helm import CHART, previous_chart
from tests.support.operator import OperatorProcess, wait_for

pytestmark = pytest.mark.needs("fake nodes")


def generations(access: ClusterAccess, namespace: str) -> dict[str, int]:
    found = access.get("deployments", "-n", namespace)["items"]
    return {o["metadata"]["name"]: o["metadata"]["generation"] for o in found}


CHATBOTS = 20


def settled(process: OperatorProcess) -> None:
    """The operator has looked at all of them, and they are well."""
    ready(process)
    counted = f'chatbot_operator_chatbots{{phase="mock",ready="True"}} {CHATBOTS}.0'
    wait_for("all are known", lambda: counted in process.http("/metrics")[1], 30)
    wait_for("it leads", lambda: "chatbot_operator_leader 1.0" in process.http("/metrics")[1], 30)
    wait_for("all had their turn", lambda: reconciles(process) >= CHATBOTS, 30)


def reconciles(process: OperatorProcess) -> float:
    lines = process.http("/metrics")[1].splitlines()
    ended = [x for x in lines if x.startswith('chatbot_operator_reconciles_total{result="ok"}')]
    return float(ended[0].rpartition(" ")[2]) if ended else 0


def test_an_upgrade_from_the_previous_chart_and_a_rollback_touch_no_running_chatbot(
    release: Make, namespace: str, tmp_path: Path
) -> None:
    ours = release()
    access, before = ours.access, previous_chart(tmp_path)
    ours.put(chart=before)
    await_definition(access, CRD)
    access.apply(*(manifest(f"bot-{i}", **FEW) for i in range(CHATBOTS)), namespace=namespace)
    with ours.operator() as process:
        settled(process)
    were = pods_of(access, namespace), generations(access, namespace)
    assert len(were[0]) == CHATBOTS
    steps: tuple[Callable[[], str], ...] = (ours.put, lambda: ours.helm("rollback", ours.name, "1", "--wait"))
    for step in steps:
        step()
        with ours.operator() as process:
            settled(process)
        assert (pods_of(access, namespace), generations(access, namespace)) == were


def test_the_definition_follows_upgrades_and_rollbacks_whichever_helm_does_them(
    release: Make, namespace: str, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    shutil.copytree(CHART, older)
    crd = yaml.safe_load((older / "files/crd.yaml").read_text())
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["suspend"]
    (older / "files/crd.yaml").write_text(yaml.safe_dump(crd))
    ours = release()
    bot = Bot(ours.access, namespace)

    def knows_suspend() -> bool:
        bot.kubectl("patch", "chatbot/demo", "--type=merge", "-p", json.dumps({"spec": {"suspend": True}}))
        return "suspend" in bot.get("chatbot/demo")["spec"]

    ours.put(chart=older, version="helm3")
    await_definition(ours.access, CRD)
    bot.create(**FEW)
    assert not knows_suspend()
    ours.put(version="helm")
    wait_for("the definition is new", knows_suspend, 10)
    ours.helm("rollback", ours.name, "1", "--wait", version="helm3")
    wait_for("the definition is old", lambda: not knows_suspend(), 10)
