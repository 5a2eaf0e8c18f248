"""Whether a live object is as we want it: only our own leaves count."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_operator.drift import applied_hash, fingerprint, project, same, with_hash

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        pytest.param({"a": 1}, {"a": 1, "b": 2}, id="a field of somebody else does not count"),
        pytest.param({"cpu": "1000m"}, {"cpu": "1"}, id="a quantity is compared by its amount"),
        pytest.param({"memory": "1024Mi"}, {"memory": "1Gi"}, id="in binary units too"),
        pytest.param({"egress": []}, {}, id="the server does not store an empty list"),
        pytest.param(
            {"containers": [{"name": "runtime", "image": "a"}]},
            {"containers": [{"name": "sidecar"}, {"name": "runtime", "image": "a", "tty": False}]},
            id="a container that was injected stands beside ours",
        ),
        pytest.param(
            {"mounts": [{"mountPath": "/a", "name": "x"}, {"mountPath": "/b", "name": "x"}]},
            {"mounts": [{"mountPath": "/b", "name": "x"}, {"mountPath": "/a", "name": "x"}]},
            id="mounts of one volume are told apart by their path",
        ),
    ],
)
def test_these_are_the_same(wanted: Any, live: Any) -> None:
    assert same(wanted, live)


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        pytest.param({"a": 1}, {"a": 2}, id="another value"),
        pytest.param({"a": 1}, {}, id="a field that is gone"),
        pytest.param({"a": True}, {"a": "true"}, id="another type"),
        pytest.param({"a": {"b": 1}}, {"a": []}, id="another shape"),
        pytest.param({"types": ["Ingress", "Egress"]}, {"types": ["Ingress"]}, id="a list that is shorter"),
        pytest.param({"types": ["a", "b"]}, {"types": ["b", "a"]}, id="a plain list in another order"),
        pytest.param({"ports": [{"name": "http", "port": 80}]}, {"ports": [{"name": "x", "port": 80}]}, id="a name"),
        pytest.param({"rules": [{}]}, {"rules": [{}, {}]}, id="a rule more in a list without names"),
        pytest.param({"cpu": "1"}, {"cpu": "1001m"}, id="a little more"),
        pytest.param({"a": "x"}, {"a": 5}, id="a number for a word"),
    ],
)
def test_these_are_not(wanted: Any, live: Any) -> None:
    assert not same(wanted, live)


@given(JSON)
def test_anything_is_the_same_as_itself(value: Any) -> None:
    assert same(value, value)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4), st.text(min_size=5, max_size=8), JSON)
def test_a_field_more_changes_neither_sameness_nor_fingerprint(value: dict[str, Any], key: str, more: Any) -> None:
    live = value | {key: more}
    assert same(value, live)
    assert fingerprint(value, live) == fingerprint(value, value)


@given(JSON, JSON)
def test_whatever_is_live_it_can_be_projected_and_compared(wanted: Any, live: Any) -> None:
    project(wanted, live)
    same(wanted, live)


def test_the_hash_names_what_is_wanted_and_is_not_part_of_it() -> None:
    wanted = {"metadata": {"name": "a", "annotations": {"x": "y"}}, "spec": {"b": 1}}
    stamped = with_hash(wanted)
    assert stamped["metadata"]["annotations"]["x"] == "y"
    assert applied_hash(stamped) == applied_hash(with_hash(wanted))
    assert applied_hash(stamped) != applied_hash(with_hash(wanted | {"spec": {"b": 2}}))
    assert applied_hash(wanted) == ""


def test_a_fingerprint_sees_what_a_webhook_made_of_our_field() -> None:
    wanted = {"spec": {"a": 1}}
    assert fingerprint(wanted, {"spec": {"a": 2}}) != fingerprint(wanted, {"spec": {"a": 1}})
