"""Uninstalling, and `helm test`, on a real API server."""

import pytest

from tests.chart.conftest import CRD, FEW, RELEASE, Make, pods_of, ready
from tests.support.chatbot import Bot
from tests.support.helm import CHART, VERSIONS
from tests.support.operator import wait_for

pytestmark = pytest.mark.needs("fake nodes")


def test_uninstalling_leaves_the_chatbots_and_the_next_install_takes_them_over(release: Make, namespace: str) -> None:
    ours = release()
    ours.put(version="helm3")
    bot = Bot(ours.access, namespace)
    with ours.operator():
        bot.create(**FEW).wait_ready(30)
    were = pods_of(ours.access, namespace)
    ours.uninstall()
    assert bot.get("chatbot/demo")["status"]["servingPhase"] == "mock"
    assert pods_of(ours.access, namespace) == were
    other = release()
    for version in VERSIONS:
        refused = other.put(version=version, check=False)
        assert CRD in refused
        assert "ownership" in refused
    other.put(more="--take-ownership")
    with other.operator():
        bot.patch(mock={"replies": ["taken over"]})
        bot.wait_ready(30)
    assert pods_of(ours.access, namespace) == were
    other.put("crds.install=false")
    assert bot.get("chatbot/demo")["status"]["servingPhase"] == "mock"


def test_an_uninstall_without_chatbots_leaves_the_definition_alone_or_nothing(release: Make) -> None:
    ours = release()
    listed = "clusterroles,clusterrolebindings,deployments,services,leases,roles,rolebindings,networkpolicies,pdb,crd"
    label = f"app.kubernetes.io/instance={RELEASE}"

    def left() -> list[str]:
        labelled = ours.access.kubectl("get", listed, "-A", "-l", label, "-o", "name").stdout.split()
        definition = ours.access.kubectl("get", "crd", CRD, "--ignore-not-found", "-o", "name").stdout.split()
        return labelled + definition

    ours.put("replicas=2")
    assert len(left()) >= 10
    tests = ours.helm("template", RELEASE, str(CHART), "--show-only", "templates/tests/chatbot.yaml")
    accepted = ours.access.kubectl("create", "--dry-run=server", "-f", "-", input=tests).stdout
    assert accepted.count("created") == 2, (
        "Pod Security restricted and the rules of Chatbots allow what `helm test` makes"
    )
    ours.uninstall()
    assert left() == [f"customresourcedefinition.apiextensions.k8s.io/{CRD}"]
    ours.put("crds.keep=false")
    ours.uninstall()
    wait_for("the definition is gone", lambda: not left(), 20)


def test_helm_test_makes_a_chatbot_asks_it_and_takes_it_away(release: Make) -> None:
    """On nodes that only seem to run pods, so whoever asks seems to be answered; tests/node has a real one."""
    ours = release()
    ours.put("test.waitSeconds=60")
    with ours.operator() as process:
        ready(process)
        for version in VERSIONS:
            said = ours.helm("test", RELEASE, "--timeout", "60s", version=version)
            assert said.count("Phase:          Succeeded") == 2, said
    left = ours.access.kubectl("get", "chatbots,jobs", "-n", ours.namespace, "-o", "name").stdout
    assert left == ""
