"""The audit log as it is followed: what is half written, what is rotated away."""

import json
from pathlib import Path

import pytest

from bench.audit import AuditTail, tally

STAMP = "2030-01-01T00:00:00.000000Z"


def line(name: str, verb: str = "patch", stage: str = "ResponseComplete") -> str:
    entry = {
        "stage": stage,
        "user": {"username": "me"},
        "verb": verb,
        "objectRef": {"resource": "pods", "namespace": "ns", "name": name},
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": STAMP,
        "stageTimestamp": STAMP,
    }
    return json.dumps(entry) + "\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    path.write_text(line("before"))
    return path


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def names(tail: AuditTail) -> list[str]:
    return [call.name for call in tail.new()]


def test_only_what_is_added_is_seen_and_a_half_line_waits_for_its_end(log: Path) -> None:
    tail = AuditTail(log)
    assert names(tail) == []
    whole = line("one")
    add(log, whole[:20])
    assert names(tail) == []
    add(log, whole[20:] + line("two"))
    assert names(tail) == ["one", "two"]
    tail.close()


def test_a_rotated_log_is_read_to_its_end_and_then_the_new_one(log: Path) -> None:
    tail = AuditTail(log)
    add(log, line("old"))
    log.rename(log.with_suffix(".1"))
    log.write_text(line("new"))
    assert names(tail) == ["old", "new"]
    add(log, line("newer"))
    assert names(tail) == ["newer"]
    tail.close()


def test_one_that_does_not_come_to_rest_is_an_error(log: Path) -> None:
    tail = AuditTail(log)
    assert tail.until_calm("me", calm=0.1, timeout=30) == []
    with pytest.raises(AssertionError, match="me did not come to rest"):
        tail.until_calm("me", calm=30, timeout=0.1)
    tail.close()


def test_calls_are_counted_by_what_they_cost(log: Path) -> None:
    tail = AuditTail(log)
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete")
    add(log, "".join(line("x", verb) for verb in verbs) + line("x", stage="Panic"))
    calls = tail.new()
    assert tally(calls, "me") == {"writes": 4, "gets": 1, "lists": 1}
    assert tally(calls, "somebody else") == {"writes": 0, "gets": 0, "lists": 0}
    assert [call.verb for call in calls if call.costly] == ["get", "create", "update", "patch", "delete"]
    tail.close()
