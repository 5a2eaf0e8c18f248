"""What a switch is said to change is what the operator then does, whatever the images that this tool does not know."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from chatbot_operator.api import Phase
from chatbot_operator.api.reasons import Reason
from chatbot_operator.checks import verdicts
from chatbot_operator.kinds import AUTOSCALER, CLAIM, CONFIG_MAP, DEPLOYMENT, JOB, POD, REPLICA_SET, Ref
from chatbot_operator.names import SETTINGS_KEY
from chatbot_operator.settings import Settings
from kubectl_chatbot.forecast import Forecast, forecast, rows
from kubectl_chatbot.rehearsal import World
from tests.support.simulated_world import World as Simulated
from tests.support.simulated_world import settled

PHASES: tuple[Phase, ...] = ("mock", "hf", "local")
MOVES = [(start, wanted) for start in PHASES for wanted in PHASES if start != wanted]
THEIRS = Settings(runtime_image="registry.example.com/runtime:7", web_image="registry.example.com/web:7")
SHAPES: dict[str, dict[str, Any]] = {
    "with a page": {"web": {"enabled": True}},
    "weights not retained": {"local": {"storage": {"retain": False}}},
    "a fixed number of pods": {"backend": {"autoscaling": {"enabled": False}, "replicas": 3}},
    "weights fetched ahead": {"local": {"prefetch": True}},
}


def foretold(world: Simulated, phase: Phase) -> Forecast:
    return forecast(world.chatbot, phase, World(world.snapshot()), Settings(), world.now)


def bodies(world: Simulated) -> dict[Ref, Any]:
    """Every child but pods, without what is no wish of anybody."""
    children = {r: o for r, o in world.observed.children.items() if r.kind not in (POD, REPLICA_SET)}
    return {r: {k: v for k, v in o.items() if k in ("spec", "data")} for r, o in children.items()}


def told(ahead: Forecast, *verbs: str) -> set[Ref]:
    return {c.ref for c in ahead.changes if c.verb in verbs}


@pytest.mark.parametrize("extra", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("start", "wanted"), MOVES)
async def test_what_is_foretold_happens_and_nothing_else(start: Phase, wanted: Phase, extra: Mapping[str, Any]) -> None:
    world = await settled({"phase": start, **extra}, settings=THEIRS)
    ahead, before = foretold(world, wanted), bodies(world)
    seen: set[Ref] = set()
    world.edit({"phase": wanted})
    for _ in range(12):  # the Job comes and goes
        await world.reconcile()
        world.controllers.settle()
        world.deliver()
        seen |= bodies(world).keys()
    await world.settle()
    after = bodies(world)
    created = (seen | after.keys()) - before.keys()
    assert told(ahead, "create") == created
    assert told(ahead, "delete") == before.keys() - after.keys()
    assert told(ahead, "keep") == {r for r in before.keys() & after.keys() if r.kind == CLAIM and wanted != "local"}
    changed = {r for r in before.keys() & after.keys() if _wish(before[r]) != _wish(after[r])}
    progress = {
        r for r in told(ahead, "change") if r.kind == CONFIG_MAP
    }  # pods are told where a download is, meanwhile
    assert told(ahead, "change") - progress == changed - progress


def _wish(body: Any) -> Any:
    """Without the count of pods, which autoscalers set, and the operator's notes of who has answered."""
    if SETTINGS_KEY in body.get("data", {}):
        told = json.loads(body["data"][SETTINGS_KEY])
        return {k: v for k, v in told.items() if k != "verifiedRevisions"}
    return {**body, "spec": {k: v for k, v in body.get("spec", {}).items() if k != "replicas"}}


async def test_weights_come_before_pods() -> None:
    world = await settled({"phase": "mock"})
    changes = foretold(world, "local").changes
    order = [(c.verb, c.ref.kind) for c in changes]
    assert order.index(("create", CLAIM)) < order.index(("create", JOB)) < order.index(("change", DEPLOYMENT))
    assert (
        order.index(("change", AUTOSCALER)) < order.index(("scale", DEPLOYMENT)) < order.index(("change", DEPLOYMENT))
    )
    assert {c.ref.kind for c in changes if not c.later} == {CONFIG_MAP, CLAIM}


async def test_the_phase_that_serves_already_changes_nothing() -> None:
    world = await settled({"phase": "hf"})
    assert foretold(world, "hf").changes == ()


async def test_an_endpoint_that_is_not_allowed_changes_no_pods_and_is_told() -> None:
    world = await settled({"phase": "mock", "hf": {"baseURL": "https://models.example.com/v1"}})
    ahead = foretold(world, "hf")
    assert DEPLOYMENT not in {c.ref.kind for c in ahead.changes}
    assert Reason.ENDPOINT_NOT_ALLOWED in {v.reason for v in verdicts(ahead.context)}


async def test_weights_that_are_there_already_are_not_fetched_again() -> None:
    world = await settled({"phase": "local"})
    world.edit({"phase": "mock"})
    await world.settle()
    ahead = foretold(world, "local")
    assert not told(ahead, "create")
    assert {c.ref.kind for c in ahead.changes if c.verb == "change"} >= {DEPLOYMENT}


async def test_looking_ahead_changes_nothing_and_says_the_same_twice() -> None:
    world = await settled({"phase": "mock"})
    before = dict(world.api.objects)
    assert foretold(world, "local") == foretold(world, "local")
    assert dict(world.api.objects) == before


async def test_the_figures_of_both_phases_stand_side_by_side() -> None:
    world = await settled({"phase": "mock", "local": {"gpu": {"count": 2}}, "expose": {"type": "ClusterIP"}})
    figures = {r.what: (r.before, r.after) for r in foretold(world, "local").rows}
    assert figures == {
        "Model": ("mock (mock)", "phi (ollama)"),
        "Pods": ("2 to 10", "1"),
        "Each pod": ("100m CPU, 128Mi", "1500m CPU, 4Gi"),
        "GPU": ("-", "2 nvidia.com/gpu"),
        "Model storage": ("-", "20Gi"),
        "If it fails": ("a canned answer", "an error"),
        "Cost a month": ("13 USD", "915 USD"),
    }
    dear = Settings(cpu_monthly=108, currency="EUR")
    assert list(rows(world.chatbot.spec, world.chatbot.spec, dear))[-1].after == "24 EUR"
