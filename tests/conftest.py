"""Fixtures for every test: a control plane of its own, the shared real node, a namespace. It must not test anything."""

from collections.abc import Iterator

import pytest

from devcluster.cluster import Cluster
from devcluster.errors import DevClusterError
from devcluster.images.builder import build_all
from devcluster.node import Nodes
from devcluster.progress import Plain
from tests.support.cluster import (
    ABILITIES,
    ClusterAccess,
    access_of,
    fresh_control_plane,
    given_access,
    make_namespace,
    short_folder,
)

CLUSTER_FIXTURES = ("control_plane", "node_cluster")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"needs(*abilities): skip unless the cluster has all of them; known are {', '.join(sorted(ABILITIES))}",
    )


@pytest.fixture(autouse=True)
def _skip_without_needed_abilities(request: pytest.FixtureRequest) -> None:
    needed = {ability for marker in request.node.iter_markers("needs") for ability in marker.args}
    if not needed:
        return
    if unknown := needed - ABILITIES:
        pytest.fail(f"unknown abilities in @pytest.mark.needs: {', '.join(sorted(unknown))}")
    used = next((name for name in CLUSTER_FIXTURES if name in request.fixturenames), None)
    if used is None:
        pytest.fail("@pytest.mark.needs on a test that uses neither control_plane nor node_cluster")
    access: ClusterAccess = request.getfixturevalue(used)
    if missing := needed - access.abilities:
        pytest.skip(f"the cluster lacks: {', '.join(sorted(missing))}")


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ClusterAccess]:
    """A control plane of this test file's own with two fake nodes that take ordinary pods."""
    if given := given_access():
        yield given
        return
    with fresh_control_plane() as access:
        yield access


@pytest.fixture(scope="session")
def node_cluster() -> Iterator[ClusterAccess]:
    """The test run's cluster with one real node, metrics, storage and load balancer addresses, our images loaded."""
    if given := given_access():
        yield given
        return
    try:
        Nodes.require_abilities(Plain())
    except DevClusterError as error:
        pytest.skip(f"no real node here: {error}")
    images = build_all(Plain())
    references = {name: image.reference for name, image in images.items()}
    with short_folder() as folder:
        cluster = Cluster.start(
            "test-node", level="node", state_dir=folder, images=images.values(), progress=Plain(), lifetime="process"
        )
        try:
            yield access_of(cluster, references)
        finally:
            cluster.remove()


@pytest.fixture
def namespace(control_plane: ClusterAccess) -> Iterator[str]:
    """A fresh namespace on this file's control plane."""
    with make_namespace(control_plane) as name:
        yield name


@pytest.fixture
def node_namespace(node_cluster: ClusterAccess) -> Iterator[str]:
    """A fresh namespace on the cluster with a real node."""
    with make_namespace(node_cluster) as name:
        yield name
