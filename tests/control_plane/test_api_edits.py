"""Editing Chatbots on a real API server: phases, one manifest over another, storage, an autoscaler of the user's."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from chatbot_operator.api import ChatbotSpec
from devcluster.processes import wait_until
from tests.support.chatbots import ChatbotApi, chatbot, example, without_value

EXAMPLES = ("mock", "hf", "local-ollama", "local-gguf", "local-claim", "local-image", "production", "full")
PAIRS = list(itertools.permutations(EXAMPLES, 2))
MODES = {"client": (), "server": ("--server-side",)}
Spec = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def own_autoscaler(api: ChatbotApi) -> str:
    """A Chatbot under a HorizontalPodAutoscaler of the user's.

    Begun first: the controller looks every 15 s only, and learns of new kinds every 30 s.
    """
    api.create("own-hpa", {"phase": "mock", "backend": {"replicas": 2, "autoscaling": {"enabled": False}}})
    api.write_status("own-hpa", {"replicas": 2, "selector": "chatbot-operator.dev/chatbot=own-hpa"})
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "own-hpa"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "chatbot-operator.dev/v1alpha1", "kind": "Chatbot", "name": "own-hpa"},
            # Above what there is, so that it has to act without any metric.
            "minReplicas": 4,
            "maxReplicas": 6,
        },
    }
    api.kubectl("create", "-f", "-", text=json.dumps(autoscaler))
    return "own-hpa"


def renamed(stem: str, name: str) -> dict[str, Any]:
    return chatbot(name, example(stem)["spec"])


@pytest.fixture(scope="module", params=list(MODES))
def applied(api: ChatbotApi, request: pytest.FixtureRequest) -> tuple[dict[str, str], dict[str, Spec]]:
    """Every example applied over every other one in one mode: the answers and the stored specs."""
    mode: str = request.param
    names = {pair: f"{pair[1]}-over-{pair[0]}-{mode}" for pair in PAIRS}
    fresh = api.submit("apply", [renamed(stem, f"{stem}-fresh-{mode}") for stem in EXAMPLES], *MODES[mode])
    first = api.submit("apply", [renamed(old, name) for (old, _), name in names.items()], *MODES[mode])
    second = api.submit("apply", [renamed(new, name) for (_, new), name in names.items()], *MODES[mode])
    assert set(fresh.values()) | set(first.values()) == {""}
    stored = api.specs()
    by_pair = {f"{old} {new}": stored[names[old, new]] for old, new in PAIRS}
    by_pair |= {stem: stored[f"{stem}-fresh-{mode}"] for stem in EXAMPLES}
    return {f"{old} {new}": second[names[old, new]] for old, new in PAIRS}, by_pair


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_an_example_applied_over_another_equals_a_fresh_one(
    applied: tuple[dict[str, str], dict[str, Spec]], old: str, new: str
) -> None:
    answers, stored = applied
    assert answers[f"{old} {new}"] == ""
    assert stored[f"{old} {new}"] == stored[new]


@pytest.mark.parametrize("stem", EXAMPLES)
def test_the_model_fills_an_example_with_the_same_defaults_as_the_api_server(
    applied: tuple[dict[str, str], dict[str, Spec]], stem: str
) -> None:
    _, stored = applied
    assert ChatbotSpec.model_validate(example(stem)["spec"]) == ChatbotSpec.model_validate(stored[stem])


def blocks_of(spec: Spec, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every object, map and list in a spec."""
    for name, value in spec.items():
        if isinstance(value, list | dict):
            yield (*path, name)
        if isinstance(value, dict):
            yield from blocks_of(value, (*path, name))


def without(spec: Spec, path: tuple[str, ...]) -> Spec:
    name, *rest = path
    if not rest:
        return {key: value for key, value in spec.items() if key != name}
    return {**spec, name: without(spec[name], tuple(rest))}


FULL = example("full")["spec"]
BLOCKS = list(blocks_of(FULL))


@pytest.fixture(scope="module", params=list(MODES))
def reduced(api: ChatbotApi, request: pytest.FixtureRequest) -> dict[tuple[str, ...], tuple[Any, Any]]:
    """Every block taken out of the full example by apply, beside a fresh object without it: answers and specs."""
    mode: str = request.param
    applied = {path: f"without-{index}-{mode}" for index, path in enumerate(BLOCKS)}
    fresh = {path: f"never-{index}-{mode}" for index, path in enumerate(BLOCKS)}
    answers = api.submit("apply", [chatbot(name, FULL) for name in applied.values()], *MODES[mode])
    assert set(answers.values()) == {""}
    answers = api.submit("apply", [chatbot(applied[p], without(FULL, p)) for p in BLOCKS], *MODES[mode])
    answers |= api.submit("create", [chatbot(fresh[p], without(FULL, p)) for p in BLOCKS])
    stored = api.specs()

    def outcome(name: str) -> Any:
        return answers[name] or stored[name]

    return {path: (outcome(applied[path]), outcome(fresh[path])) for path in BLOCKS}


@pytest.mark.parametrize("path", BLOCKS, ids=".".join)
def test_a_block_taken_away_by_apply_leaves_what_an_object_without_it_has(
    reduced: dict[tuple[str, ...], tuple[Any, Any]], path: tuple[str, ...]
) -> None:
    applied, fresh = reduced[path]
    assert applied == fresh


