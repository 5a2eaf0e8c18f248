"""The operator in the cluster with a real node, as its chart installs it; its log is shown when a test fails."""

from collections.abc import Generator, Iterator

import pytest

from devcluster import demo
from devcluster.progress import Plain
from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess
from tests.support.model_hub import ModelHub, llama_server, model_hub
from tests.support.operator import NAMESPACE


@pytest.fixture(scope="session")
def chart(node_cluster: ClusterAccess) -> ClusterAccess:
    """The cluster with the operator in it, as `make up` puts it there."""
    demo.install({**node_cluster.environment}, node_cluster.images, Plain())
    return node_cluster


@pytest.fixture
def bot(chart: ClusterAccess, node_namespace: str) -> Bot:
    """A Chatbot of the test's own, not made yet."""
    return Bot(chart, node_namespace)


@pytest.fixture(scope="module")
def source(chart: ClusterAccess) -> Iterator[ModelHub]:
    """A Hub in the cluster; to be used through `hub`."""
    with model_hub(chart) as found:
        yield found


@pytest.fixture
def hub(source: ModelHub) -> Iterator[ModelHub]:
    """A Hub in the cluster, all well."""
    yield source
    source.behave()


@pytest.fixture(scope="module")
def engine(chart: ClusterAccess) -> str:
    """The image of our llama-server, which the cluster has."""
    return llama_server(chart)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    access = getattr(item, "funcargs", {}).get("node_cluster")
    if report.when == "call" and report.failed and isinstance(access, ClusterAccess):
        said = access.kubectl("logs", "-n", NAMESPACE, "deployment/chatbot-operator", "--tail=60", check=False)
        report.sections.append(("operator's log", said.stdout))
    return report
