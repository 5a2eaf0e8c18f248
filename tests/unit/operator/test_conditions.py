"""The conditions beside Ready, and what every condition carries: raw objects in, status out."""

from datetime import timedelta

import pytest

from chatbot_operator.api.reasons import ConditionType
from tests.support.scenes import Scene, migrating, serving, starting

MOCK = {"phase": "mock"}
HF = {"phase": "hf", "hf": {"models": ["team/model"]}}


def said(scene: Scene, type_: ConditionType) -> tuple[str, str]:
    condition = scene.plan().status.condition(type_)
    assert condition is not None
    return condition.status, condition.reason


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        pytest.param(Scene(MOCK), ("False", "Starting"), id="nothing is there yet"),
        pytest.param(starting(MOCK), ("False", "Starting"), id="pods are there, none is ready"),
        pytest.param(serving(MOCK), ("True", "Serving"), id="what was asked for serves"),
        pytest.param(migrating(MOCK, HF), ("True", "ServingPrevious"), id="the old phase serves"),
        pytest.param(Scene({**MOCK, "suspend": True}), ("False", "Suspended"), id="suspended"),
    ],
)
def test_available_says_whether_somebody_answers_now(scene: Scene, expected: tuple[str, str]) -> None:
    assert said(scene, ConditionType.AVAILABLE) == expected


def test_pods_that_are_going_make_nothing_available() -> None:
    scene = serving(MOCK)
    for index in range(2):
        scene.pod(index)["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    assert said(scene, ConditionType.AVAILABLE)[0] == "False"


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        pytest.param(starting(MOCK), ("True", "Creating"), id="the first pods"),
        pytest.param(serving(MOCK), ("False", "Settled"), id="nothing is under way"),
        pytest.param(migrating(MOCK, HF), ("True", "RollingOut"), id="new pods replace old ones"),
    ],
)
def test_progressing_says_whether_anything_is_under_way(scene: Scene, expected: tuple[str, str]) -> None:
    assert said(scene, ConditionType.PROGRESSING) == expected


def test_every_condition_and_the_status_are_about_the_generation_that_was_looked_at() -> None:
    scene = serving(MOCK)
    status = scene.plan().status
    generation = scene.raw["metadata"]["generation"]
    assert status.observed_generation == generation
    assert {c.observed_generation for c in status.conditions} == {generation}


def test_the_time_of_a_transition_stays_while_the_status_does_and_is_new_with_a_new_one() -> None:
    scene = starting(MOCK)
    scene.keep_status()
    before = scene.plan().status.condition(ConditionType.AVAILABLE)
    assert before is not None
    scene.now += timedelta(minutes=5)
    kept = scene.plan().status.condition(ConditionType.AVAILABLE)
    assert kept is not None
    assert kept.last_transition_time == before.last_transition_time
    scene.pod()["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    changed = scene.plan().status.condition(ConditionType.AVAILABLE)
    assert changed is not None
    assert changed.status == "True"
    assert changed.last_transition_time > before.last_transition_time
