"""Brings the control plane, the onlooker and the lanes together and runs rows of the table side by side.

It must not know what a row does.
"""

import asyncio
import random
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chatbot_operator.kinds import Kind
from tests.faults.admin import administrator
from tests.faults.fields import PRIORITY_CLASS
from tests.faults.lane import RESYNC_BOUND, Bench, Lane, References, lane_on
from tests.faults.oracles import judge
from tests.faults.world import World
from tests.support.cluster import ClusterAccess
from tests.support.operator import NAMESPACE, RELEASE, install

SIDE_BY_SIDE = 10
"""Lanes at once: on two cores more of them only wait for each other."""


@dataclass(frozen=True)
class Scope:
    """How much of a row is run: a seeded share, or all of it."""

    seed: int
    full: bool

    def rng(self, row: str) -> random.Random:
        """The row's own generator: the same whatever else runs."""
        return random.Random(f"{self.seed}/{row}")


@dataclass
class Tally:
    """What a row counted and measured on its way, for the report."""

    runs: int = 0
    notes: list[str] = field(default_factory=list)
    recovery: list[float] = field(default_factory=list)
    """Seconds from the end of a disturbance to the state that was asked for."""


@dataclass
class Run:
    """One row at work: its lane, and what it needs to know."""

    lane: Lane
    references: References
    scope: Scope
    rng: random.Random
    tally: Tally
    bench: Bench
    access: ClusterAccess

    async def check(self, *, quiet: float | None = None, waive: Collection[str] = ()) -> None:
        """Ask the oracles about what the lane has been through since its last mark. Raises AssertionError."""
        seconds = quiet if quiet is not None else 6.0 if self.scope.full else 2.0
        if "O1" not in waive:
            await self.lane.as_undisturbed(self.references, RESYNC_BOUND)
        await self.lane.quiet()
        trial = await self.lane.trial(self.references, quiet=seconds)
        # Not in the loop: other rows' operators wait for the proxies in it.
        wrong = await asyncio.to_thread(judge, trial, waive)
        assert not wrong, "\n".join(wrong[:12]) + (f"\n… and {len(wrong) - 12} more" if len(wrong) > 12 else "")
        self.tally.runs += 1


Script = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True)
class Row:
    """One scenario of the design: what is injected, what is expected, and the script that does it."""

    id: str
    inject: str
    expect: str
    script: Script
    settings: dict[str, str] = field(default_factory=dict)
    alone: bool = False
    """It disturbs the whole control plane: nothing else runs beside it."""
    started: bool = True
    labels: dict[str, str] = field(default_factory=dict)
    """Of the lane's namespace."""


@dataclass
class Result:
    """How a row ended."""

    row: Row
    seconds: float
    error: str
    tally: Tally


@dataclass
class Harness:
    """One control plane at work."""

    access: ClusterAccess
    bench: Bench
    references: References

    async def run(
        self, rows: Iterable[Row], scope: Scope, told: Callable[[Result], None] = lambda _: None
    ) -> list[Result]:
        """Every row, many at once, and then those that need to be alone."""
        chosen = list(rows)
        gate = asyncio.Semaphore(SIDE_BY_SIDE)

        async def guarded(row: Row) -> Result:
            async with gate:
                result = await self._one(row, scope)
                told(result)
                return result

        results = await asyncio.gather(*(guarded(r) for r in chosen if not r.alone))
        for row in chosen:
            if row.alone:
                results.append(await guarded(row))
        return results

    async def _one(self, row: Row, scope: Scope) -> Result:
        tally, began, error = Tally(), time.monotonic(), ""
        try:
            async with lane_on(self.bench, started=row.started, labels=row.labels, **row.settings) as lane:
                run = Run(lane, self.references, scope, scope.rng(row.id), tally, self.bench, self.access)
                await row.script(run)
        except AssertionError as failed:
            error = str(failed) or traceback.format_exc()
        except Exception:  # a row that breaks down has failed, and the others go on
            error = traceback.format_exc()
        return Result(row, time.monotonic() - began, error, tally)


@asynccontextmanager
async def harness_on(access: ClusterAccess, folder: Path) -> AsyncIterator[Harness]:
    """The chart's objects on a control plane with fake nodes, an onlooker, and a lane for references."""
    await asyncio.to_thread(install, access)
    # Each lane is an install of its own, and this one, which serves every namespace, would be older.
    await asyncio.to_thread(access.kubectl, "delete", "lease", RELEASE, "-n", NAMESPACE)
    token = await asyncio.to_thread(_token, access)
    async with administrator(access.kubeconfig) as admin:
        priority = Kind("PriorityClass", "scheduling.k8s.io", "v1", "priorityclasses")
        await admin.create(priority, None, {"metadata": {"name": PRIORITY_CLASS}, "value": 1000})
        world = await World(admin).start()
        bench = Bench(admin, world, folder, token)
        try:
            async with lane_on(bench) as lane:
                yield Harness(access, bench, References(lane))
        finally:
            await world.stop()


def _token(access: ClusterAccess) -> str:
    return access.kubectl("create", "token", RELEASE, "-n", NAMESPACE, "--duration=8h").stdout.strip()
