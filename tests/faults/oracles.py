"""The oracles of every scenario: each looks at what was recorded and returns what is wrong, in words. Pure.

O7 (recovery) and O8 (path independence) are O1 asked after another path; O10 (time) is the deadline of each wait;
O11 (the oracles bite) is `test_oracles.py` and the mutation table.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chatbot_operator import names
from chatbot_operator.api import InvalidChatbot, parse_chatbot
from chatbot_operator.desired.base import BACKEND, WEB
from chatbot_operator.kinds import AUTOSCALER, CHATBOT, CLAIM, DEPLOYMENT, EVENT, JOB, POD
from chatbot_operator.revision import template_inputs, web_inputs
from tests.faults.admin import SLICE, Object
from tests.faults.fields import inconsistencies
from tests.faults.proxy import Call
from tests.faults.state import COMPARED, State, differences
from tests.faults.world import Change, Id, label, replay

EVENTS_A_MINUTE = 10
OWNED_BY_US = COMPARED - {JOB.name}


@dataclass
class Trial:
    """What one scenario has left behind, for the oracles."""

    namespace: str
    changes: list[Change]
    """Every version of every object of the namespace since the scenario began."""
    world: Mapping[Id, Object]
    calls: list[Call]
    """Of every operator of the scenario."""
    log: list[dict[str, Any]]
    ends: Mapping[str, tuple[State, State, frozenset[str]]]
    """Chatbot -> its state, that of an undisturbed create of the same spec, and what is masked."""
    quiet_writes: list[Call] = field(default_factory=list)
    """Writes of the operator after everything had come to rest."""
    foreign: Mapping[Id, Object] = field(default_factory=dict)
    """Objects of others as they were at the beginning."""
    canaries: frozenset[str] = frozenset()
    lag: float = 3.0
    """Seconds by which a status may be behind the world."""
    deletes_allowed: frozenset[str] = frozenset({AUTOSCALER.plural})


def o1_end_state(trial: Trial) -> list[str]:
    """Every Chatbot is as if nothing had disturbed it."""
    found = []
    for chatbot, (state, reference, mask) in trial.ends.items():
        found += [f"{chatbot}: {line}" for line in differences(state, reference, mask)]
    return found


def o2_write_counts(trial: Trial) -> list[str]:
    """An object is made once, and once more for each time that somebody deleted it; few kinds are ever deleted."""
    gone = Counter(c.id for c in trial.changes if c.type == "DELETED")
    kinds = {k: i.kind for k, i in ((_plural(c.id.kind), c.id) for c in trial.changes)}
    made = Counter((c.resource, c.name) for c in trial.calls if c.status == 201 and c.resource != "events")
    found = [
        f"{resource} {name} was made {times} times"
        for (resource, name), times in made.items()
        if times > 1 + gone[Id(kinds.get(resource, ""), name)]
    ]
    pages = {names.web(name) for name in _without_page(trial)}
    deletes = [c for c in trial.calls if c.verb == "delete" and c.resource not in trial.deletes_allowed]
    deletes = [c for c in deletes if c.name not in pages]
    return found + [f"deleted: {c}" for c in deletes]


def _without_page(trial: Trial) -> set[str]:
    """The Chatbots that asked for no page at some time."""
    bots = (c for c in trial.changes if c.id.kind == CHATBOT.name)
    return {c.id.name for c in bots if c.obj["spec"].get("web", {}).get("enabled") is False}


def o3_quiescence(trial: Trial) -> list[str]:
    """At rest nothing is written."""
    return [f"written at rest: {call}" for call in trial.quiet_writes]


def o4_consistency(trial: Trial) -> list[str]:
    """Every field of the spec has its value in the fields of children that it maps to."""
    found = []
    for chatbot in trial.ends:
        raw = trial.world.get(Id(CHATBOT.name, chatbot))
        if raw is not None:
            found += [f"{chatbot}: {line}" for line in inconsistencies(raw, trial.world)]
    return found


def o5_honest_status(trial: Trial) -> list[str]:
    """Ready and Available were true whenever they were said, generations never go back, and trouble has a reason."""
    judge = _Honesty(trial.lag)
    for change, _ in replay(trial.changes):
        judge.see(change)
    return judge.found


def o6_clean_logs(trial: Trial) -> list[str]:
    """No traceback, no error, and few events."""
    found = [f"log: {line['message']}" for line in trial.log if line["level"] in ("ERROR", "CRITICAL", "RAW")]
    found += [f"traceback: {line['error'].splitlines()[-1]}" for line in trial.log if "error" in line]
    minutes: Counter[tuple[str, int]] = Counter()
    for change in trial.changes:
        if change.id.kind == EVENT.name and change.type != "DELETED":
            about = change.obj.get("regarding", {})
            if about.get("kind") == CHATBOT.name:
                minutes[about["name"], int(change.at // 60)] += 1
    return found + [f"{n} events about {who} in a minute" for (who, _), n in minutes.items() if n > EVENTS_A_MINUTE]


def o9_safety(trial: Trial) -> list[str]:
    """At no instant: an address without a ready pod, two downloads into a claim, a claim lost, a child without owner,
    a change of what is somebody else's, a secret outside of a Secret."""
    judge = _Safety(trial)
    for change, world in replay(trial.changes):
        judge.see(change, world)
    for id_, before in trial.foreign.items():
        after = trial.world.get(id_)
        if after is None or _content(after) != _content(before):
            judge.found.append(f"somebody else's {id_.kind} {id_.name} was changed")
    return judge.found


