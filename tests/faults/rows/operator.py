"""Rows A1 to A6 of the design and R1: the operator's process dies, or is away."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from chatbot_operator.kinds import CHATBOT, CONFIG_MAP, DEPLOYMENT, SERVICE
from chatbot_operator.names import backend
from tests.faults.admin import NAMESPACE
from tests.faults.faults import after, before
from tests.faults.fields import Spec
from tests.faults.harness import Row, Run
from tests.faults.lane import CRASH_BOUND, Lane
from tests.faults.proxy import Fault, Rule
from tests.faults.rows.steps import CHANGE, ONE
from tests.faults.state import differences

VARIANTS: dict[str, Spec] = {
    "smallest": ONE,
    "everything": {
        "systemPrompt": "Be brief.",
        "mock": {"replies": ["Hello."], "tokensPerSecond": 9, "resources": {"requests": {"cpu": "50m"}}},
        "backend": {"autoscaling": {"minReplicas": 2, "maxReplicas": 4, "targetCPUPercent": 60}},
        "access": {"mode": "APIKey", "keysSecretRef": {"name": "chat-keys"}, "requestsPerMinute": 30},
        "expose": {"type": "LoadBalancer", "port": 8080, "annotations": {"example.com/note": "one"}},
        "pods": {"labels": {"team": "blue"}, "nodeSelector": {"type": "fake"}},
    },
    "fixed": {"backend": {"replicas": 2, "autoscaling": {"enabled": False}}},
    "replace": {"backend": {"rollout": "Replace", "autoscaling": {"minReplicas": 1}}},
}


def life(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """What a Chatbot goes through, with the spec after each step."""
    yield "create", spec
    changed = {**spec, **CHANGE, "expose": {**spec.get("expose", {}), **CHANGE["expose"]}}
    yield "change", changed
    yield "suspend", {**changed, "suspend": True}
    yield "resume", changed
    fixed = {**changed, "backend": {"replicas": 2, "autoscaling": {"enabled": False}}}
    yield "scaling off", fixed
    yield "scaling on", {**changed, "backend": {"autoscaling": {"minReplicas": 2, "maxReplicas": 3}}}


async def _step(run: Run, name: str, spec: Spec, *, first: bool) -> None:
    lane = run.lane
    began = time.monotonic()
    await (lane.create(spec, name) if first else lane.put(name, spec))
    await lane.settled(name, timeout=2 * CRASH_BOUND)
    starts = lane.operator.starts
    if starts > 1:
        run.tally.recovery.append(time.monotonic() - began)
    await lane.quiet()


async def count_writes(run: Run, spec: Spec) -> list[int]:
    """How many writes each step of a life takes, undisturbed."""
    name, counts = run.lane.fresh_name(), []
    for number, (_, target) in enumerate(life(spec)):
        run.lane.mark()
        await _step(run, name, target, first=number == 0)
        counts.append(len(run.lane.proxy.writes()))
    await run.lane.delete(name)
    return counts


def killed(when: Callable[[Callable[[], Awaitable[None]]], Fault], variant: str) -> Callable[[Run], Awaitable[None]]:
    """Lives in which the operator dies at the k-th write of every step, for every k."""

    async def script(run: Run) -> None:
        spec = VARIANTS[variant]
        counts = await count_writes(run, spec)
        kills = list(range(max(counts)))
        if not run.scope.full:
            kills = sorted(run.rng.sample(kills, max(1, len(kills) // 4)))
        for k in kills:
            await _killed_life(run, spec, counts, k, when)
        run.tally.notes.append(f"writes a step: {counts}")

    return script


async def _killed_life(
    run: Run, spec: Spec, counts: list[int], k: int, when: Callable[[Callable[[], Awaitable[None]]], Fault]
) -> None:
    lane, name = run.lane, run.lane.fresh_name()
    lane.mark()
    for number, (step, target) in enumerate(life(spec)):
        if k >= max(counts[number:]):
            break
        rule = Rule(when(lane.operator.kill), writes=True, skip=k, times=1)
        lane.proxy.rules[:] = [rule] if k < counts[number] else []
        await _step(run, name, target, first=number == 0)
        run.tally.runs += rule.hits
        await lane.as_undisturbed(run.references, CRASH_BOUND)
        state, mask = await run.references.of(lane.live(CHATBOT, name)["spec"])  # type: ignore[index]
        wrong = differences(lane.state(name), state, mask)
        assert not wrong, f"{step}, killed at write {k}: " + "\n".join(wrong[:5])
    lane.proxy.rules.clear()
    await run.check(quiet=0.5)
    run.tally.runs -= 1
    await lane.delete(name)


async def status_write(run: Run) -> None:
    lane = run.lane
    for when in (before, after):
        lane.mark()
        lane.proxy.rules[:] = [Rule(when(lane.operator.kill), resources=frozenset({"chatbots/status"}), times=2)]
        name = await lane.create(ONE)
        await lane.settled(name, timeout=2 * CRASH_BOUND)
        assert lane.proxy.rules[0].hits
        await run.check()
        await lane.delete(name)


async def away_while_all_changes(run: Run) -> None:
    lane = run.lane
    name = await lane.create(ONE)
    await lane.settled()
    await lane.operator.kill(restart=False)
    for prompt in "abcde":
        await lane.patch(name, systemPrompt=prompt)
    for kind, child in ((DEPLOYMENT, backend(name)), (SERVICE, name), (CONFIG_MAP, backend(name))):
        await lane.admin.delete(kind, lane.namespace, child)
    await lane.world.until("they are gone", lambda: lane.deployment(name) is None, 10)
    lane.mark()
    began = time.monotonic()
    await lane.operator.start()
    await lane.world.until("all are back", lambda: lane.deployment(name) is not None, CRASH_BOUND)
    await lane.settled(timeout=CRASH_BOUND)
    run.tally.recovery.append(time.monotonic() - began)
    await run.check()


async def away_while_deleted(run: Run) -> None:
    lane = run.lane
    name = await lane.create(ONE)
    await lane.settled()
    await lane.operator.kill(restart=False)
    await lane.delete(name)
    await lane.operator.start()
    await run.check()
    assert not lane.proxy.writes()[-1:] or lane.proxy.writes()[-1].name.startswith(name)


async def away_while_namespace_goes(run: Run) -> None:
    lane = run.lane
    await lane.create(ONE)
    await lane.settled()
    await lane.operator.kill(restart=False)
    await lane.admin.delete(NAMESPACE, None, lane.namespace)
    await namespace_gone(lane, 120)
    run.tally.runs += 1


async def namespace_gone(lane: Lane, timeout: float) -> None:
    """Wait until the namespace has finished terminating."""
    end = time.monotonic() + timeout
    while any(n["metadata"]["name"] == lane.namespace for n in await lane.admin.list(NAMESPACE)):
        assert time.monotonic() < end, f"the namespace is still there after {timeout:g} s"
        await asyncio.sleep(0.5)
    lane.bots.clear()


_R1 = "Restart completes it: the state of an undisturbed run, no object made twice, none left over, within 30 s"

ROWS: tuple[Row, ...] = (
    *(
        Row(f"A1-{v}", f"Kill -9 before the k-th write of every step, every k ({v})", _R1, killed(before, v))
        for v in VARIANTS
    ),
    *(
        Row(
            f"A2-{v}",
            f"Kill -9 after the k-th write is committed, its answer lost, every k ({v})",
            _R1,
            killed(after, v),
        )
        for v in VARIANTS
    ),
    Row(
        "A3", "Kill during status writes, before and after", "Status correct, no old generation reported", status_write
    ),
    Row(
        "A4",
        "Operator down, spec changed 5 times, children deleted",
        "Last spec applied, all back",
        away_while_all_changes,
    ),
    Row(
        "A5",
        "Operator down, Chatbot deleted",
        "Goes at once, children are collected without the operator",
        away_while_deleted,
    ),
    Row("A6", "Operator down, namespace deleted", "Finishes terminating within 120 s", away_while_namespace_goes),
)