@pytest.mark.parametrize("mode", list(MODES))
def test_a_block_that_is_emptied_by_apply_leaves_what_an_object_without_it_has(api: ChatbotApi, mode: str) -> None:
    one_field: Spec = {
        "local": {"source": {"download": {"backoffLimit": 3}}},
        "mock": {"resources": {"limits": {"memory": "1Gi"}}},
        "network": {"noProxy": "example.com"},
        "pods": {"labels": {"team": "blue"}},
    }
    emptied: Spec = {"local": {"source": {}}, "mock": {"resources": {"limits": {}}}, "network": {}, "pods": {}}
    name, fresh = f"emptied-{mode}", f"never-filled-{mode}"
    for spec in (one_field, emptied):
        assert api.submit("apply", [chatbot(name, {"phase": "mock"} | spec)], *MODES[mode]) == {name: ""}
    api.create(fresh, {"phase": "mock"})
    assert api.stored(name)["spec"] == api.stored(fresh)["spec"]


@pytest.mark.parametrize("start", [{"phase": "mock"}, {**FULL, "phase": "mock"}], ids=["smallest", "full"])
def test_a_one_field_edit_of_the_phase_is_accepted_in_all_six_directions(api: ChatbotApi, start: Spec) -> None:
    name = f"phases-{len(start)}"
    api.create(name, start)
    kept = api.stored(name)["spec"]
    route = ["mock", "hf", "mock", "local", "hf", "local", "mock"]
    assert set(itertools.pairwise(route)) == set(itertools.permutations(("mock", "hf", "local"), 2))
    for phase in route[1:]:
        api.patch(name, {"spec": {"phase": phase}})
        assert api.stored(name)["spec"] == {**kept, "phase": phase}


def local(size: str | int | None = None, phase: str = "local", **fields: Any) -> Spec:
    storage: Spec = {key: fields.pop(key) for key in ("storageClassName", "accessMode") if key in fields}
    if size is not None:
        storage["size"] = size
    return {"phase": phase, "local": {"storage": storage, **fields}}


CLAIM = {"claim": {"name": "weights"}}
IMAGE = {"image": {"reference": "engine:1"}}
STORAGE_EDITS = [
    ("grow", local("20Gi"), local("50Gi"), True),
    ("the same in another unit", local("20Gi"), local("20480Mi"), True),
    ("shrink", local("20Gi"), local("10Gi"), False),
    ("shrink to bytes", local("20Gi"), local(1000), False),
    ("size taken away, default smaller", local("50Gi"), local(), False),
    ("storage taken away, default smaller", local("50Gi"), {"phase": "local", "local": {}}, False),
    ("local taken away, default smaller", local("50Gi"), {"phase": "local"}, False),
    ("local taken away, default larger", local("10Gi"), {"phase": "local"}, True),
    ("below the default", local(), local("10Gi"), False),
    ("above the default", local(), local("30Gi"), True),
    ("shrink in mock", local("20Gi", "mock"), local("10Gi", "mock"), True),
    ("shrink in mock and go to local", local("20Gi", "mock"), local("10Gi"), True),
    ("shrink while prefetching", local("20Gi", "mock", prefetch=True), local("10Gi", "mock", prefetch=True), False),
    ("leave local and shrink in one edit", local("20Gi"), local("10Gi", "mock"), False),
    ("shrink with another class", local("20Gi"), local("10Gi", storageClassName="fast"), True),
    (
        "shrink with a changed class",
        local("20Gi", storageClassName="slow"),
        local("10Gi", storageClassName="fast"),
        True,
    ),
    ("shrink with the same class", local("20Gi", storageClassName="a"), local("10Gi", storageClassName="a"), False),
    ("shrink with another access mode", local("20Gi"), local("10Gi", accessMode="ReadWriteMany"), True),
    ("shrink beside a claim", local("20Gi", source=CLAIM), local("10Gi", source=CLAIM), True),
    ("shrink beside an image", local("20Gi", source=IMAGE), local("10Gi", source=IMAGE), True),
    ("shrink a written download", local("20Gi", source={"download": {}}), local("10Gi"), False),
]


@pytest.fixture(scope="module")
def storage_answers(api: ChatbotApi) -> list[str]:
    """The answers to every edit of the table."""
    names = [f"storage-{index}" for index in range(len(STORAGE_EDITS))]
    olds = [chatbot(name, edit[1]) for name, edit in zip(names, STORAGE_EDITS, strict=True)]
    news = [chatbot(name, edit[2]) for name, edit in zip(names, STORAGE_EDITS, strict=True)]
    assert set(api.submit("create", olds).values()) == {""}
    answers = api.submit("replace", news)
    return [answers[name] for name in names]


@pytest.mark.parametrize("index", range(len(STORAGE_EDITS)), ids=[edit[0] for edit in STORAGE_EDITS])
def test_storage_of_a_download_may_only_grow(storage_answers: list[str], index: int) -> None:
    refusal = "spec.local.storage.size: Invalid value: local.storage.size may only grow while phase is local"
    accepted, answer = STORAGE_EDITS[index][3], storage_answers[index]
    assert answer == "" if accepted else without_value(answer).startswith(refusal)


def test_an_autoscaler_of_ones_own_scales_a_chatbot_without_autoscaling(api: ChatbotApi, own_autoscaler: str) -> None:
    def has_scaled() -> bool:
        return bool(api.stored(own_autoscaler)["spec"]["backend"]["replicas"] == 4)

    wait_until("the autoscaler has raised the replicas to its minimum", has_scaled, 60, 0.5)
    found = api.access.get("hpa", own_autoscaler, "--namespace", api.namespace)
    able = [condition for condition in found["status"]["conditions"] if condition["type"] == "AbleToScale"]
    assert [condition["status"] for condition in able] == ["True"]
