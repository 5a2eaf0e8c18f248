"""What the operator would do to a Chatbot until nothing is left to do: its own plans, carried out on a copy of what is
there. Pure: the cluster is not asked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from chatbot_operator import names
from chatbot_operator.actions import Action, Apply, Delete, Scale
from chatbot_operator.api import parse_chatbot
from chatbot_operator.drift import applied_hash, wanted_hash, with_hash
from chatbot_operator.kinds import CLAIM, CONFIG_MAP, DEPLOYMENT, JOB, POD, REPLICA_SET, Kind, RawObject, Ref
from chatbot_operator.observe import observe
from chatbot_operator.plan import plan
from chatbot_operator.settings import Settings
from chatbot_operator.store import Snapshot
from chatbot_runtime.contract import RuntimeSettings

Verb = Literal["create", "change", "scale", "delete"]
ROUNDS = 12
"""More than any migration takes; what has not come to rest then waits for something that is not there."""


@dataclass(frozen=True)
class World:
    """A Chatbot with its children, and the optional kinds that the cluster lacks."""

    snapshot: Snapshot
    absent: frozenset[Kind] = frozenset()


@dataclass(frozen=True)
class Step:
    """One change of one object. Those of one round happen together, and the next round once they have come about."""

    round: int
    verb: Verb
    ref: Ref
    before: RawObject | None
    after: RawObject | None


def rehearse(world: World, settings: Settings, now: datetime) -> tuple[list[Step], World]:
    """Every step, and the world at the end. The snapshot's Chatbot is as it is to be."""
    snapshot = world.snapshot
    if snapshot.chatbot is None:
        return [], world
    chatbot, children, steps = parse_chatbot(snapshot.chatbot), dict(snapshot.children), list[Step]()
    for number in range(1, ROUNDS + 1):
        observed = observe(replace(snapshot, children=children), absent=world.absent)
        actions = plan(chatbot, observed, now, settings).actions
        done = [step for action in actions for step in _carry_out(action, children, number)]
        if not done:
            break
        steps += done
    return [step for step in steps if not _is_record(step)], World(replace(snapshot, children=children), world.absent)


def _carry_out(action: Action, children: dict[Ref, RawObject], number: int) -> Iterator[Step]:
    ref, live = action.ref, children.get(action.ref)
    if isinstance(action, Apply):
        if live is not None and applied_hash(live) == wanted_hash(action.body):
            return
        children[ref] = _come_about(with_hash(action.body), live, ref)
        if ref.kind == DEPLOYMENT and live is not None:
            _end_pods(children, live)
        if ref.kind == JOB:
            _record_download(children, children[ref])
        yield Step(number, "change" if live else "create", ref, live, children[ref])
    elif isinstance(action, Scale) and live is not None and live["spec"].get("replicas", 1) != action.replicas:
        children[ref] = _rolled_out({**live, "spec": {**live["spec"], "replicas": action.replicas}})
        yield Step(number, "scale", ref, live, children[ref])
    elif isinstance(action, Delete) and live is not None:
        del children[ref]
        yield Step(number, "delete", ref, live, None)


def _come_about(body: Mapping[str, Any], live: RawObject | None, ref: Ref) -> RawObject:
    """The object once all that it asks for has come about."""
    unborn = {"uid": f"rehearsed/{ref.kind}/{ref.name}", "resourceVersion": "1"}
    old: Mapping[str, Any] = live["metadata"] if live else unborn
    annotations = {**old.get("annotations", {}), **body["metadata"].get("annotations", {})}
    made: dict[str, Any] = {**(live or {}), **body, "metadata": {**old, **body["metadata"], "annotations": annotations}}
    if ref.kind == DEPLOYMENT:
        count = live["spec"].get("replicas", 1) if live else 1
        return _rolled_out({**made, "spec": {"replicas": count, **made["spec"]}})
    if ref.kind == JOB:
        made["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    return made


def _rolled_out(deployment: Mapping[str, Any]) -> RawObject:
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    status = dict.fromkeys(counts, deployment["spec"]["replicas"])
    return {**deployment, "status": {"observedGeneration": deployment["metadata"].get("generation", 1), **status}}


def _end_pods(children: dict[Ref, RawObject], deployment: RawObject) -> None:
    """The pods of earlier templates have ended by the time that new ones serve."""
    component = deployment["metadata"]["labels"][names.COMPONENT_LABEL]
    for ref in [r for r in children if r.kind in (POD, REPLICA_SET)]:
        if children[ref]["metadata"].get("labels", {}).get(names.COMPONENT_LABEL) == component:
            del children[ref]


def _record_download(children: dict[Ref, RawObject], job: RawObject) -> None:
    """A download that has ended well is noted on its claim."""
    notes = job["metadata"]["annotations"]
    for ref, claim in children.items():
        if claim["metadata"]["uid"] == notes[names.CLAIM_UID]:
            record = {names.DOWNLOADED + notes[names.LIST_HASH]: '{"models": []}'}
            metadata = claim["metadata"]
            annotations = {**metadata.get("annotations", {}), **record}
            children[ref] = {**claim, "metadata": {**metadata, "annotations": annotations}}


def _is_record(step: Step) -> bool:
    """Whether only the operator's own record changes: which providers have answered, what was downloaded."""
    return (
        step.verb == "change"
        and step.ref.kind in (CLAIM, CONFIG_MAP)
        and _told(step.before or {}) == _told(step.after or {})
    )


def _told(obj: RawObject) -> Any:
    if "data" not in obj:
        return obj.get("spec")
    data = obj["data"]
    if names.SETTINGS_KEY not in data:
        return data
    try:
        settings = RuntimeSettings.model_validate_json(data[names.SETTINGS_KEY])
    except ValueError:
        return data
    return settings.model_copy(update={"verified_revisions": (), "download": ""})
