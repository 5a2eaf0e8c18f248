"""One lane of the harness: a namespace, one or two operators of its own behind fault proxies, and Chatbots in it.

Lanes share a control plane and run side by side. It must not know any scenario.
"""

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatbot_operator.desired.base import BACKEND
from chatbot_operator.kinds import CHATBOT, DEPLOYMENT, EVENT, POD, Kind
from chatbot_operator.names import COMPONENT_LABEL, backend
from tests.faults.admin import NAMESPACE, ROLE, ROLE_BINDING, Admin, Object, Refused
from tests.faults.oracles import Trial
from tests.faults.process import OperatorProcess
from tests.faults.proxy import Call, FaultProxy
from tests.faults.state import State, differences, learn_mask, state_of
from tests.faults.world import Id, World
from tests.support.operator import NAMESPACE as HOME
from tests.support.operator import RELEASE

SETTINGS: Mapping[str, str] = {
    # Long waits, scaled down: what they wait for is the same.
    "RESYNC_SECONDS": "4",
    "EVENTS_LOOK_SECONDS": "2",
    "RETRY_LONGEST_SECONDS": "2",
    "PROGRESS_DEADLINE_SECONDS": "12",
    "STATUS_HOLD_SECONDS": "0.3",
    "API_TIMEOUT_SECONDS": "8",
    "HOST": "127.0.0.1",
    "PORT": "0",
    "RUNTIME_IMAGE": "localhost/chatbot-runtime:test",
    "WEB_IMAGE": "localhost/chatbot-web:test",
    "LEASE_NAME": RELEASE,
    "WORKERS": "4",
}
RESYNC = float(SETTINGS["RESYNC_SECONDS"])
RESYNC_BOUND = RESYNC + 15
"""T_resync of the design and its margin: what no watch has told of is right by then."""
CRASH_BOUND = 30.0
"""T_crash of the design, after the process is back."""
DRIFT_BOUND = 10.0
REFERENCES_AT_ONCE = 12
"""Most of their time they wait for pods and for rest."""
QUIET_SECONDS = 2.0
"""Longer than counts of pods are held back in the status."""


@dataclass
class Seat:
    """One operator and the proxy that it sees the API server through."""

    operator: OperatorProcess
    proxy: FaultProxy

    async def write(self, number: int, timeout: float = 30) -> None:
        """Wait until the operator has begun that many writes."""
        end = time.monotonic() + timeout
        while len(self.proxy.writes()) < number:
            assert time.monotonic() < end, f"the operator has not written {number} times within {timeout:g} s"
            await asyncio.sleep(0.02)

    async def lists(self, times: int, timeout: float = 60) -> None:
        """Wait until the operator has listed every kind that often from now on, and has acted on it."""
        before, end = self._listed(), time.monotonic() + timeout
        while self._listed() - before < times:
            assert time.monotonic() < end, f"the operator has not listed {times} times within {timeout:g} s"
            await asyncio.sleep(0.05)

    def _listed(self) -> int:
        return sum(c.verb == "list" and c.resource == "jobs" and c.status == 200 for c in self.proxy.trail)


@dataclass(frozen=True)
class Bench:
    """What all lanes share."""

    admin: Admin
    world: World
    folder: Path
    token: str
    """Of the operator's account."""


