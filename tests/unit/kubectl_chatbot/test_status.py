"""What `status` tells of a Chatbot, and which pods the other commands choose."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chatbot_operator.api import parse_chatbot
from kubectl_chatbot import status
from kubectl_chatbot.pods import Source, answering, label, sources

NOW = datetime(2030, 1, 1, tzinfo=UTC)
GIB = 2**30


def chatbot(generation: int = 1, **told: Any) -> Any:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "All is well.",
        "lastTransitionTime": NOW,
    }
    metadata = {"name": "demo", "namespace": "shop", "generation": generation}
    shown = {"observedGeneration": 1, "servingPhase": "mock", "conditions": [ready], **told}
    return parse_chatbot({"metadata": metadata, "spec": {"phase": "hf"}, "status": shown})


def test_the_screen_says_both_phases_and_how_far_a_download_is() -> None:
    download = {"percent": 42, "completedBytes": 2 * GIB, "totalBytes": 5 * GIB}
    rows = dict(status.facts(chatbot(download=download, cost={"monthly": "46", "currency": "USD"})))
    assert rows["Phase"] == "hf, serving: mock"
    assert rows["Download"] == f"{'█' * 10}{'░' * 14} 42 %  2.0 GiB of 5.0 GiB"
    assert rows["Cost"] == "46 USD a month"


def test_a_status_of_an_earlier_version_of_the_spec_is_not_taken_for_the_present() -> None:
    old = chatbot(generation=2)
    assert not status.is_ready(old)
    assert status.headline(old) == "NotSeenYet"
    assert status.report(old, ())["ready"] is False
    assert status.is_ready(chatbot())


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0s"), (5, "5s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d")]
)
def test_ages_are_written_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert status.age(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize("percent", [-1, 0, 50, 100, 101])
def test_a_bar_is_always_as_wide(percent: int) -> None:
    assert len(status.bar(percent)) == 24


def test_events_are_in_the_order_in_which_they_were_seen_last() -> None:
    raw = [
        {"metadata": {}, "eventTime": "2030-01-01T00:00:02Z", "reason": "second", "type": "Normal", "note": ""},
        {
            "metadata": {},
            "eventTime": "2030-01-01T00:00:01Z",
            "series": {"count": 7, "lastObservedTime": "2030-01-01T00:00:03Z"},
            "reason": "third",
        },
        {"metadata": {}, "deprecatedLastTimestamp": "2030-01-01T00:00:01Z", "reason": "first"},
    ]
    assert [(e.reason, e.count) for e in status.events_of(raw)] == [("first", 1), ("second", 1), ("third", 7)]


def pod(
    name: str, *, phase: str = "mock", component: str = "backend", ready: str = "True", **more: Any
) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": component, "chatbot-operator.dev/phase": phase}
    metadata = {"name": name, "labels": labels, **more}
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def test_a_pod_of_the_phase_that_serves_is_asked_first_and_none_that_goes_or_is_not_ready() -> None:
    pods = [
        pod("a", phase="hf"),
        pod("b"),
        pod("c", ready="False"),
        pod("d", component="web"),
        pod("e", deletionTimestamp="2030-01-01T00:00:00Z"),
    ]
    assert answering(pods, "mock") == ["b", "a"]
    assert answering(pods, "hf") == ["a", "b"]


def test_containers_that_have_begun_have_a_log() -> None:
    states: list[dict[str, Any]] = [
        {"name": "fetch", "state": {"terminated": {}}},
        {"name": "runtime", "state": {"running": {}}},
        {"name": "engine", "state": {"waiting": {}}, "restartCount": 2},
        {"name": "late", "state": {"waiting": {}}},
        {"name": "unknown"},
    ]
    one = {"metadata": {"name": "p"}, "status": {"initContainerStatuses": states[:1], "containerStatuses": states[1:]}}
    found = sources(one)
    assert [(s.container, s.restarts, s.running) for s in found] == [
        ("fetch", 0, False),
        ("runtime", 0, True),
        ("engine", 2, False),
    ]
    assert sources(one, only="runtime") == [Source("p", "runtime")]
    assert label(found[1], found) == "p/runtime"
    assert label(found[1], found[1:2]) == "p"
