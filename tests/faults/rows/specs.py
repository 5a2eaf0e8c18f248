"""Rows D of the design, R5, R6 and R8: specs that change, race, cannot be met, and come by the hundred."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from chatbot_operator.checks.rollout import SCALING_GRACE
from chatbot_operator.kinds import CHATBOT, DEPLOYMENT, REPLICA_SET, SERVICE
from chatbot_operator.names import COMPONENT_LABEL, backend
from tests.faults.fields import FIELDS, Field, Spec, mutate, random_spec
from tests.faults.harness import Row, Run
from tests.faults.lane import DRIFT_BOUND, RESYNC_BOUND, Lane
from tests.faults.rows.neighbours import is_ready
from tests.faults.rows.steps import API_BOUND, CHANGE, ONE, start
from tests.faults.state import SCALING_TROUBLE
from tests.faults.world import replay
from tests.support.simulated_api import clone

T = TypeVar("T")

BROKEN: Spec = {**ONE, "pods": {"annotations": {"devcluster.local/fail": "ImagePullBackOff: no such image"}}}
CRASHING: Spec = {**ONE, "pods": {"annotations": {"devcluster.local/fail": "CrashLoopBackOff: back-off restarting"}}}
TOO_LARGE: Spec = {**ONE, "mock": {"resources": {"requests": {"memory": "465458Gi"}}}}
DEADLINE_BOUND = 60.0


def bad_version(spec: Spec, *reasons: str) -> Callable[[Run], Awaitable[None]]:
    """The new version never gets well: the old one serves on, the reason is told, and the old spec mends it (O7)."""

    async def script(run: Run) -> None:
        lane, (name,) = run.lane, await start(run)
        await lane.put(name, spec)
        condition = await lane.reason(name, *reasons, timeout=30)
        assert condition["message"]
        await lane.world.until("the rollout is given up", lambda: _progressing(lane, name) == "Stalled", DEADLINE_BOUND)
        assert any(is_ready(p) for p in lane.pods(name)), "the old version does not serve"
        await lane.put(name, ONE)
        began = time.monotonic()
        await lane.settled()
        run.tally.recovery.append(time.monotonic() - began)
        await run.check()

    return script


def _progressing(lane: Lane, name: str) -> str:
    return str(lane.condition(name, "Progressing").get("reason", ""))


async def changed_while_stuck(run: Run) -> None:
    lane, (name,) = run.lane, await start(run)
    await lane.put(name, BROKEN)
    await lane.reason(name, "ImagePullFailed", timeout=30)
    began = time.monotonic()
    await lane.put(name, {**ONE, **CHANGE})
    await lane.settled(timeout=30)
    run.tally.recovery.append(time.monotonic() - began)
    pods = lane.pods(name)
    assert all(is_ready(p) for p in pods if "deletionTimestamp" not in p["metadata"]), (
        "a pod of the stuck version is left"
    )
    await run.check()


async def no_refused_change(run: Run) -> None:
    """Every field changed after another: none of it is a change that the API server refuses, and none loops."""
    lane, (name,) = run.lane, await start(run)
    spec = clone(ONE)
    fields = [f for f in FIELDS if f.path != "suspend"]
    for field in fields if run.scope.full else run.rng.sample(fields, 8):
        mutate(spec, run.rng, field)
        await lane.put(name, spec)
        await lane.settled()
        run.tally.runs += 1
    refused = [str(c) for c in lane.proxy.writes() if c.status in (400, 422)]
    assert not refused, f"refused: {refused[:3]}"
    await run.check()


def flip_flop(*versions: Spec) -> Callable[[Run], Awaitable[None]]:
    """Two versions in turns, every 0.2 s, and then a third."""

    async def script(run: Run) -> None:
        lane, (name,) = run.lane, await start(run)
        lane.lag = 10
        times = 200 if run.scope.full else 40
        for number in range(times):
            await lane.patch(name, **versions[number % 2])
            await asyncio.sleep(0.2)  # the pace is what is tested
        await lane.patch(name, **versions[2])
        began = time.monotonic()
        await lane.settled(timeout=60)
        run.tally.recovery.append(time.monotonic() - began)
        for _, world in replay(lane.world.history[lane.namespace]):
            deployments = [i for i in world if i.kind == DEPLOYMENT.name and i.name.startswith(name)]
            assert len(deployments) <= 2, f"{len(deployments)} Deployments at once"
        # A page that is gone leaves its sets to the garbage collector, which takes a moment.
        await lane.world.until("one version of each has pods", lambda: _versions(lane, name) == 1, DRIFT_BOUND)
        await run.check()

    return script


def _versions(lane: Lane, name: str) -> int:
    """The most versions of one component that have pods."""
    sets = [o for o in lane.world.of(lane.namespace, REPLICA_SET, name) if o["spec"]["replicas"]]
    return max(Counter(o["metadata"]["labels"][COMPONENT_LABEL] for o in sets).values())


def _asking(cpu: str) -> Spec:
    return {"mock": {"resources": {"requests": {"cpu": cpu}}}}


async def recreated_at_once(run: Run) -> None:
    lane, (name,) = run.lane, await start(run)
    for number in range(5 if run.scope.full else 2):
        await lane.admin.delete(CHATBOT, lane.namespace, name)
        lane.bots.remove(name)
        began = time.monotonic()
        await lane.create({**ONE, "systemPrompt": f"life {number}"}, name)
        await lane.settled(timeout=60)
        run.tally.recovery.append(time.monotonic() - began)
        uid = lane.live(CHATBOT, name)["metadata"]["uid"]  # type: ignore[index]
        deployment = lane.live(DEPLOYMENT, backend(name))
        assert deployment is not None
        assert [o["uid"] for o in deployment["metadata"]["ownerReferences"]] == [uid]
        await run.check()
        lane.mark()


async def names_collide(run: Run) -> None:
    """The public Service of a Chatbot is called as the backend's Service of another one."""
    lane, (first,) = run.lane, await start(run)
    second = backend(first)
    service = lane.live(SERVICE, second)
    await lane.create(ONE, second)
    condition = await lane.reason(second, "NameConflict")
    assert f"Chatbot {first})" in condition["message"], condition["message"]
    await lane.quiet()
    assert lane.live(SERVICE, second) == service
    lane.bots.remove(second)
    await run.check()
    await lane.admin.delete(CHATBOT, lane.namespace, first)
    lane.bots[:] = [second]
    began = time.monotonic()
    await lane.settled(timeout=RESYNC_BOUND + API_BOUND)
    run.tally.recovery.append(time.monotonic() - began)
    # Until it has a Service of its own, what is seen behind that name is the other one's.
    await run.check(waive=("O9",))


