"""Rows A10 to A14 and B12 of the design: one bad object, few means, other versions, another token."""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chatbot_operator.kinds import CHATBOT, CONFIG_MAP, DEPLOYMENT
from chatbot_operator.names import backend
from devcluster import cgroups
from tests.faults.admin import Object
from tests.faults.harness import Row, Run
from tests.faults.lane import CRASH_BOUND, DRIFT_BOUND, Lane
from tests.faults.rows.steps import ONE
from tests.faults.world import replay


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


ROWS: tuple[Row, ...] = (
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