@dataclass
class Lane:
    """See the module."""

    bench: Bench
    namespace: str
    settings: dict[str, str]
    seats: list[Seat] = field(default_factory=list)
    foreign: dict[Id, Object] = field(default_factory=dict)
    canaries: set[str] = field(default_factory=set)
    lag: float = DRIFT_BOUND
    deletes_allowed: set[str] = field(default_factory=lambda: {"horizontalpodautoscalers"})
    bots: list[str] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    # parts ------------------------------------------------------------------------------------------------------

    @property
    def operator(self) -> OperatorProcess:
        return self.seats[0].operator

    @property
    def proxy(self) -> FaultProxy:
        return self.seats[0].proxy

    @property
    def admin(self) -> Admin:
        return self.bench.admin

    @property
    def world(self) -> World:
        return self.bench.world

    async def add_seat(self, identity: str = "a", **settings: str) -> Seat:
        """One more operator, not started yet."""
        proxy = await FaultProxy(self.admin, seed=len(self.seats)).start()
        folder = self.bench.folder / self.namespace
        folder.mkdir(exist_ok=True, parents=True)
        kubeconfig = folder / f"{identity}.kubeconfig"
        kubeconfig.write_text(json.dumps(kubeconfig_for(f"http://127.0.0.1:{proxy.port}", self.bench.token)))
        kubeconfig.chmod(0o600)
        own = {
            "IDENTITY": identity,
            "NAMESPACE": self.namespace,
            "WATCH_NAMESPACES": self.namespace,
            "POD_STATUS_URL": f"http://127.0.0.1:{self.world.port}/{{namespace}}/{{name}}",
        }
        operator = OperatorProcess(kubeconfig, folder / f"{identity}.log", {**self.settings, **own, **settings})
        seat = Seat(operator, proxy)
        self.seats.append(seat)
        return seat

    # what people do ---------------------------------------------------------------------------------------------

    def fresh_name(self) -> str:
        return f"bot{next(self._numbers):04d}"

    async def create(self, spec: Mapping[str, Any] | None = None, name: str = "") -> str:
        """A new Chatbot of phase mock; its name."""
        name = name or self.fresh_name()
        made = await self.admin.chatbot(self.namespace, name, {"phase": "mock", **(spec or {})})
        self.bots.append(name)
        await self._seen(made)
        return name

    async def put(self, name: str, spec: Mapping[str, Any]) -> None:
        """The whole spec anew, as an apply of a changed manifest does."""
        while True:
            live = await self.admin.get(CHATBOT, self.namespace, name)
            try:
                done = await self.admin.replace(CHATBOT, {**live, "spec": {"phase": "mock", **spec}})
            except Refused as error:
                if error.status != 409:
                    raise
            else:
                await self._seen(done)
                return

    async def patch(self, name: str, **spec: Any) -> None:
        """A merge patch of the spec."""
        await self._seen(await self.admin.merge(CHATBOT, self.namespace, name, {"spec": spec}))

    async def _seen(self, chatbot: Object) -> None:
        """Wait until the onlooker knows what was just done: what is asked of it next is about this generation."""
        name, generation = chatbot["metadata"]["name"], chatbot["metadata"]["generation"]

        def current() -> bool:
            live = self.live(CHATBOT, name)
            same = live is not None and live["metadata"]["uid"] == chatbot["metadata"]["uid"]
            return bool(same and live and live["metadata"]["generation"] >= generation)

        await self.world.until(f"the onlooker sees {name}", current, 60)

    async def delete(self, name: str) -> None:
        """Delete the Chatbot and wait until nothing of it is left."""
        await self.admin.delete(CHATBOT, self.namespace, name)
        self.bots.remove(name)
        await self.gone(name, 60)

    async def gone(self, name: str, timeout: float) -> None:
        """Wait until nothing of a Chatbot is left."""

        def left() -> list[Id]:
            objects = self.world.now[self.namespace]
            return [i for i in objects if i.name == name or i.name.startswith((f"{name}-", f"{name}."))]

        def only_events() -> bool:
            return all(i.kind in ("Event", "EndpointSlice") for i in left())

        await self.world.until(f"nothing is left of {name}", only_events, timeout)

    # what they see ----------------------------------------------------------------------------------------------

    def live(self, kind: Kind, name: str) -> Object | None:
        return self.world.get(self.namespace, kind, name)

    def deployment(self, name: str) -> Object | None:
        return self.live(DEPLOYMENT, backend(name))

    def condition(self, name: str, type_: str = "Ready") -> Object:
        """The condition if it is about the current generation, else nothing."""
        raw = self.live(CHATBOT, name)
        if raw is None:
            return {}
        generation = raw["metadata"]["generation"]
        conditions = raw.get("status", {}).get("conditions", ())
        found = (c for c in conditions if c["type"] == type_ and c.get("observedGeneration") == generation)
        return next(found, {})

    def done(self, name: str) -> bool:
        """What the spec asks for is there."""
        raw, ready = self.live(CHATBOT, name), self.condition(name)
        if raw is None:
            return False
        if raw["spec"].get("suspend"):
            over = self.condition(name, "Progressing").get("status") == "False"
            return ready.get("reason") == "Suspended" and over and not self._pods(name)
        return ready.get("status") == "True"

    def pods(self, name: str) -> list[Object]:
        """The backend's."""
        found = self.world.of(self.namespace, POD, name)
        return [pod for pod in found if pod["metadata"]["labels"].get(COMPONENT_LABEL) == BACKEND]

    def _pods(self, name: str) -> int:
        live = self.deployment(name)
        return int(live.get("status", {}).get("replicas", 0)) if live else 0

    async def settled(self, *bots: str, timeout: float = 60) -> None:
        """Wait until all are as their spec asks for."""
        names = bots or tuple(self.bots)
        try:
            await self.world.until("settled", lambda: all(map(self.done, names)), timeout)
        except AssertionError as error:
            late = [n for n in names if not self.done(n)]
            said = "; ".join(
                f"{n}: {self.condition(n).get('reason')}: {self.condition(n).get('message')}" for n in late[:3]
            )
            raise AssertionError(f"{error} ({len(late)} of {len(names)}): {said}") from None

    async def reason(self, name: str, *reasons: str, timeout: float = DRIFT_BOUND) -> Object:
        """Wait until Ready is not True with one of these reasons."""

        def found() -> Object:
            ready = self.condition(name)
            return ready if ready.get("status") != "True" and ready.get("reason") in reasons else {}

        try:
            condition: Object = await self.world.until(f"Ready says {'/'.join(reasons)}", found, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {self.condition(name)}") from None
        return condition

    async def quiet(self, seconds: float = QUIET_SECONDS, timeout: float = 30) -> None:
        """Wait until the operators have written nothing for some seconds, and had no reason to: nothing has changed."""
        end = time.monotonic() + timeout
        while True:
            changes = (c.at for c in reversed(self.world.history[self.namespace]) if c.id.kind != EVENT.name)
            last = max(next(changes, 0.0), *(c.at for s in self.seats for c in s.proxy.writes()[-1:]), 0.0)
            left = last + seconds - time.monotonic()
            if left <= 0:
                return
            assert time.monotonic() < end, f"no rest after {timeout:g} s; the last call: {self.calls()[-1:]}"
            await asyncio.sleep(left)

    # for the oracles --------------------------------------------------------------------------------------------

    def mark(self) -> None:
        """What was before is not judged, but what is there now is known."""
        self.world.begin_anew(self.namespace)
        for seat in self.seats:
            seat.proxy.trail.clear()

    def calls(self) -> list[Call]:
        return sorted((c for s in self.seats for c in s.proxy.trail), key=lambda c: c.at)

    def state(self, name: str) -> State:
        return state_of(self.world.now[self.namespace], self.namespace, name)

    async def as_undisturbed(self, references: "References", timeout: float) -> None:
        """Wait until every Chatbot is as an undisturbed one, or the time is over: the oracles say then what is not.

        What a watch has missed, as between the first list and the first event after a start, the next list repairs.
        """
        await asyncio.gather(*map(references.of, self._compared().values()))
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            await self.quiet()
            if not any([await self._differs(*one, references) for one in self._compared().items()]):
                return
            await asyncio.sleep(0.2)  # between two looks at the world

    def _compared(self) -> dict[str, Object]:
        """The specs of the Chatbots that are there to stay."""
        live = ((name, self.live(CHATBOT, name)) for name in self.bots)
        return {name: raw["spec"] for name, raw in live if raw and "deletionTimestamp" not in raw["metadata"]}

    async def _differs(self, name: str, spec: Object, references: "References") -> bool:
        await asyncio.sleep(0)  # the proxy is of the same loop: what is asked of it must not wait for hundreds
        return bool(differences(self.state(name), *await references.of(spec)))

    async def trial(self, references: "References", *, quiet: float) -> Trial:
        """Watch the quiet for some seconds, and gather what the oracles ask for."""
        began = time.monotonic()
        await asyncio.sleep(quiet)  # the time itself is what is tested: nothing is written in it
        quiet_writes = [c for c in self.calls() if c.writes and c.at > began]
        ends = {}
        for name, spec in self._compared().items():
            await asyncio.sleep(0)
            ends[name] = (self.state(name), *await references.of(spec))
        return Trial(
            self.namespace,
            list(self.world.history[self.namespace]),
            dict(self.world.now[self.namespace]),
            self.calls(),
            [line for seat in self.seats for line in seat.operator.lines()],
            ends,
            quiet_writes,
            self.foreign,
            frozenset(self.canaries),
            self.lag,
            frozenset(self.deletes_allowed),
        )


class References:
    """The undisturbed end state of each spec, from a lane without faults; in which leaves two equal ones differ is
    learnt from two of the same for each type of Service, and masked."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._known: dict[str, asyncio.Task[tuple[State, frozenset[str]]]] = {}
        self._masks: dict[str, frozenset[str]] = {}
        self._gate = asyncio.Semaphore(REFERENCES_AT_ONCE)

    async def of(self, spec: Mapping[str, Any]) -> tuple[State, frozenset[str]]:
        key = json.dumps(spec, sort_keys=True)
        if key not in self._known:
            self._known[key] = asyncio.create_task(self._make(spec))
        return await self._known[key]

    async def _make(self, spec: Mapping[str, Any]) -> tuple[State, frozenset[str]]:
        async with self._gate:
            return await self._undisturbed(spec)

    async def _undisturbed(self, spec: Mapping[str, Any]) -> tuple[State, frozenset[str]]:
        lane = self._lane
        kind = spec.get("expose", {}).get("type", "ClusterIP")  # addresses and ports differ, all else may not
        names = [await lane.create(spec) for _ in range(1 if kind in self._masks else 2)]
        await lane.settled(*names, timeout=120)
        previous: list[State] = []
        while (states := [lane.state(name) for name in names]) != previous:
            previous = states
            await asyncio.sleep(QUIET_SECONDS)
        for name in names:
            await lane.admin.delete(CHATBOT, lane.namespace, name)
            lane.bots.remove(name)
        if len(states) == 2:
            self._masks[kind] = learn_mask(*states)
        return states[0], self._masks[kind]


@asynccontextmanager
async def lane_on(
    bench: Bench, *, started: bool = True, labels: Mapping[str, str] | None = None, **settings: str
) -> AsyncIterator[Lane]:
    """A fresh lane with one operator; all of it ends with the block."""
    namespace = f"lane-{uuid.uuid4().hex[:8]}"
    await bench.admin.create(NAMESPACE, None, {"metadata": {"name": namespace, "labels": dict(labels or {})}})
    await _grant_lease(bench.admin, namespace)
    lane = Lane(bench, namespace, {**SETTINGS, **settings})
    try:
        await lane.add_seat()
        if started:
            await lane.operator.start()
        yield lane
    finally:
        for seat in lane.seats:
            await seat.operator.kill(restart=False)
            await seat.proxy.stop()
            trail = "".join(f"{call.at:.3f} {call.namespace} {call}\n" for call in seat.proxy.trail)
            seat.operator.log.with_suffix(".calls").write_text(trail)
        try:
            await bench.admin.delete(NAMESPACE, None, namespace)
        except Refused as error:
            if error.status not in (404, 409):
                raise


async def _grant_lease(admin: Admin, namespace: str) -> None:
    """The chart grants the Lease of the operator's own namespace; here each lane has one."""
    rules = [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "update", "create"]}]
    await admin.create(ROLE, namespace, {"metadata": {"name": "lease"}, "rules": rules})
    subjects = [{"kind": "ServiceAccount", "name": RELEASE, "namespace": HOME}]
    ref = {"apiGroup": ROLE.group, "kind": "Role", "name": "lease"}
    await admin.create(ROLE_BINDING, namespace, {"metadata": {"name": "lease"}, "roleRef": ref, "subjects": subjects})


def kubeconfig_for(server: str, token: str) -> Object:
    """A kubeconfig with a bearer token."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "operator", "user": {"token": token}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        "current-context": "proxy",
    }