async def hundreds(run: Run) -> None:
    lane, count = run.lane, 500 if run.scope.full else 30
    lane.lag = 30
    began = time.monotonic()
    await _in_parts(range(count), lambda _: lane.create(ONE))
    await lane.settled(timeout=10 + 3 * count)
    run.tally.notes.append(f"{count} settled after {time.monotonic() - began:.0f} s")
    await _all_is_told(lane)
    await lane.quiet(timeout=60)
    await run.check(quiet=60 if run.scope.full else 5)
    bots = list(lane.bots)
    began = time.monotonic()
    await _in_parts(bots, lambda name: lane.admin.delete(CHATBOT, lane.namespace, name))
    lane.bots.clear()
    await lane.world.until("all are gone", lambda: not lane.world.of(lane.namespace, CHATBOT), 60 + count)
    for name in bots:
        await lane.gone(name, 60 + count)
    run.tally.notes.append(f"gone after {time.monotonic() - began:.0f} s")


async def _all_is_told(lane: Lane) -> None:
    """Nobody knows what played pods use: every autoscaler complains, which is told once it has lasted."""

    def told() -> bool:
        return all(SCALING_TROUBLE in lane.condition(name).get("message", "") for name in lane.bots)

    await lane.world.until("what the autoscalers complain of is told", told, 2 * SCALING_GRACE.total_seconds())


async def _in_parts(items: Iterable[T], action: Callable[[T], Awaitable[object]]) -> None:
    gate = asyncio.Semaphore(8)

    async def one(item: T) -> None:
        async with gate:
            await action(item)

    await asyncio.gather(*map(one, items))


