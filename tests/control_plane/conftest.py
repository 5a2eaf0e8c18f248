"""The operator on this file's control plane, shared by its tests; each test has a namespace of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.cluster import ClusterAccess
from tests.support.operator import FakePods, OperatorProcess, operator_on

FAST = {
    # Long waits, scaled down: what they wait for is the same.
    "RESYNC_SECONDS": "5",
    "EVENTS_LOOK_SECONDS": "2",
    "RETRY_LONGEST_SECONDS": "3",
    "PROGRESS_DEADLINE_SECONDS": "20",
}


@dataclass(frozen=True)
class Operated:
    """A control plane with the operator at work on it."""

    access: ClusterAccess
    operator: OperatorProcess
    pods: FakePods


@pytest.fixture(scope="module")
def operated(control_plane: ClusterAccess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    """One operator for the tests of a file."""
    folder = tmp_path_factory.mktemp("operator")
    with operator_on(control_plane, folder, FAST) as (operator, pods):
        yield Operated(control_plane, operator, pods)
