"""`helm test` on a real node: the mock chatbot that it makes answers, and it notices when nobody does."""

import pytest

from chatbot_runtime.providers.mock import REPLIES
from devcluster import demo
from devcluster.progress import Plain
from tests.support.cluster import ClusterAccess
from tests.support.helm import VERSIONS, helm
from tests.support.operator import NAMESPACE, wait_for

pytestmark = pytest.mark.needs("pods run")

OPERATORS, CHATBOTS = "app.kubernetes.io/name=chatbot-operator", "app.kubernetes.io/managed-by=chatbot-operator"
TEST = ("test", demo.RELEASE, "--namespace", NAMESPACE, "--timeout", "120s")


def _pods(chart: ClusterAccess, labels: str) -> str:
    return chart.kubectl("get", "pods", "-n", NAMESPACE, "-l", labels, "-o", "name").stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_helm_test_shows_the_answer_of_the_chatbot_that_it_made(chart: ClusterAccess, version: str) -> None:
    ended = helm(version, chart.environment).run(*TEST)
    assert ended.returncode == 0, ended.stderr
    assert any(reply in ended.stdout + ended.stderr for reply in REPLIES), "its log is shown"
    left = chart.kubectl("get", "chatbots,jobs", "-n", NAMESPACE, "-o", "name").stdout
    assert left == ""


def test_helm_test_fails_when_nobody_makes_the_chatbot_answer(chart: ClusterAccess) -> None:
    environment = dict(chart.environment)
    demo.install(environment, chart.images, Plain(), ("replicas=0", "test.waitSeconds=5"))
    try:
        # Helm does not wait for what goes: the operator still operates, and the chatbot of an earlier test answers.
        wait_for("nobody is left to answer", lambda: not _pods(chart, OPERATORS) and not _pods(chart, CHATBOTS), 90)
        ended = helm("helm", environment).run(*TEST)
        assert ended.returncode != 0
        assert "cannot be reached" in ended.stdout + ended.stderr
    finally:
        chart.kubectl("delete", "job,chatbot", "-n", NAMESPACE, "--all", "--ignore-not-found")
        demo.install(environment, chart.images, Plain())