Oracle = Callable[[Trial], list[str]]
ORACLES: Mapping[str, Oracle] = {
    "O1": o1_end_state,
    "O2": o2_write_counts,
    "O3": o3_quiescence,
    "O4": o4_consistency,
    "O5": o5_honest_status,
    "O6": o6_clean_logs,
    "O9": o9_safety,
}


def judge(trial: Trial, waived: Iterable[str] = ()) -> list[str]:
    """All that is wrong, each line with the oracle's name."""
    asked = [(name, oracle) for name, oracle in ORACLES.items() if name not in set(waived)]
    return [f"{name} {line}" for name, oracle in asked for line in oracle(trial)]


PARTS = (BACKEND, WEB)


def _part(obj: Object) -> str:
    """The component that a pod or Deployment is of."""
    return str(obj["metadata"].get("labels", {}).get(names.COMPONENT_LABEL, BACKEND))


class _Honesty:
    """Follows one history; keeps, for each Chatbot, what was true within the last `lag` seconds."""

    def __init__(self, lag: float) -> None:
        self.found: list[str] = []
        self._lag = lag
        self._ready: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
        self._pods: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
        self._rolled: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
        self._seen: dict[str, tuple[str, int, Any]] = {}
        self._since: dict[str, str] = defaultdict(str)

    def see(self, change: Change) -> None:
        who = label(change.obj)
        if who and _created(change.obj) < self._since[who]:
            return  # of an earlier Chatbot of that name
        if change.id.kind == POD.name and who:
            part = _part(change.obj)
            self._pods[who, part][change.id.name] = change.type != "DELETED" and _is_ready(change.obj)
            self._ready[who, part].append((change.at, sum(self._pods[who, part].values())))
        elif change.id.kind == DEPLOYMENT.name and who and change.type != "DELETED":
            inputs = change.obj["metadata"].get("annotations", {}).get(names.TEMPLATE_INPUTS, "")
            rolled = self._rolled[who, _part(change.obj)]
            rolled.append((change.at, inputs if _rolled_out(change.obj) else ""))
        elif change.id.kind == CHATBOT.name and change.type != "DELETED":
            self._status(change)

    def _status(self, change: Change) -> None:
        name, status = change.id.name, change.obj.get("status") or {}
        uid, generation = change.obj["metadata"]["uid"], status.get("observedGeneration", 0)
        before = self._seen.get(name)
        if before is not None and before[0] != uid:
            for known in (self._ready, self._pods, self._rolled):
                for part in PARTS:
                    known.pop((name, part), None)
            self._since[name] = _created(change.obj)
        if before is not None and before[0] == uid:
            if generation < before[1]:
                self.found.append(f"{name}: observedGeneration went back from {before[1]} to {generation}")
            if before[2] == status:
                return
        self._seen[name] = uid, generation, status
        if before is None and change.type != "ADDED":
            return  # it was said before anybody looked
        self._conditions(change, generation)

    def _conditions(self, change: Change, generation: int) -> None:
        name, status = change.id.name, change.obj.get("status") or {}
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        ready, available = conditions.get("Ready", {}), conditions.get("Available", {})
        for condition in (ready, available):
            if condition and condition["status"] != "True" and not (condition.get("reason") and condition["message"]):
                self.found.append(f"{name}: {condition['type']} is {condition['status']} without reason or message")
        counts = self._window(self._ready[name, BACKEND], change.at)
        pages = self._window(self._ready[name, WEB], change.at)
        if available.get("reason") == "WebNotReady":
            counts = pages
        said = available.get("status")
        when = f"in version {change.version} ({available.get('reason')}, {ready.get('reason')})"
        if said == "True" and not any(counts):
            self.found.append(f"{name}: Available was said with no ready pod for {self._lag:g} s, {when}")
        if said == "False" and counts and all(counts):
            self.found.append(f"{name}: Available was denied with ready pods for {self._lag:g} s, {when}")
        current = generation == change.obj["metadata"]["generation"]
        if ready.get("status") == "True" and current and not self._was_rolled_out(change):
            self.found.append(f"{name}: Ready was said and the Deployments were not rolled out, {when}")

    def _was_rolled_out(self, change: Change) -> bool:
        try:
            spec = parse_chatbot(change.obj).spec
        except InvalidChatbot:
            return False
        wanted = {BACKEND: template_inputs(spec)} | ({WEB: web_inputs(spec)} if spec.web.enabled else {})
        rolled = {part: self._window(self._rolled[change.id.name, part], change.at) for part in wanted}
        return all(inputs in rolled[part] for part, inputs in wanted.items())

    def _window(self, values: list[tuple[float, Any]], at: float) -> list[Any]:
        """The values that held at some time within the last `lag` seconds before `at`."""
        since = at - self._lag
        before = [v for t, v in values if t <= since]
        return before[-1:] + [v for t, v in values if t > since]


