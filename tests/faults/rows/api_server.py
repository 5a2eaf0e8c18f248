"""Rows B of the design, R2 and R3: the API server and the way to it fail."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from chatbot_operator.kinds import CHATBOT, CONFIG_MAP, DEPLOYMENT, SERVICE
from chatbot_operator.names import CHATBOT_LABEL, backend
from tests.faults.admin import Object
from tests.faults.faults import API_FAULTS, answers, late, not_json, reset, truncated, watch_error
from tests.faults.harness import Row, Run
from tests.faults.lane import DRIFT_BOUND, RESYNC, RESYNC_BOUND, Lane
from tests.faults.proxy import Exchange, Fault, Rule, WatchFilter
from tests.faults.rows.operator import CHANGE, ONE

API_BOUND = 60.0
"""T_api of the design, after the API is back."""
RESTART_BOUND = 120.0
QUICK_RETRIES = {"RETRY_FIRST_SECONDS": "0.05", "RETRY_LONGEST_SECONDS": "0.2"}


async def start(run: Run, count: int = 1) -> list[str]:
    """Chatbots that have settled before anything happens."""
    bots = [await run.lane.create(ONE) for _ in range(count)]
    await run.lane.settled(timeout=90)
    await run.lane.quiet()
    run.lane.mark()
    return bots


async def work(lane: Lane, bots: list[str]) -> None:
    """Of everything something: a create, a change, a suspend (which deletes the autoscaler)."""
    await lane.create(ONE)
    await lane.put(bots[0], {**ONE, **CHANGE})
    await lane.put(bots[1], {**ONE, "suspend": True})


async def healed(run: Run, bound: float = API_BOUND) -> None:
    """No more faults: wait until all is well, within the bound, and ask the oracles."""
    run.lane.proxy.clear()
    began = time.monotonic()
    await run.lane.settled(timeout=bound)
    run.tally.recovery.append(time.monotonic() - began)
    await run.lane.quiet(timeout=60)


# outages ---------------------------------------------------------------------------------------------------------


async def outage(run: Run) -> None:
    lane = run.lane
    bots = await start(run, 2)
    lane.lag = 45
    lane.proxy.refuses = True
    lane.proxy.close_watches()
    await work(lane, bots)
    await asyncio.sleep(40 if run.scope.full else 10)  # the outage itself
    await healed(run)
    await run.check(waive=("O6",))


def restarted(component: str) -> Callable[[Run], Awaitable[None]]:
    """The real process is killed and comes back."""

    async def script(run: Run) -> None:
        cluster = run.access.cluster
        assert cluster is not None
        bots = await start(run, 2)
        run.lane.lag = 45
        await asyncio.to_thread(cluster.kill, component)
        await asyncio.sleep(10)  # the outage itself
        await asyncio.to_thread(cluster.restart, component)
        await work(run.lane, bots)
        await healed(run)
        await run.check(waive=("O6",))

    return script


# watches ---------------------------------------------------------------------------------------------------------


async def watches_closed(run: Run) -> None:
    lane, bots = run.lane, await start(run)
    name, before = bots[0], _lists(lane)
    rounds = 20 if run.scope.full else 6
    for number in range(rounds):
        lane.proxy.close_watches()
        began = time.monotonic()
        await lane.patch(name, systemPrompt=f"round {number}")
        await lane.settled(timeout=DRIFT_BOUND)
        run.tally.recovery.append(time.monotonic() - began)
    took = _lists(lane) - before
    run.tally.notes.append(f"{took} lists in {rounds} rounds")
    # A resync lists 12 kinds; a relist at each closing would be 13 more a round.
    assert took < 13 * rounds, f"{took} lists: a relist storm"
    await run.check()


def _lists(lane: Lane) -> int:
    return sum(c.verb == "list" and c.resource != "" for c in lane.proxy.trail)


def watch_fails(code: int, reason: str) -> Callable[[Run], Awaitable[None]]:
    """Every watch ends with an ERROR event, and so do the next ones."""

    async def script(run: Run) -> None:
        lane, bots = run.lane, await start(run, 2)
        lane.lag = RESYNC_BOUND
        lane.proxy.rules.append(Rule(watch_error(code, reason), verbs=frozenset({"watch"}), times=28))
        lane.proxy.close_watches()
        await work(lane, bots)
        await lane.settled(timeout=RESYNC_BOUND)
        await healed(run)
        await _hears(run)
        await run.check(waive=("O6",))

    return script


async def _hears(run: Run) -> None:
    """Watches deliver again: a change is acted on without a resync, and if the process had to end, it is back."""
    lane = run.lane
    began = time.monotonic()
    await lane.patch(lane.bots[0], systemPrompt="can you hear me")
    await lane.settled(timeout=RESTART_BOUND)
    run.tally.recovery.append(time.monotonic() - began)
    assert len(lane.operator.exits) <= 2, f"a crash loop: {lane.operator.exits}"


def _expiring() -> Fault:
    """A list comes in two pages, and the token of the second has expired."""

    async def fault(exchange: Exchange) -> Any:
        if "continue=" in exchange.call.url:
            return await answers(410, "Expired", "The provided continue parameter is too old")(exchange)
        reply = await exchange.forward()
        return reply.respond(reply.body.replace(b'"metadata":{', b'"metadata":{"continue":"expired",', 1))

    return fault


async def expired_token(run: Run) -> None:
    lane, bots = run.lane, await start(run, 2)
    lane.proxy.rules.append(Rule(_expiring(), verbs=frozenset({"list"}), times=40))
    await lane.operator.kill()  # its first lists, too
    await work(lane, bots)
    await healed(run)
    await run.check()


async def watch_silent(run: Run) -> None:
    lane, bots = run.lane, await start(run, 2)
    lane.lag = RESYNC_BOUND
    lane.proxy.mute()
    began = time.monotonic()
    await work(lane, bots)
    await lane.settled(timeout=RESYNC_BOUND * 2)
    run.tally.recovery.append(time.monotonic() - began)
    await healed(run)
    await run.check()


def nth_event(skips: dict[str, int], dropped: set[str]) -> WatchFilter:
    """Keeps from the operator the n-th event about each Chatbot and its children, and nothing else."""
    seen: Counter[str] = Counter()

    def shows(_: str, event: Object) -> bool:
        metadata = event["object"].get("metadata", {})
        chatbot = metadata.get("labels", {}).get(CHATBOT_LABEL) or metadata.get("name", "")
        if chatbot not in skips:
            return True
        seen[chatbot] += 1
        if seen[chatbot] == skips[chatbot] + 1:
            dropped.add(chatbot)
            return False
        return True

    return shows


async def each_event_dropped(run: Run) -> None:
    """Many Chatbots at once; of each another event of its create and its change is never seen."""
    lane = run.lane
    await start(run)
    lane.lag = RESYNC_BOUND
    seen: Counter[str] = Counter()
    lane.proxy.watch_filter = _counting(seen)
    probe = await lane.create(ONE)
    await lane.settled()
    await lane.put(probe, {**ONE, **CHANGE})
    await lane.settled()
    events = seen[probe]
    kept = list(range(events)) if run.scope.full else sorted(run.rng.sample(range(events), events // 3))
    names = {lane.fresh_name(): n for n in kept}
    dropped: set[str] = set()
    lane.proxy.watch_filter = nth_event(names, dropped)
    began = time.monotonic()
    await asyncio.gather(*(lane.create(ONE, name) for name in names))
    await lane.settled(timeout=RESYNC_BOUND + API_BOUND)
    await asyncio.gather(*(lane.put(name, {**ONE, **CHANGE}) for name in names))
    await lane.settled(timeout=RESYNC_BOUND + API_BOUND)
    run.tally.recovery.append(time.monotonic() - began)
    run.tally.notes.append(f"{len(dropped)} of {events} events dropped, each once")
    assert len(dropped) >= len(names) * 3 // 4, "most of the events never came: nothing was tested"
    run.tally.runs += len(dropped)
    await lane.quiet(timeout=60)
    await run.check()


def _counting(seen: Counter[str]) -> WatchFilter:
    def shows(_: str, event: Object) -> bool:
        metadata = event["object"].get("metadata", {})
        seen[metadata.get("labels", {}).get(CHATBOT_LABEL) or metadata.get("name", "")] += 1
        return True

    return shows


def stale(*, restart: bool) -> Callable[[Run], Awaitable[None]]:
    """Lists and watches show an old world, in which what was made since is missing."""

    async def script(run: Run) -> None:
        lane, bots = run.lane, await start(run, 3)
        changed, suspended, renewed = bots
        await lane.proxy.freeze()
        lane.lag = 30
        await lane.put(changed, {**ONE, **CHANGE})
        await lane.put(suspended, {**ONE, "suspend": True})
        # The same name, another object: what is decided from the old one must not touch the new one.
        await lane.admin.delete(CHATBOT, lane.namespace, renewed)
        await lane.gone(renewed, 60)
        lane.bots.remove(renewed)
        await lane.create(ONE, renewed)
        if restart:
            await lane.operator.kill()
        await asyncio.sleep(4 * RESYNC if run.scope.full else 2 * RESYNC)  # it works on with what it sees
        deletes = [str(c) for c in lane.proxy.writes() if c.verb == "delete"]
        assert not deletes, f"deleted by what it saw of an old world: {deletes}"
        await healed(run, RESYNC_BOUND + DRIFT_BOUND)
        await run.check()

    return script


# answers to writes -----------------------------------------------------------------------------------------------


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
    Row("B1", "The way to the API server is cut", "Converges within 60 s after", outage),
    Row(
        "B1-real",
        "API server killed, back after 10 s",
        "Converges within 60 s after",
        restarted("apiserver"),
        alone=True,
    ),
    Row("B2-real", "etcd killed, back after 10 s", "Converges within 60 s after", restarted("etcd"), alone=True),
    Row("B2", "Watches say 500 leader changed", "Never deaf", watch_fails(500, "InternalError")),
    Row("B3", "Watches closed again and again", "No missed change, no relist storm", watches_closed),
    Row("B4-watch", "Watches say 410 Gone", "Relist, no duplicate work", watch_fails(410, "Expired")),
    Row("B4-list", "The token of a list's second page has expired", "Relist, no duplicate work", expired_token),
    Row("B5", "Watches open and silent", "Healed by the resync", watch_silent),
    Row("B6", "Every single watch event dropped, one at a time (R2)", "End state equal", each_event_dropped),
    Row("B7", "An old world is shown (R2)", "No destructive act; converges when fresh", stale(restart=False)),
    Row("B7-restart", "An old world is shown, also after a restart (R2)", "The same", stale(restart=True)),
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
