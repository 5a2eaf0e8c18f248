"""When `switch` goes on waiting, and when it gives up at once because only an edit helps."""

from datetime import UTC, datetime
from typing import Any

import pytest

from chatbot_operator.api import Chatbot, parse_chatbot
from kubectl_chatbot.status import is_ready, is_stuck

NOW = datetime(2030, 1, 1, tzinfo=UTC).isoformat()


def chatbot(*, seen: int = 2, **conditions: tuple[str, str]) -> Chatbot:
    told: list[dict[str, Any]] = [
        {"type": t, "status": s, "reason": r, "message": "", "lastTransitionTime": NOW}
        for t, (s, r) in conditions.items()
    ]
    return parse_chatbot(
        {
            "metadata": {"name": "demo", "namespace": "chat", "generation": 2},
            "spec": {"phase": "local"},
            "status": {"observedGeneration": seen, "conditions": told},
        }
    )


@pytest.mark.parametrize("reason", ["EndpointNotAllowed", "InsufficientMemory", "SteppedBack", "Suspended"])
def test_what_only_an_edit_ends_is_not_waited_for(reason: str) -> None:
    assert is_stuck(chatbot(Ready=("False", reason)))


@pytest.mark.parametrize(
    "reason", ["RollingOut", "Downloading", "TokenSecretMissing", "QuotaExceeded", "Unschedulable"]
)
def test_what_may_still_come_is_waited_for(reason: str) -> None:
    assert not is_stuck(chatbot(Ready=("False", reason)))


@pytest.mark.parametrize("reason", ["ModelNotFound", "StorageFull", "DownloadFailed"])
def test_a_download_that_failed_for_good_is_not_waited_for(reason: str) -> None:
    assert is_stuck(chatbot(Ready=("False", reason), ModelReady=("False", reason)))


def test_old_pods_that_lack_a_model_do_not_end_the_wait_for_new_ones() -> None:
    assert not is_stuck(chatbot(Ready=("False", "ModelNotFound"), ModelReady=("True", "NotNeeded")))


def test_what_is_said_of_an_earlier_edit_counts_for_nothing() -> None:
    assert not is_stuck(chatbot(seen=1, Ready=("False", "SteppedBack")))
    assert not is_ready(chatbot(seen=1, Ready=("True", "Serving")))
    assert is_ready(chatbot(Ready=("True", "Serving")))


def test_what_serves_is_not_stuck() -> None:
    assert not is_stuck(chatbot(Ready=("True", "Serving")))
