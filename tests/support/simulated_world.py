"""One Chatbot, its operator and everything around it in memory, on clocks that only the test moves."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from chatbot_operator.api import Chatbot, Phase, parse_chatbot
from chatbot_operator.events import Recorder
from chatbot_operator.kinds import CHATBOT, WATCHED_KINDS, Key, Ref
from chatbot_operator.leader import Leader, NotLeader
from chatbot_operator.migration import wanted_claim
from chatbot_operator.names import SELECTOR
from chatbot_operator.observed import Observed
from chatbot_operator.reconciler import Outcome, Reconciler
from chatbot_operator.reports import PodReport
from chatbot_operator.revision import revision
from chatbot_operator.settings import Settings
from chatbot_operator.store import Snapshot, Store
from tests.support.simulated_api import SimulatedApi
from tests.support.simulated_controllers import Controllers

KEY = Key("chat", "demo")
REF = Ref(CHATBOT, *KEY)
EVERY_PHASE: frozenset[Phase] = frozenset({"mock", "hf", "local"})
START = datetime(2030, 1, 1, tzinfo=UTC)


def _with_web(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Without a chat page unless the spec says so: what moves is the backend."""
    return {"web": {"enabled": False}, **spec}


class SwitchedLeader(Leader):
    """Holds the Lease while `holding`."""

    def __init__(self) -> None:
        self.holding = True

    def holds(self) -> bool:
        return self.holding

    def require(self) -> None:
        if not self.holding:
            raise NotLeader("the test took the Lease away")


class World:
    """`reconcile` is one turn of the operator; `controllers` are everybody else."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        seed: int = 0,
        built: frozenset[Phase] = EVERY_PHASE,
        settings: Settings | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.api = SimulatedApi()
        self.mounts: dict[str, str] = {}
        self.controllers = Controllers(self.api, KEY, self.rng, self.mounts)
        self.built = built
        self.settings = settings or Settings()
        self.seconds = 0.0
        self.reports: dict[str, PodReport] = {}
        self.asked = True
        """Whether pods answer the operator's questions."""
        metadata = {"name": KEY.name, "namespace": KEY.namespace, "uid": "the-chatbot"}
        manifest = {"apiVersion": CHATBOT.api_version, "kind": "Chatbot", "metadata": metadata, "spec": _with_web(spec)}
        self.api.store(manifest)
        self._note_mounts()
        self.start_operator()

    def start_operator(self) -> None:
        """A new process: it knows nothing but what its first lists show."""
        self.leader = SwitchedLeader()
        self.store = Store()
        self.settled: set[Key] = set()
        recorder = Recorder(self.api, "test", clock=lambda: self.seconds)
        self.reconciler = Reconciler(
            self.store,
            self.api,
            self.leader,
            recorder,
            self.settings,
            reports=self.reports,
            settled=self.settled,
            clock=lambda: self.seconds,
            wall_clock=lambda: self.now,
            built=self.built,
        )
        self.api.streams.clear()
        for kind in WATCHED_KINDS:
            wanted = SELECTOR.split("=")
            found = [
                o
                for o in self.api.of_kind(kind)
                if kind == CHATBOT or o["metadata"].get("labels", {}).get(wanted[0]) == wanted[1]
            ]
            self.store.replace(kind, found, "1000000000", set())

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    @property
    def chatbot(self) -> Chatbot:
        """The stored Chatbot."""
        return parse_chatbot(self.api.objects[REF])

    @property
    def observed(self) -> Observed:
        """What an operator sees whose view is up to date."""
        return self.controllers.observed()

    def snapshot(self) -> Snapshot:
        return self.store.snapshot(KEY)

    def edit(self, spec: Mapping[str, Any] | None = None, *, annotations: Mapping[str, str] | None = None) -> None:
        """A merge patch by the user."""
        self.api.change(REF, {"spec": spec or {}, "metadata": {"annotations": annotations or {}}})
        self._note_mounts()

    def put_spec(self, spec: Mapping[str, Any]) -> None:
        """Another spec as a whole."""
        self.api.store({**self.api.objects[REF], "spec": _with_web(spec)})
        self._note_mounts()

    def _note_mounts(self) -> None:
        spec, chatbot = self.chatbot.spec, self.chatbot
        if spec.phase == "local" and not (spec.local.source and (spec.local.source.claim or spec.local.source.image)):
            self.mounts[revision(spec)] = wanted_claim(chatbot)

    def deliver(self, *, lag: bool = False) -> None:
        """Watch events reach the store: all of them, or of each kind as many as chance has it."""
        for events in self.api.streams.values():
            for _ in range(self.rng.randint(0, len(events)) if lag else len(events)):
                change, obj = events.popleft()
                if obj["kind"] == "Chatbot" or obj["metadata"].get("labels", {}).get(SELECTOR.split("=")[0]):
                    if change == "DELETED":
                        self.store.remove(obj)
                    else:
                        self.store.put(obj)

    async def reconcile(self) -> Outcome:
        """One turn of the operator on what it has been told; a second passes."""
        self.seconds += 1
        self.reports.clear()
        if self.asked:
            self.reports.update(self.controllers.reports())
        return await self.reconciler.reconcile(KEY)

    async def settle(self, rounds: int = 40) -> None:
        """Everybody works until nothing changes any more, not even what the operator has held back for a while."""
        quiet = 0
        for _ in range(rounds):
            before = {r: o for r, o in self.api.objects.items() if r.kind.name != "Event"}
            self.controllers.settle()
            self.deliver()
            self.seconds += 20  # past every pause that is not a deadline
            await self.reconcile()
            self.deliver()
            after = {r: o for r, o in self.api.objects.items() if r.kind.name != "Event"}
            quiet = quiet + 1 if after == before else 0
            if quiet == 2:
                return
        raise AssertionError("the world does not come to rest")


async def settled(spec: Mapping[str, Any], **arguments: Any) -> World:
    """A world in which this spec has been served from the beginning."""
    world = World(spec, **arguments)
    await world.settle()
    return world
