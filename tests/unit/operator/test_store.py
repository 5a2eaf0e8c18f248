"""The store: whatever order events, lists and answers come in, it ends with the truth and never goes back in time."""

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chatbot_operator import names
from chatbot_operator.kinds import CHATBOT, CONFIG_MAP, POD, SERVICE, Key, Ref, ref_of
from chatbot_operator.store import Store, trim

KEY = Key("ns", "demo")


def service(name: str = "demo", version: int = 1, uid: str = "u1", owner: str = "demo", **spec: Any) -> dict[str, Any]:
    labels = {names.CHATBOT_LABEL: owner} if owner else {}
    metadata = {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def chatbot(version: int = 1) -> dict[str, Any]:
    metadata = {"name": "demo", "namespace": "ns", "uid": "c", "resourceVersion": str(version)}
    return {"apiVersion": CHATBOT.api_version, "kind": "Chatbot", "metadata": metadata, "spec": {}}


REF = Ref(SERVICE, "ns", "demo")


def test_a_new_state_makes_it_the_owners_turn_and_the_same_again_does_not() -> None:
    store = Store()
    assert store.put(service()) == KEY
    assert store.put(service()) is None
    assert store.put(service(version=2)) == KEY


def test_an_older_state_is_ignored() -> None:
    store = Store()
    store.put(service(version=10, port=2))
    assert store.put(service(version=9, port=1)) is None
    assert store.snapshot(KEY).children[REF]["spec"] == {"port": 2}


def test_another_object_of_the_name_replaces_the_old_one_whatever_its_version() -> None:
    store = Store()
    store.put(service(version=10, uid="old"))
    assert store.put(service(version=3, uid="new")) == KEY
    assert store.remove(service(version=11, uid="old")) is None
    assert store.snapshot(KEY).children[REF]["metadata"]["uid"] == "new"


def test_a_child_that_loses_its_label_leaves_and_its_owner_hears_of_it() -> None:
    store = Store()
    store.put(service())
    assert store.put(service(version=2, owner="")) == KEY
    assert store.snapshot(KEY).children == {}


def test_a_child_that_changes_its_owner_is_only_the_new_ones_and_the_turn_of_the_one_that_has_lost_it() -> None:
    store = Store()
    store.put(service())
    assert store.put(service(version=2, owner="other")) == KEY
    assert store.snapshot(KEY).children == {}


def test_what_changes_while_a_list_runs_is_newer_than_the_list() -> None:
    store = Store()
    store.put(service("a"))
    with store.listing() as touched:
        store.put(service("b", version=50))
        store.remove(service("a"))
        store.replace(SERVICE, [service("a"), service("c", version=2)], "40", touched)
    assert {ref.name for ref in store.snapshot(KEY).children} == {"b", "c"}


def test_what_we_wrote_after_a_stale_list_stays() -> None:
    store = Store()
    store.put(service("ours", version=100))
    with store.listing() as touched:
        assert store.replace(SERVICE, [], "90", touched) == set()
    assert store.snapshot(KEY).children


def test_what_a_list_lacks_is_gone_and_the_owner_hears_of_it() -> None:
    store = Store()
    store.put(service("a", version=5))
    with store.listing() as touched:
        assert store.replace(SERVICE, [], "9", touched) == {KEY}
    assert store.snapshot(KEY).children == {}


def test_a_list_of_one_namespace_says_nothing_of_the_others() -> None:
    store = Store()
    store.put(service())
    with store.listing() as touched:
        store.replace(SERVICE, [], "99", touched, namespace="elsewhere")
    assert store.snapshot(KEY).children


def test_two_lists_at_once_each_see_what_is_touched() -> None:
    store = Store()
    with store.listing() as one:
        with store.listing() as two:
            store.put(service("a", version=7))
        store.put(service("b", version=8))
        assert {r.name for r in one} == {"a", "b"}
        assert {r.name for r in two} == {"a"}


def test_nothing_is_left_of_a_chatbot_that_is_gone_with_its_children() -> None:
    store = Store()
    store.put(chatbot())
    store.put(service())
    store.remove(service())
    store.remove(chatbot())
    assert list(store.known()) == []


def test_strangers_are_known_until_they_are_forgotten_or_become_ours() -> None:
    store = Store()
    store.put_stranger(KEY, service(owner=""))
    assert set(store.snapshot(KEY).strangers) == {REF}
    store.put(service(version=2))
    assert store.snapshot(KEY).strangers == {}
    store.put_stranger(KEY, service("other", owner=""))
    store.forget_stranger(KEY, ref_of(service("other")))
    assert store.snapshot(KEY).strangers == {}
    store.put_stranger(KEY, service(owner=""))
    store.put_child(KEY, service(version=3))
    assert store.snapshot(KEY).strangers == {}


def test_its_version_changes_with_its_children_and_only_then() -> None:
    store = Store()
    seen = [store.version(KEY)]
    assert seen == [0]
    changes: list[Callable[[], object]] = [
        lambda: store.put(service(version=1)),
        lambda: store.put(service(version=2)),
        lambda: store.assume_replicas(KEY, REF, 3),
        lambda: store.put_child(KEY, service("other", owner="")),
        lambda: store.remove(service("other")),
    ]
    for change in changes:
        change()
        assert store.version(KEY) not in seen
        seen.append(store.version(KEY))
    store.put(service(version=2))
    store.put(chatbot())
    assert store.version(KEY) == seen[-1]
    store.remove(service(version=2))
    store.remove(chatbot())
    assert store.version(KEY) == 0
    store.put(service(version=1))
    assert store.version(KEY) not in seen


def test_a_count_that_was_just_set_is_assumed_until_the_watch_brings_the_object() -> None:
    store = Store()
    store.put(service(version=1, replicas=1))
    store.assume_replicas(KEY, REF, 3)
    assert store.snapshot(KEY).children[REF]["spec"]["replicas"] == 3
    assert store.put(service(version=2, replicas=4)) == KEY
    assert store.snapshot(KEY).children[REF]["spec"]["replicas"] == 4


def test_what_nobody_reads_is_not_kept_and_the_object_is_not_changed() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ns", "managedFields": [1]},
        "spec": {"nodeName": "n", "volumes": [1], "containers": [{"name": "c", "image": "i", "env": [1]}]},
    }
    before = copy.deepcopy(pod)
    kept = trim(pod)
    assert kept["spec"] == {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
    assert "managedFields" not in kept["metadata"]
    assert pod == before
    assert POD.name == kept["kind"]
    assert CONFIG_MAP.name != kept["kind"]


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["create", "change", "delete", "event", "list", "stale list"]), st.integers(0, 2)),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(OPERATIONS, st.randoms(use_true_random=False))
def test_any_interleaving_ends_with_the_truth(operations: list[tuple[str, int]], rng: Any) -> None:
    """Objects come and go; their events may be late, repeated or lost, lists may be old; a last list settles it."""
    store, truth, version, uid = Store(), {}, 10, 0
    events: list[tuple[str, dict[str, Any]]] = []
    history: list[tuple[int, list[dict[str, Any]]]] = [(10, [])]
    for operation, which in operations:
        name = f"s{which}"
        version += 1
        if operation == "create" and name not in truth:
            uid += 1
            truth[name] = service(name, version, f"u{uid}", port=version)
            events.append(("PUT", truth[name]))
        elif operation == "change" and name in truth:
            truth[name] = service(name, version, truth[name]["metadata"]["uid"], port=version)
            events.append(("PUT", truth[name]))
        elif operation == "delete" and name in truth:
            events.append(("DELETED", truth.pop(name)))
        elif operation == "event" and events:
            change, obj = rng.choice(events)  # late, repeated, out of order
            store.put(obj) if change == "PUT" else store.remove(obj)
        elif operation in ("list", "stale list"):
            at, items = history[-1] if operation == "list" else rng.choice(history)
            with store.listing() as touched:
                store.replace(SERVICE, items, str(at), touched)
        history.append((version, list(truth.values())))
    with store.listing() as touched:
        store.replace(SERVICE, list(truth.values()), str(version + 1), touched)
    held = {ref.name: obj["spec"] for ref, obj in store.snapshot(KEY).children.items()}
    assert held == {name: obj["spec"] for name, obj in truth.items()}
