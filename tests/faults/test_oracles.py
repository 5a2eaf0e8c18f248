"""O11: each oracle says nothing about a healthy history, and something about each way in which it can be spoilt."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.api import parse_chatbot
from chatbot_operator.revision import template_inputs
from tests.faults.admin import Object
from tests.faults.oracles import ORACLES, Trial, judge
from tests.faults.proxy import Call
from tests.faults.state import differences, learn_mask, state_of
from tests.faults.world import Change, Id

NS, BOT, UID = "ns", "bot", "uid-of-bot"


def metadata(name: str, version: int, **more: Any) -> Object:
    labels = {names.CHATBOT_LABEL: BOT}
    owner = {"kind": "Chatbot", "name": BOT, "uid": UID, "controller": True}
    whole = {"name": name, "namespace": NS, "resourceVersion": str(version), "uid": f"uid-{name}", "generation": 1}
    return whole | {"labels": labels, "ownerReferences": [owner]} | more


def condition(type_: str, status: str = "True", reason: str = "Serving", message: str = "It serves.") -> Object:
    return {"type": type_, "status": status, "reason": reason, "message": message, "observedGeneration": 1}


def chatbot(version: int, *conditions: Object) -> Object:
    status = {"observedGeneration": 1, "conditions": list(conditions)} if conditions else {}
    meta = metadata(BOT, version) | {"uid": UID, "labels": {}, "ownerReferences": []}
    spec = {"phase": "mock", "web": {"enabled": False}, "backend": {"autoscaling": {"enabled": False}, "replicas": 1}}
    kind = {"apiVersion": "chatbot-operator.dev/v1alpha1", "kind": "Chatbot"}
    return {**kind, "metadata": meta, "spec": spec, "status": status}


def deployment(version: int, ready: int) -> Object:
    inputs = template_inputs(parse_chatbot(chatbot(1)).spec)
    counts = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": ready, "observedGeneration": 1}
    template = {"metadata": {"labels": {names.PHASE_LABEL: "mock"}}}
    spec = {"replicas": 1, "strategy": {"rollingUpdate": {"maxUnavailable": 0}}, "template": template}
    meta = metadata(f"{BOT}-backend", version, annotations={names.TEMPLATE_INPUTS: inputs})
    return {"kind": "Deployment", "metadata": meta, "spec": spec, "status": counts}


def pod(version: int, ready: bool) -> Object:
    status = {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    return {"kind": "Pod", "metadata": metadata(f"{BOT}-pod", version), "status": status}


def endpoints(version: int, ready: bool, service: str = BOT) -> Object:
    meta = metadata(f"{service}-slice", version, labels={"kubernetes.io/service-name": service})
    return {"kind": "EndpointSlice", "metadata": meta, "endpoints": [{"conditions": {"ready": ready}}]}


def healthy() -> Trial:
    """A create that goes well; a second passes between two versions."""
    objects = [
        ("ADDED", chatbot(1)),
        ("ADDED", deployment(2, 0)),
        ("ADDED", pod(3, ready=False)),
        ("MODIFIED", pod(4, ready=True)),
        ("MODIFIED", deployment(5, 1)),
        ("ADDED", endpoints(6, ready=True, service=names.backend(BOT))),
        ("ADDED", endpoints(7, ready=True)),
        ("MODIFIED", chatbot(8, condition("Ready"), condition("Available"))),
    ]
    changes = [Change(int(o["metadata"]["resourceVersion"]), float(i), t, o) for i, (t, o) in enumerate(objects)]
    world = {c.id: c.obj for c in changes}
    state = state_of(world, NS, BOT)
    calls = [Call(1, 1.0, "patch", "deployments", NS, f"{BOT}-backend", "", status=201)]
    log = [{"level": "INFO", "message": "every kind is listed"}]
    return Trial(NS, changes, world, calls, log, {BOT: (state, state, frozenset())})


def add(trial: Trial, type_: str, obj: Object, at: float = 20.0) -> None:
    trial.changes.append(Change(int(obj["metadata"]["resourceVersion"]), at, type_, obj))


def spoil_state(trial: Trial) -> None:
    state, reference, mask = trial.ends[BOT]
    trial.ends = {BOT: ({**state, "Deployment/CHATBOT-backend.spec.extra": 1}, reference, mask)}


def spoil_by_a_second_create(trial: Trial) -> None:
    trial.calls.append(copy.copy(trial.calls[0]))


def spoil_by_a_delete(trial: Trial) -> None:
    trial.calls.append(Call(2, 2.0, "delete", "services", NS, BOT, "", status=200))


def spoil_quiet(trial: Trial) -> None:
    trial.quiet_writes.append(trial.calls[0])


def spoil_field(trial: Trial) -> None:
    live = copy.deepcopy(trial.world[Id("Deployment", f"{BOT}-backend")])
    live["spec"]["replicas"] = 3
    trial.world = {**trial.world, Id("Deployment", f"{BOT}-backend"): live}


def spoil_generation(trial: Trial) -> None:
    old = chatbot(8, condition("Ready"), condition("Available"))
    old["status"]["observedGeneration"] = 0
    add(trial, "MODIFIED", old, 7.0)


def spoil_reason(trial: Trial) -> None:
    add(trial, "MODIFIED", chatbot(8, condition("Ready", "False", "", ""), condition("Available")), 7.0)


def spoil_available(trial: Trial) -> None:
    add(trial, "DELETED", pod(8, ready=True), 7.0)
    add(trial, "MODIFIED", chatbot(9, condition("Ready", "False"), condition("Available")), 20.0)


def spoil_unavailable(trial: Trial) -> None:
    add(trial, "MODIFIED", chatbot(9, condition("Ready", "False"), condition("Available", "False")), 20.0)


def spoil_ready(trial: Trial) -> None:
    trial.changes = [c for c in trial.changes if c.version != 5]


def spoil_log(trial: Trial) -> None:
    trial.log.append({"level": "ERROR", "message": "reconcile failed"})


def spoil_log_by_traceback(trial: Trial) -> None:
    trial.log.append({"level": "INFO", "message": "x", "error": "Traceback\nKeyError: 'spec'"})


def spoil_events(trial: Trial) -> None:
    for number in range(11):
        event = {
            "kind": "Event",
            "metadata": metadata(f"e{number}", 30 + number),
            "regarding": {"kind": "Chatbot", "name": BOT},
        }
        add(trial, "ADDED", event, 61.0)


def spoil_endpoints(trial: Trial) -> None:
    add(trial, "MODIFIED", endpoints(8, ready=False), 7.0)


def spoil_owner(trial: Trial) -> None:
    add(trial, "ADDED", {"kind": "Service", "metadata": metadata(f"{BOT}-x", 8, ownerReferences=[]), "spec": {}}, 7.0)


def spoil_claim(trial: Trial) -> None:
    add(trial, "DELETED", {"kind": "PersistentVolumeClaim", "metadata": metadata(f"{BOT}-models", 8), "spec": {}}, 7.0)


def spoil_downloads(trial: Trial) -> None:
    for number in (8, 9):
        meta = metadata(f"{BOT}-download-{number}", number, annotations={names.CLAIM_UID: "one"})
        add(trial, "ADDED", {"kind": "Job", "metadata": meta, "status": {"active": 1}}, 7.0)


def spoil_foreign(trial: Trial) -> None:
    theirs = {"kind": "Service", "metadata": {"name": "theirs", "resourceVersion": "1"}, "spec": {"a": 1}}
    trial.foreign = {Id("Service", "theirs"): theirs}
    trial.world = {**trial.world, Id("Service", "theirs"): {**theirs, "spec": {"a": 2}}}


def spoil_secret(trial: Trial) -> None:
    trial.canaries = frozenset({"s3cret-canary"})
    add(
        trial,
        "MODIFIED",
        chatbot(8, condition("Ready", "False", "x", "token s3cret-canary"), condition("Available")),
        7.0,
    )


def test_a_healthy_history_is_not_complained_of() -> None:
    assert judge(healthy()) == []


@pytest.mark.parametrize(
    ("oracle", "spoil"),
    [
        ("O1", spoil_state),
        ("O2", spoil_by_a_second_create),
        ("O2", spoil_by_a_delete),
        ("O3", spoil_quiet),
        ("O4", spoil_field),
        ("O5", spoil_generation),
        ("O5", spoil_reason),
        ("O5", spoil_available),
        ("O5", spoil_unavailable),
        ("O5", spoil_ready),
        ("O6", spoil_log),
        ("O6", spoil_log_by_traceback),
        ("O6", spoil_events),
        ("O9", spoil_endpoints),
        ("O9", spoil_owner),
        ("O9", spoil_claim),
        ("O9", spoil_downloads),
        ("O9", spoil_foreign),
        ("O9", spoil_secret),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
def test_an_oracle_bites(oracle: str, spoil: Callable[[Trial], None]) -> None:
    trial = healthy()
    spoil(trial)
    wrong = judge(trial)
    assert {line.split(" ")[0] for line in wrong} == {oracle}, wrong


def replaced(trial: Trial, *, ready_since: bool) -> None:
    """A time of rollout `Replace`, then rolling again; no endpoint is ready any more at the end."""
    replace, rolling = chatbot(9), chatbot(10)
    replace["spec"]["backend"]["rollout"] = "Replace"
    for generation, changed in ((2, replace), (3, rolling)):
        changed["metadata"]["generation"] = generation
        add(trial, "MODIFIED", changed)
    if ready_since:
        ready = copy.deepcopy(rolling)
        ready["metadata"]["resourceVersion"] = "11"
        ready["status"]["conditions"] = [{**condition("Ready"), "observedGeneration": 3}]
        add(trial, "MODIFIED", ready)
    add(trial, "MODIFIED", endpoints(12, ready=False))


def test_what_may_go_dark_is_excused_until_it_is_ready_as_a_later_spec_asks() -> None:
    trial = healthy()
    replaced(trial, ready_since=False)
    assert ORACLES["O9"](trial) == []


def test_what_could_once_go_dark_is_not_excused_for_good() -> None:
    trial = healthy()
    replaced(trial, ready_since=True)
    assert ORACLES["O9"](trial) == [f"{BOT}: no ready endpoint behind a Service"]


def test_every_oracle_is_spoilt_by_something() -> None:
    mark = next(m for m in test_an_oracle_bites.pytestmark if m.name == "parametrize")  # type: ignore[attr-defined]
    assert {oracle for oracle, _ in mark.args[1]} == set(ORACLES)


@pytest.mark.parametrize("scaled", [True, False], ids=["an autoscaler's", "a fixed number"])
def test_how_many_pods_an_autoscaler_keeps_is_no_difference(scaled: bool) -> None:
    name = names.backend(BOT)
    world = {Id("HorizontalPodAutoscaler", name): {"kind": "HorizontalPodAutoscaler", "metadata": metadata(name, 3)}}
    states = []
    for number in (2, 3):
        bot, backend = chatbot(1, condition("Ready")), deployment(2, 1)
        bot["status"] |= {"replicas": number, "readyReplicas": number}
        backend["spec"]["replicas"] = number
        objects = {Id("Chatbot", BOT): bot, Id("Deployment", name): backend}
        states.append(state_of(objects | (world if scaled else {}), NS, BOT))
    leaves = [line.split(" ")[0].rpartition(".")[2] for line in differences(*states)]
    assert leaves == ([] if scaled else ["readyReplicas", "replicas", "replicas"])


def test_what_two_undisturbed_runs_differ_in_is_masked_and_nothing_else() -> None:
    one, other = {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 9}
    mask = learn_mask(one, other)
    assert mask == {"b", "c"}
    assert differences(one, other, mask) == []
    assert differences({**one, "a": 7}, other, mask) == ["a is 7, should be 1"]