class _Safety:
    """Follows one history, with the whole world at each change."""

    def __init__(self, trial: Trial) -> None:
        self.found: list[str] = []
        self._canaries = trial.canaries
        self._served: set[str] = set()
        self._dark: set[str] = set()
        self._excused: set[str] = set()
        """Chatbots whose spec allowed it to go dark, until what a later spec asks for has come."""

    def see(self, change: Change, world: Mapping[Id, Object]) -> None:
        if self._canaries:
            text = str(change.obj)
            self.found += [
                f"a secret's value is in {change.id.kind} {change.id.name}" for c in self._canaries if c in text
            ]
        if change.type == "ADDED" and change.id.kind in OWNED_BY_US and label(change.obj):
            self._owner(change, world)
        if change.id.kind == CLAIM.name and change.type == "DELETED":
            self.found.append(f"claim {change.id.name} was deleted")
        if change.id.kind == JOB.name:
            self._downloads(world)
        if change.id.kind in (SLICE.name, CHATBOT.name):
            self._endpoints(world)

    def _owner(self, change: Change, world: Mapping[Id, Object]) -> None:
        raw = world.get(Id(CHATBOT.name, label(change.obj)))
        owners = change.obj["metadata"].get("ownerReferences", ())
        uids = {o["uid"] for o in owners if o.get("controller")}
        if raw is not None and "deletionTimestamp" not in raw["metadata"] and uids != {raw["metadata"]["uid"]}:
            self.found.append(f"{change.id.kind} {change.id.name} was made without its Chatbot as owner")

    def _downloads(self, world: Mapping[Id, Object]) -> None:
        active = Counter(
            o["metadata"]["annotations"].get(names.CLAIM_UID, "")
            for i, o in world.items()
            if i.kind == JOB.name and o.get("status", {}).get("active")
        )
        self.found += [f"{n} downloads write one claim" for n in active.values() if n > 1]

    def _endpoints(self, world: Mapping[Id, Object]) -> None:
        counts: Counter[str] = Counter()
        for id_, obj in world.items():
            if id_.kind == SLICE.name:
                service = obj["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
                counts[service] += sum(bool(e["conditions"].get("ready")) for e in obj.get("endpoints") or ())
        for id_, raw in world.items():
            if id_.kind != CHATBOT.name:
                continue
            uid = raw["metadata"]["uid"]
            if _may_go_dark(raw):
                self._excused.add(uid)
            elif _settled(raw):
                self._excused.discard(uid)
            if uid in self._excused or "deletionTimestamp" in raw["metadata"]:
                self._served.discard(uid)
            elif counts[id_.name] and counts[names.backend(id_.name)] and _deployed(world, raw):
                self._served.add(uid)
                self._dark.discard(uid)
            elif uid in self._served and uid not in self._dark:
                self._dark.add(uid)
                self.found.append(f"{id_.name}: no ready endpoint behind a Service")


def _may_go_dark(raw: Object) -> bool:
    """The spec itself allows that nothing answers for a while."""
    spec = raw["spec"]
    return bool(spec.get("suspend")) or spec.get("backend", {}).get("rollout") == "Replace"


def _settled(raw: Object) -> bool:
    """Whether Ready is True of the spec as it is now."""
    conditions = raw.get("status", {}).get("conditions", ())
    ready: Object = next((c for c in conditions if c["type"] == "Ready"), {})
    return ready.get("status") == "True" and ready.get("observedGeneration") == raw["metadata"]["generation"]


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _rolled_out(deployment: Object) -> bool:
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    counts = [status.get(k, 0) for k in ("replicas", "updatedReplicas", "availableReplicas")]
    return status.get("observedGeneration") == deployment["metadata"]["generation"] and counts == [wanted] * 3


def _created(obj: Object) -> str:
    return str(obj["metadata"].get("creationTimestamp", ""))


def _deployed(world: Mapping[Id, Object], chatbot: Object) -> bool:
    """Whether the Deployment is this Chatbot's, and not one of an earlier one of its name."""
    live = world.get(Id(DEPLOYMENT.name, names.backend(chatbot["metadata"]["name"])))
    owners = live["metadata"].get("ownerReferences", ()) if live else ()
    return any(o["uid"] == chatbot["metadata"]["uid"] for o in owners)


def _plural(kind: str) -> str:
    return {"NetworkPolicy": "networkpolicies"}.get(kind, kind.lower() + "s")


def _content(obj: Object) -> Object:
    metadata = {k: v for k, v in obj["metadata"].items() if k not in ("resourceVersion", "managedFields", "generation")}
    return {**{k: v for k, v in obj.items() if k != "status"}, "metadata": metadata}
