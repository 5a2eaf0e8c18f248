"""Control planes: with the operator, one for each file; without it, one for all files that only ask the API server."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.chatbots import ChatbotApi, chatbot_api
from tests.support.cluster import ClusterAccess, fresh_control_plane, given_access
from tests.support.operator import FakePods, OperatorProcess, operator_on

FULL = os.environ.get("CHATBOT_STRESS") == "full"
"""More Chatbots and more moments of death than in the usual run; the fault rows kill at every single write."""

FAST = {
    # Long waits, scaled down: what they wait for is the same.
    "RESYNC_SECONDS": "5",
    "EVENTS_LOOK_SECONDS": "2",
    "RETRY_LONGEST_SECONDS": "3",
    "PROGRESS_DEADLINE_SECONDS": "20",
    "POLL_SETTLED_SECONDS": "5",
}


@dataclass(frozen=True)
class Operated:
    """A control plane with the operator at work on it."""

    access: ClusterAccess
    operator: OperatorProcess
    pods: FakePods


@pytest.fixture(scope="session")
def api_server() -> Iterator[ClusterAccess]:
    """A control plane on which no operator works."""
    if given := given_access():
        yield given
        return
    with fresh_control_plane() as access:
        yield access


@pytest.fixture(scope="module")
def api(api_server: ClusterAccess) -> Iterator[ChatbotApi]:
    """The Chatbots of this file."""
    with chatbot_api(api_server) as served:
        yield served


@pytest.fixture(scope="module")
def operated(control_plane: ClusterAccess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    """One operator for the tests of a file."""
    folder = tmp_path_factory.mktemp("operator")
    with operator_on(control_plane, folder, FAST) as (operator, pods):
        yield Operated(control_plane, operator, pods)