async def steady(run: Run) -> None:
    """R5: nothing is written about settled Chatbots."""
    lane = run.lane
    for _ in range(50 if run.scope.full else 10):
        await lane.create(ONE)
    await lane.settled(timeout=180)
    await _all_is_told(lane)
    await lane.quiet(3, timeout=60)
    await run.check(quiet=60 if run.scope.full else 10)


async def paths(run: Run) -> None:
    """Random specs and changes; the end is that of a fresh create (O8), with every field where it belongs (O4)."""
    lane = run.lane
    lane.lag = 10
    total, at_once = (2000, 50) if run.scope.full else (24, 12)
    # Every field is changed in some sequence.
    fields = [FIELDS[i % len(FIELDS)] for i in range(total)]
    for first in range(0, total, at_once):
        part = fields[first : first + at_once]
        await asyncio.gather(
            *(_sequence(lane, random.Random(f"{run.scope.seed}/{first + i}"), f) for i, f in enumerate(part))
        )
        await lane.settled(timeout=30 + 5 * at_once)
        await lane.quiet(timeout=60)
        refused = [str(c) for c in lane.proxy.writes() if c.status in (400, 422)]
        assert not refused, f"refused: {refused[:3]}"
        try:
            await run.check(quiet=1)
        except AssertionError as error:
            raise AssertionError(f"sequences {first} to {first + at_once}: {error}") from None
        run.tally.runs += len(part) - 1
        await _in_parts(list(lane.bots), lambda name: lane.admin.delete(CHATBOT, lane.namespace, name))
        lane.bots.clear()
        await lane.world.until("all are gone", lambda: not lane.world.of(lane.namespace, CHATBOT), 120)
        lane.mark()


async def _sequence(lane: Lane, rng: random.Random, field: Field) -> None:
    """A create and some changes, some of them at once."""
    spec = random_spec(rng, rng.randrange(4))
    name = await lane.create(spec)
    steps: list[Field | None] = [None] * rng.randrange(3)
    steps.insert(rng.randrange(len(steps) + 1), field)
    for step in steps:
        if rng.random() < 0.5:
            await lane.settled(name, timeout=120)
        spec = clone(spec)
        mutate(spec, rng, step)
        await lane.put(name, spec)


_OLD_SERVES = "Old one serves, the reason is told, the old spec mends it (O7)"

ROWS: tuple[Row, ...] = (
    Row(
        "D2",
        "More memory than any node has",
        "Old one serves, Unschedulable at once, Stalled later, mended",
        bad_version(TOO_LARGE, "Unschedulable"),
    ),
    Row("D5", "Each field changed after another", "No change that the API server refuses", no_refused_change),
    Row(
        "D6",
        "Two versions in turns every 0.2 s",
        "Only the last counts, always one ready endpoint",
        flip_flop(_asking("50m"), _asking("60m"), _asking("70m")),
    ),
    Row(
        "D6-page",
        "The chat page off and on every 0.2 s",
        "Only the last counts, always one ready endpoint",
        flip_flop({"web": {"enabled": False}}, {"web": {"enabled": True}}, {"web": {"enabled": False}}),
    ),
    Row(
        "D6-phases",
        "Two phases in turns every 0.2 s",
        "Only the last counts, always one ready endpoint",
        flip_flop({"phase": "hf"}, {"phase": "mock"}, {"phase": "hf"}),
    ),
    Row("D7", "Spec changed while a rollout is stuck", "The new spec wins", changed_while_stuck),
    Row("D8", "Deleted and recreated at once", "A clean set for the new uid", recreated_at_once),
    Row("D10", "Many created at once, then all deleted (R9)", "All converge, all go", hundreds),
    Row("D11", "Two Chatbots want one name", "NameConflict names the older; it is free when that goes", names_collide),
    Row("D14", "Random specs and pairs of changes (R6)", "O4 to O8", paths),
    Row(
        "F7",
        "New version's image cannot be pulled (R8)",
        "Old one serves, reason shown, mended",
        bad_version(BROKEN, "ImagePullFailed"),
    ),
    Row(
        "F9",
        "New version's pods crash at start (R8)",
        "Old one serves, reason shown, mended",
        bad_version(CRASHING, "Stalled", "CrashLooping"),
    ),
    Row("R5", "Nothing happens", "No write in 60 s", steady),
)
