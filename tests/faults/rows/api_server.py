"""Rows B1 to B7 of the design and R2: the API server is away, or its watches lie."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from chatbot_operator.kinds import CHATBOT
from chatbot_operator.names import CHATBOT_LABEL
from tests.faults.admin import Object
from tests.faults.faults import answers, watch_error
from tests.faults.harness import Row, Run
from tests.faults.lane import DRIFT_BOUND, RESYNC, RESYNC_BOUND, Lane
from tests.faults.proxy import Exchange, Fault, Rule, WatchFilter
from tests.faults.rows.steps import API_BOUND, CHANGE, ONE, RESTART_BOUND, healed, start, work


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
)
