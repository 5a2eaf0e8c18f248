"""Rows A of the design and R1: what may happen to the operator's own process."""

import asyncio
import contextlib
import json
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chatbot_operator.kinds import CHATBOT, CONFIG_MAP, DEPLOYMENT, LEASE, SERVICE
from chatbot_operator.names import backend
from devcluster import cgroups
from devcluster.packages import INSTALL
from tests.faults.admin import NAMESPACE, Object
from tests.faults.faults import after, before
from tests.faults.fields import Spec
from tests.faults.harness import Row, Run
from tests.faults.lane import CRASH_BOUND, DRIFT_BOUND, Lane, Seat
from tests.faults.proxy import Fault, Rule
from tests.faults.state import differences
from tests.faults.world import replay

ONE: Spec = {"backend": {"autoscaling": {"minReplicas": 1}}}
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
CHANGE: Spec = {
    "systemPrompt": "Be kind.",
    "mock": {"resources": {"requests": {"cpu": "60m"}}},
    "expose": {"port": 9090},
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


# two operators ---------------------------------------------------------------------------------------------------

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


# one object, few means -------------------------------------------------------------------------------------------


async def poison(run: Run) -> None:
    lane = run.lane
    sick, well = await lane.create(ONE), await lane.create(ONE)
    await lane.settled()

    def damage(obj: Object) -> Object:
        poisoned = obj["metadata"]["name"] == backend(sick) and "replicas" in obj.get("spec", {})
        return {k: v for k, v in obj.items() if k != "spec"} if poisoned else obj

    lane.proxy.rewrite = damage
    await lane.patch(sick, pods={"labels": {"team": "red"}})
    await lane.reason(sick, "ReconcileFailed")
    began = time.monotonic()
    await lane.patch(well, systemPrompt="not delayed")
    await lane.settled(well, timeout=DRIFT_BOUND)
    run.tally.recovery.append(time.monotonic() - began)
    lane.proxy.rewrite = None
    await lane.operator.kill()  # what it was shown is in its memory
    await lane.settled(timeout=2 * CRASH_BOUND)
    errors = [line for line in lane.operator.lines() if line["level"] == "ERROR"]
    assert errors, "a bug leaves a traceback in the log"
    assert {line.get("chatbot") for line in errors} == {f"{lane.namespace}/{sick}"}
    await run.check(waive=("O6",))


@contextmanager
def _starved(name: str, memory: int, cpu: float) -> Iterator[list[str]]:
    """A control group with little; the command that puts a process into it."""
    cgroups.make(name)
    roots = cgroups.hierarchies(cgroups.MOUNTS.read_text(), "cgroup")
    groups = [r / name for r in roots if r.name in ("memory", "cpu", "cpu,cpuacct")]
    period = 100_000
    try:
        for group in groups or [r / name for r in cgroups.hierarchies(cgroups.MOUNTS.read_text(), "cgroup2")]:
            limits = {
                "memory.limit_in_bytes": str(memory),
                "memory.max": str(memory),
                "cpu.cfs_quota_us": str(int(cpu * period)),
                "cpu.max": f"{int(cpu * period)} {period}",
            }
            for file, value in limits.items():
                if (group / file).exists():
                    (group / file).write_text(value)
        joins = "; ".join(f"echo $$ > {group / 'cgroup.procs'}" for group in groups)
        yield ["sh", "-c", f'{joins}; exec "$0" "$@"']
    finally:
        cgroups.remove(name)


async def starved(run: Run) -> None:
    lane = run.lane
    lane.lag += 10
    with _starved(f"{lane.namespace}-starved", 96 * 2**20, 0.1) as wrapper:
        lane.operator.wrapper = wrapper
        await lane.operator.start()
        for _ in range(3):
            await lane.create(ONE)
        await lane.settled(timeout=300)
        await lane.quiet(timeout=60)
        await run.check()
        run.tally.notes.append(f"ended {len(lane.operator.exits)} times")
        await lane.operator.kill(restart=False)


async def upgraded(run: Run) -> None:
    lane, count = run.lane, 20 if run.scope.full else 6
    for _ in range(count):
        await lane.create(ONE)
    await lane.settled(timeout=120)
    await lane.quiet()
    lane.mark()
    await lane.operator.stop()
    await lane.operator.start()  # the same templates: nothing is written
    await _looked_at_all(lane)
    assert not lane.proxy.writes(), f"a restart writes: {lane.proxy.writes()[0]}"
    await lane.operator.stop()
    lane.operator.settings["RUNTIME_IMAGE"] = "localhost/chatbot-runtime:next"
    await lane.operator.start()
    await lane.world.until("all have the new image", lambda: all(map(_next_image(lane), lane.bots)), 40.0 + 10 * count)
    await lane.settled(timeout=60)
    at_once = max(_rolling(world) for _, world in replay(lane.world.history[lane.namespace]) if world)
    assert at_once <= 1, f"{at_once} Chatbots were rolled out at once"
    await lane.operator.stop()
    lane.operator.settings["RUNTIME_IMAGE"] = lane.settings["RUNTIME_IMAGE"]
    await lane.operator.start()
    await lane.world.until("all went back", lambda: not any(map(_next_image(lane), lane.bots)), 40.0 + 10 * count)
    await lane.settled(timeout=60)
    await run.check()


async def _looked_at_all(lane: Lane) -> None:
    await lane.seats[0].lists(2)


def _next_image(lane: Lane) -> Callable[[str], bool]:
    def has(name: str) -> bool:
        live = lane.deployment(name)
        return live is not None and live["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":next")

    return has


def _rolling(world: Any) -> int:
    """Deployments whose pods are being replaced for the image alone."""
    count = 0
    for id_, obj in world.items():
        if id_.kind == DEPLOYMENT.name and "replicas" in obj.get("status", {}):
            status, replicas = obj["status"], obj["spec"]["replicas"]
            behind = status.get("updatedReplicas", 0) < replicas or status.get("replicas", 0) > replicas
            first = obj["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision", "1") == "1"
            count += behind and not first
    return count


async def downgraded(run: Run) -> None:
    lane = run.lane
    name = await lane.create(ONE)
    await lane.settled()
    await lane.quiet()
    lane.mark()

    def newer(obj: Object) -> Object:
        """As a later version's definition would show it."""
        if obj.get("kind") != CHATBOT.name:
            return obj
        status = {**obj.get("status", {}), "futureCount": 3}
        if "conditions" in status:
            future: Object = {"type": "Future", "status": "True", "reason": "New", "message": "later"}
            future |= {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
            status["conditions"] = [*status["conditions"], future]
        return {**obj, "spec": {**obj["spec"], "futureField": {"a": 1}}, "status": status}

    lane.proxy.rewrite = newer
    await lane.operator.stop()
    await lane.operator.start()
    await _looked_at_all(lane)
    touched = [c for c in lane.proxy.writes() if c.resource != "chatbots/status"]
    assert not touched, f"an unknown field made it write: {touched[0]}"
    await lane.patch(name, systemPrompt="still works")
    await lane.world.until("the change is there", lambda: _prompt(lane, name) == "still works", DRIFT_BOUND)
    lane.proxy.rewrite = None
    await lane.operator.kill()
    await lane.settled()
    await run.check()


def _prompt(lane: Lane, name: str) -> str:
    settings = lane.live(CONFIG_MAP, backend(name))
    return str(json.loads(settings["data"]["settings.json"])["systemPrompt"]) if settings else ""


async def definition_gone(run: Run) -> None:
    lane, crd = run.lane, "chatbots.chatbot-operator.dev"
    definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await lane.create(ONE)
    await lane.settled()
    whole = await lane.admin.request("GET", f"{definition}/{crd}")
    await lane.admin.request("DELETE", f"{definition}/{crd}")
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(AssertionError):
            fresh = {k: whole[k] for k in ("apiVersion", "kind", "spec")}
            fresh["metadata"] = {"name": crd}
            await lane.admin.request("POST", definition, fresh)
            break
        assert time.monotonic() < end, "the definition does not go"
        await asyncio.sleep(0.2)
    lane.bots.clear()
    lane.mark()
    await asyncio.to_thread(run.access.kubectl, "wait", "--for=condition=Established", f"crd/{crd}", "--timeout=30s")
    await lane.create(ONE)
    await lane.settled(timeout=60)
    run.tally.notes.append(f"ended {len(lane.operator.exits)} times")
    assert len(lane.operator.exits) <= 3, f"a crash loop: {lane.operator.exits}"
    await run.check(waive=("O6",))


async def token_rotated(run: Run) -> None:
    """The account's own files, as a pod has them, with a token that is revoked and another one in its place."""
    lane, cluster = run.lane, run.access.cluster
    assert cluster is not None
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cluster.layout.pki / "apiserver.crt", cluster.layout.pki / "apiserver.key")
    await lane.proxy.stop()
    await lane.proxy.start(tls)
    account = run.bench.folder / lane.namespace / "account"
    account.mkdir()
    (account / "ca.crt").write_bytes((cluster.layout.pki / "server-ca.crt").read_bytes())
    (account / "namespace").write_text(lane.namespace)
    (account / "token").write_text(run.bench.token)
    place = "/run/secrets/kubernetes.io/serviceaccount"
    mounts = f'mount -t tmpfs tmpfs /run && mkdir -p {place} && mount --bind {account} {place} && exec "$0" "$@"'
    lane.operator.wrapper = ["unshare", "--mount", "sh", "-c", mounts]
    lane.operator.environ = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(lane.proxy.port),
    }
    await lane.operator.start()
    name = await lane.create(ONE)
    await lane.settled(timeout=60)
    fresh = (await asyncio.to_thread(_token_again, run)).strip()
    lane.proxy.token = fresh
    lane.proxy.close_watches()
    await lane.patch(name, systemPrompt="after the rotation")
    lane.lag = 120
    # Written anew in place: a bind mount shows the folder.
    (account / "token").write_text(fresh)
    began = time.monotonic()
    await lane.world.until("the change is there", lambda: _prompt(lane, name) == "after the rotation", 120)
    run.tally.recovery.append(time.monotonic() - began)
    assert len(lane.operator.exits) <= 1, f"a crash loop: {lane.operator.exits}"
    run.tally.notes.append(f"ended {len(lane.operator.exits)} times")
    await lane.settled()
    await run.check(waive=("O6",))


def _token_again(run: Run) -> str:
    return run.access.kubectl("create", "token", "chatbot-operator", "-n", "chatbot-system", "--duration=7h").stdout


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
    Row("A10", "One Chatbot makes the reconcile raise", "Others undisturbed, it says ReconcileFailed", poison),
    Row(
        "A11",
        "96 MiB and a tenth of a core",
        "Slower, not wrong; converges in 5 min",
        starved,
        {"API_TIMEOUT_SECONDS": "30", "LEASE_SECONDS": "15", "LEASE_RENEW_SECONDS": "4"},
        started=False,
    ),
    Row(
        "A12",
        "Restarted, upgraded and downgraded under running Chatbots",
        "0 writes when nothing differs, else one Chatbot at a time",
        upgraded,
    ),
    Row("A13", "Objects of a later version's definition", "Unknown fields ignored, Chatbots untouched", downgraded),
    Row(
        "A14",
        "Definition deleted while running, and back",
        "Continues when it returns, no crash loop",
        definition_gone,
        alone=True,
    ),
    Row(
        "B12",
        "Token revoked; another one on disk",
        "Picks it up without a crash loop within 120 s",
        token_rotated,
        started=False,
    ),
)
