"""Rows B8 to B14 of the design and R3: calls are refused, slowed, cut."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from chatbot_operator.kinds import CONFIG_MAP, DEPLOYMENT, SERVICE
from chatbot_operator.names import backend
from tests.faults.faults import API_FAULTS, answers, late, not_json, reset, truncated
from tests.faults.harness import Row, Run
from tests.faults.lane import DRIFT_BOUND, RESYNC_BOUND
from tests.faults.proxy import Exchange, Fault, Rule
from tests.faults.rows.steps import API_BOUND, CHANGE, ONE, QUICK_RETRIES, RESTART_BOUND, healed, start, work


def first_times(times: int, fault: Fault) -> Fault:
    """Each different write meets the fault that many times, and then passes."""
    met: Counter[tuple[str, str, str]] = Counter()

    async def once(exchange: Exchange) -> Any:
        call = exchange.call
        what = call.verb, call.resource, call.name if call.resource != "events" else ""
        met[what] += 1
        if met[what] > times:
            return (await exchange.forward()).respond()
        return await fault(exchange)

    once.__name__ = f"{times} x {fault.__name__}"
    return once


def each_write_refused(code: int, reason: str, times: int) -> Callable[[Run], Awaitable[None]]:
    """409 or 422 on every write of a create and a change, and meanwhile a user edits."""

    async def script(run: Run) -> None:
        lane = run.lane
        fault = answers(code, reason, "the object has been modified" if code == 409 else "spec: Invalid value")
        lane.proxy.rules.append(Rule(first_times(times, fault), writes=True))
        name = await lane.create(ONE)
        began = time.monotonic()
        await lane.settled(timeout=DRIFT_BOUND + times * 6 + 30)
        note = {"metadata": {"annotations": {"example.com/mine": "kept"}}}
        await lane.admin.merge(DEPLOYMENT, lane.namespace, backend(name), note)
        await lane.put(name, {**ONE, **CHANGE})
        await lane.settled(timeout=DRIFT_BOUND + times * 6 + 30)
        run.tally.recovery.append(time.monotonic() - began)
        run.tally.notes.append(f"{sum(c.status == code for c in lane.proxy.writes())} writes refused")
        kept = lane.deployment(name)
        assert kept is not None
        assert kept["metadata"]["annotations"].get("example.com/mine") == "kept", "the user's edit was lost"
        await lane.admin.merge(
            DEPLOYMENT, lane.namespace, backend(name), {"metadata": {"annotations": {"example.com/mine": None}}}
        )
        await lane.quiet(timeout=60)
        await run.check()

    return script


async def refused_for_good(run: Run) -> None:
    lane = run.lane
    name = lane.fresh_name()
    policy = frozenset({"networkpolicies"})
    lane.proxy.rules.append(
        Rule(answers(422, "Invalid", "spec.ingress: Invalid value: no"), resources=policy, writes=True)
    )
    await lane.create(ONE, name)
    condition = await lane.reason(name, "AdmissionRefused", timeout=30)
    assert "spec.ingress: Invalid value: no" in condition["message"]
    await lane.world.until("the other children are there", lambda: lane.deployment(name) is not None, DRIFT_BOUND)
    await healed(run, RESYNC_BOUND)
    await run.check()


async def throttled(run: Run) -> None:
    lane, bots = run.lane, await start(run, 2)
    seconds = 30 if run.scope.full else 8
    pause = 1.0
    rule = Rule(answers(429, "TooManyRequests", headers={"Retry-After": "1"}), share=0.5)
    lane.proxy.rules.append(rule)
    began = time.monotonic()
    await work(lane, bots)
    await asyncio.sleep(seconds)  # throttled that long
    refused = [c for c in lane.proxy.trail if c.status == 429]
    rate = len(refused) / (time.monotonic() - began)
    run.tally.notes.append(f"{rate:.1f} refusals a second")
    by_bot: dict[str, list[float]] = {}
    for call in refused:
        if call.writes:
            by_bot.setdefault(call.name.split("-")[0], []).append(call.at)
    for name, times in by_bot.items():
        early = [b - a for a, b in itertools.pairwise(times) if b - a < 0.8 * pause]
        assert not early, f"{name}: called again {early[0]:.2f} s after being told to wait {pause} s"
    await healed(run)
    await run.check(waive=("O6",))


async def right_taken(run: Run) -> None:
    """403 on one verb of one resource at a time."""
    lane = run.lane
    resources = ["configmaps", "deployments", "services", "horizontalpodautoscalers", "networkpolicies"]
    for resource in resources if run.scope.full else run.rng.sample(resources, 2):
        message = f'{resource} is forbidden: User "operator" cannot patch resource "{resource}"'
        rule = Rule(answers(403, "Forbidden", message), verbs=frozenset({"patch"}), resources=frozenset({resource}))
        lane.proxy.rules[:] = [rule]
        name = await lane.create(ONE)
        condition = await lane.reason(name, "PermissionDenied", timeout=30)
        assert "patch" in condition["message"], condition
        assert resource in condition["message"], condition
        other = (SERVICE, name) if resource != "services" else (CONFIG_MAP, backend(name))
        await lane.world.until("others are made", lambda o=other: lane.live(*o) is not None, DRIFT_BOUND)  # type: ignore[misc]
        await healed(run, RESYNC_BOUND + DRIFT_BOUND)
        await run.check()
        lane.mark()


def at_random(*faults: Fault) -> Callable[[Run], Awaitable[None]]:
    """A fifth of all calls fails, in different ways."""

    async def script(run: Run) -> None:
        lane, bots = run.lane, await start(run, 2)
        lane.lag = 20
        for fault in faults:
            lane.proxy.rules.append(Rule(fault, share=0.2 / len(faults)))
        await work(lane, bots)
        began, seen = time.monotonic(), len(lane.proxy.trail)
        await asyncio.sleep(30 if run.scope.full else 10)  # failing that long
        rate = (len(lane.proxy.trail) - seen) / (time.monotonic() - began)
        run.tally.notes.append(f"{rate:.1f} calls a second meanwhile")
        await healed(run)
        await run.check(waive=("O6",))

    return script


async def slow_answers(run: Run) -> None:
    lane, bots = run.lane, await start(run, 2)
    lane.lag = 30
    lane.proxy.rules.append(Rule(late(1.0)))
    await work(lane, bots)
    await lane.settled(timeout=API_BOUND * 2)
    await healed(run)
    await run.check()


# R3 --------------------------------------------------------------------------------------------------------------

VERBS = ("list", "watch", "get", "patch", "create", "delete")


def never_deaf(fault: str) -> Callable[[Run], Awaitable[None]]:
    """One fault on all calls of one verb for a while, with work to do; one verb after another."""

    async def script(run: Run) -> None:
        lane = run.lane
        lane.lag = 40
        for verb in VERBS if run.scope.full else run.rng.sample(VERBS, 1):
            bots = await start(run, 2)
            lane.proxy.rules.append(Rule(API_FAULTS[fault](), verbs=frozenset({verb})))
            lane.proxy.close_watches()
            await work(lane, bots)
            await lane.admin.delete(SERVICE, lane.namespace, bots[0])
            await asyncio.sleep(5)  # broken that long
            met = sum(bool(c.fault) for c in lane.proxy.trail)
            try:
                await healed(run, RESTART_BOUND if lane.operator.exits else API_BOUND)
                await run.check(waive=("O5", "O6", "O9"), quiet=1)
            except AssertionError as error:
                raise AssertionError(f"{fault} on {verb}: {error}") from None
            run.tally.notes.append(f"{verb} {met}")
            for name in list(lane.bots):
                await lane.delete(name)

    return script


ROWS: tuple[Row, ...] = (
    Row(
        "B8-once",
        "409 on each write, once",
        "Retried, no lost user edit",
        each_write_refused(409, "Conflict", 1),
        QUICK_RETRIES,
    ),
    Row(
        "B8-ten",
        "409 on each write, ten times",
        "Retried, no lost user edit",
        each_write_refused(409, "Conflict", 10),
        QUICK_RETRIES,
    ),
    Row("B9-once", "422 on each write, once", "Retried", each_write_refused(422, "Invalid", 1), QUICK_RETRIES),
    Row("B9", "422 on one child for good", "AdmissionRefused with the API's message, others made", refused_for_good),
    Row("B10", "429 with Retry-After on half of the calls", "Waits as told, converges", throttled),
    Row("B11", "403 on one verb of one resource", "PermissionDenied names both, others made, heals", right_taken),
    Row(
        "B13",
        "500, 503 and cut connections on a fifth of the calls",
        "Converges",
        at_random(answers(500, "InternalError"), answers(503, "ServiceUnavailable"), reset()),
    ),
    Row(
        "B14", "Truncated and other than JSON on a fifth of the calls", "Converges", at_random(truncated(), not_json())
    ),
    Row("B14-slow", "Every call a second late", "Slower, not wrong", slow_answers),
    *(
        Row(
            f"R3-{name}",
            f"{name} on every call of one verb, each verb",
            "Converges within 60 s after",
            never_deaf(name),
        )
        for name in API_FAULTS
    ),
)
