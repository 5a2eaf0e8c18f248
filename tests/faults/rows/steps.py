"""What several rows begin or end with."""

import time

from tests.faults.fields import Spec
from tests.faults.harness import Run
from tests.faults.lane import Lane

API_BOUND = 60.0
"""T_api of the design, after the API is back."""
RESTART_BOUND = 120.0
QUICK_RETRIES = {"RETRY_FIRST_SECONDS": "0.05", "RETRY_LONGEST_SECONDS": "0.2"}
ONE: Spec = {"backend": {"autoscaling": {"minReplicas": 1}}, "web": {"autoscaling": {"minReplicas": 1}}}
CHANGE: Spec = {
    "systemPrompt": "Be kind.",
    "mock": {"resources": {"requests": {"cpu": "60m"}}},
    "expose": {"port": 9090},
}


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
