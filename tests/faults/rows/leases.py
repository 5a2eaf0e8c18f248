"""Rows A7 to A9 of the design: two operators and one Lease."""

import asyncio
import subprocess
import time
from pathlib import Path

from chatbot_operator.kinds import LEASE
from devcluster.packages import INSTALL
from tests.faults.harness import Row, Run
from tests.faults.lane import Seat
from tests.faults.rows.steps import ONE

TERM = {"LEASE_SECONDS": "5", "LEASE_RENEW_SECONDS": "1.2"}
REAL_TERM = {"LEASE_SECONDS": "15", "LEASE_RENEW_SECONDS": "4"}
TAKEOVER_SECONDS = 20.0


async def _second(run: Run, **settings: str) -> Seat:
    seat = await run.lane.add_seat("b", **settings)
    await seat.operator.start()
    await _listed(seat)
    return seat


async def _listed(seat: Seat) -> None:
    end = time.monotonic() + 60
    while not any(line["message"] == "every kind is listed" for line in seat.operator.lines()):
        assert time.monotonic() < end, "the second operator has not started"
        await asyncio.sleep(0.1)


def _writers_apart(first: Seat, second: Seat, since: float) -> None:
    """From `since` on only the second one has written, and before it only the first."""
    early = [str(c) for c in second.proxy.writes() if c.at < since]
    late = [str(c) for c in first.proxy.writes() if c.at >= since]
    assert not early, f"two writers: {early[:3]}"
    assert not late, f"the old leader writes on: {late[:3]}"


async def leader_killed(run: Run) -> None:
    lane = run.lane
    name = await lane.create(ONE)
    await lane.settled()
    second = await _second(run)
    assert not second.proxy.writes()
    began = time.monotonic()
    await lane.operator.kill(restart=False)
    await lane.patch(name, systemPrompt="from the second")
    await second.write(1, TAKEOVER_SECONDS)
    took = second.proxy.writes()[0].at - began
    assert took <= TAKEOVER_SECONDS
    run.tally.recovery.append(took)
    await lane.settled()
    _writers_apart(lane.seats[0], second, began)
    await run.check()


async def leader_paused(run: Run) -> None:
    lane = run.lane
    name = await lane.create(ONE)
    await lane.settled()
    second = await _second(run)
    began = time.monotonic()
    lane.operator.pause()
    await lane.patch(name, systemPrompt="from the second")
    await second.write(1, 4 * float(TERM["LEASE_SECONDS"]))
    await lane.settled()
    for number in range(3):  # there is work at the moment in which the old one wakes
        await lane.patch(name, systemPrompt=f"change {number}")
        if number == 1:
            lane.operator.resume()
        await lane.settled()
    terms = 2 * float(TERM["LEASE_SECONDS"])
    await asyncio.sleep(terms)  # time for a flip-flop to show
    _writers_apart(lane.seats[0], second, began)
    lease = await lane.admin.get(LEASE, lane.namespace, lane.settings["LEASE_NAME"])
    assert lease["spec"]["holderIdentity"] == "b"
    assert lease["spec"]["leaseTransitions"] == 2, "the Lease went to and fro"
    await run.check()


LIBRARIES = Path("/usr/lib")


def _libfaketime() -> Path:
    """The library that gives a process another clock, installed from the distribution if it is not there."""
    for attempt in (False, True):
        found = next(LIBRARIES.glob("*/faketime/libfaketime.so.1"), None)
        if found is not None:
            return found
        for command in () if attempt else (("apt-get", "update"), (*INSTALL, "libfaketime")):
            subprocess.run(command, capture_output=True, check=True)
    raise AssertionError("libfaketime cannot be installed; on Debian: apt-get install libfaketime")


def _with_clock(seat: Seat, folder: Path, offset: str) -> Path:
    """A process whose wall clock is off by what the returned file says; its monotonic clock is right."""
    file = folder / f"{seat.operator.log.stem}.clock"
    file.write_text(offset)
    seat.operator.wrapper = ["env"]
    seat.operator.environ |= {
        "LD_PRELOAD": str(_libfaketime()),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }
    return file


async def clocks_off(run: Run) -> None:
    lane = run.lane
    lane.lag += 4
    first = _with_clock(lane.seats[0], run.bench.folder, "+3600")
    await lane.operator.start()
    name = await lane.create(ONE)
    await lane.settled(timeout=60)
    second = await lane.add_seat("b")
    _with_clock(second, run.bench.folder, "-3600")
    await second.operator.start()
    await _listed(second)
    first.write_text("-7200")  # it steps back
    await lane.patch(name, systemPrompt="while the clock steps back")
    await lane.settled()
    assert not second.proxy.writes(), "a wrong clock made it take the Lease"
    began = time.monotonic()
    await lane.operator.kill(restart=False)
    await lane.patch(name, systemPrompt="from the second")
    await second.write(1, 4 * float(TERM["LEASE_SECONDS"]))
    run.tally.recovery.append(second.proxy.writes()[0].at - began)
    await lane.settled()
    _writers_apart(lane.seats[0], second, began)
    await run.check()


ROWS: tuple[Row, ...] = (
    Row(
        "A7",
        "Two operators; the leader killed",
        "One acts, the other writes nothing; takeover within 20 s",
        leader_killed,
        REAL_TERM,
    ),
    Row("A8", "Leader paused past its term, then resumed", "Writes nothing more, no flip-flop", leader_paused, TERM),
    Row(
        "A9",
        "Clocks one hour fast and slow, one steps back",
        "No effect on leadership",
        clocks_off,
        TERM,
        started=False,
    ),
)
