"""Shows the operator's log when a test that uses it fails."""

from collections.abc import Generator

import pytest

from tests.support.cluster import ClusterAccess
from tests.support.operator import NAMESPACE


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    access = getattr(item, "funcargs", {}).get("node_cluster")
    if report.when == "call" and report.failed and isinstance(access, ClusterAccess):
        said = access.kubectl("logs", "-n", NAMESPACE, "deployment/chatbot-operator", "--tail=60", check=False)
        report.sections.append(("operator's log", said.stdout))
    return report
