"""The fixtures of `tests/node`; these files have a cluster of their own, because they wear its nodes out."""

from collections.abc import Iterator

import pytest

from devcluster.cluster import Cluster
from devcluster.images.builder import build_all
from devcluster.progress import Plain
from tests.node.conftest import bot, chart, engine, hub, pytest_runtest_makereport, source
from tests.support.cluster import ClusterAccess

__all__ = ["bot", "chart", "engine", "hub", "pytest_runtest_makereport", "source"]


@pytest.fixture(scope="module")
def two_nodes(chart: ClusterAccess) -> Iterator[tuple[str, str]]:
    """The cluster's node and a second one, which is closed again at the end."""
    cluster = chart.cluster
    if cluster is None:
        pytest.skip("the cluster was given, so its nodes are not ours to drain")
    second = _second_node(cluster)
    yield "node1", second
    chart.kubectl("cordon", second)


def _second_node(cluster: Cluster) -> str:
    if "node2" not in cluster.nodes.names():
        return cluster.add_node(build_all(Plain()).values())
    cluster.uncordon("node2")
    return "node2"
