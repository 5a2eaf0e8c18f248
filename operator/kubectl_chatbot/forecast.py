"""What becomes of a Chatbot when one field, its phase, is edited: asked of the operator's own plans. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from chatbot_operator import cost, effective
from chatbot_operator.api import Chatbot, ChatbotSpec, Phase
from chatbot_operator.checks.base import Context
from chatbot_operator.desired.base import BACKEND
from chatbot_operator.kinds import (
    AUTOSCALER,
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    NETWORK_POLICY,
    RawObject,
    Ref,
)
from chatbot_operator.migration import migrate
from chatbot_operator.names import COMPONENT_LABEL
from chatbot_operator.observe import observe
from chatbot_operator.plan import BUILT
from chatbot_operator.settings import Settings
from kubectl_chatbot.rehearsal import Step, World, rehearse

Verb = Literal["create", "change", "scale", "delete", "keep"]


@dataclass(frozen=True)
class Change:
    """What is done to one object, and when."""

    verb: Verb
    ref: Ref
    detail: str
    later: bool = False


@dataclass(frozen=True)
class Row:
    """One figure before and after."""

    what: str
    before: str
    after: str


@dataclass(frozen=True)
class Forecast:
    """What a switch comes to."""

    rows: tuple[Row, ...]
    changes: tuple[Change, ...]
    context: Context
    """The world right after the edit, for what is missing in it."""

    def created(self) -> list[Ref]:
        """Objects that the operator would make."""
        return [c.ref for c in self.changes if c.verb == "create"]


def in_phase(chatbot: Chatbot, phase: Phase) -> Chatbot:
    """The Chatbot with the one field edited; its next generation."""
    metadata = chatbot.metadata.model_copy(update={"generation": chatbot.metadata.generation + 1})
    return chatbot.model_copy(update={"spec": chatbot.spec.model_copy(update={"phase": phase}), "metadata": metadata})


def context_of(chatbot: Chatbot, world: World, settings: Settings, now: datetime) -> Context:
    """What the operator's checks look at, but for what only pods can say."""
    observed = observe(world.snapshot, absent=world.absent)
    return Context(chatbot, observed, migrate(chatbot, observed, BUILT, settings.allowed_hosts), settings, now, BUILT)


def forecast(chatbot: Chatbot, phase: Phase, world: World, settings: Settings, now: datetime) -> Forecast:
    """Both plans, as the operator would make them of what is there now, compared."""
    after = in_phase(chatbot, phase)
    context = context_of(after, world, settings, now)
    changes = tuple(_changes(world, after, settings, now))
    return Forecast(tuple(rows(chatbot.spec, after.spec, settings)), changes, context)


def rows(before: ChatbotSpec, after: ChatbotSpec, settings: Settings) -> Iterator[Row]:
    """The figures of both phases."""
    for what in ("Model", "Pods", "Each pod", "GPU", "Model storage", "If it fails"):
        one, other = _figure(what, before), _figure(what, after)
        if one != "-" or other != "-":
            yield Row(what, one, other)
    prices = cost.rates(settings)
    costs = [cost.estimate(spec, prices) for spec in (before, after)]
    yield Row("Cost a month", *(f"{c.monthly} {c.currency}" for c in costs))


def _figure(what: str, spec: ChatbotSpec) -> str:
    phase, local = spec.phase, spec.phase == "local"
    if what == "Model":
        return f"{effective.default_model(spec, phase)} ({effective.engine(spec, phase)})"
    if what == "Pods":
        return _pods(spec)
    if what == "Each pod":
        requests = effective.backend_resources(spec, phase).requests
        return f"{requests.cpu} CPU, {requests.memory}"
    if what == "GPU":
        return f"{spec.local.gpu.count} {spec.local.gpu.resource_name}" if local and spec.local.gpu else "-"
    if what == "Model storage":
        return spec.local.storage.size if effective.downloads(spec) else "-"
    return "a canned answer" if effective.fallback_to(spec) == "mock" else "an error"


def _pods(spec: ChatbotSpec) -> str:
    if spec.suspend:
        return "none (suspended)"
    if not spec.backend.autoscaling.enabled:
        return str(effective.backend_minimum(spec, spec.phase))
    least, most = effective.backend_range(spec, spec.phase)
    return str(least) if least == most else f"{least} to {most}"


def _changes(before: World, after: Chatbot, settings: Settings, now: datetime) -> Iterator[Change]:
    """What the edit alone changes: what is still to come without it is taken as done. So do the operator's images,
    which this tool may not know, cancel each other out."""
    _, at_rest = rehearse(before, settings, now)
    edited = after.model_dump(mode="json", by_alias=True, include={"metadata", "spec"}, exclude_none=True)
    snapshot = replace(at_rest.snapshot, chatbot={**(before.snapshot.chatbot or {}), **edited})
    steps, end = rehearse(replace(at_rest, snapshot=snapshot), settings, now)
    born, told = {step.ref for step in steps if step.verb == "create"}, set[tuple[Verb, Ref]]()
    for step in steps:
        if (step.verb, step.ref) in told or (step.ref in born and step.verb != "create"):
            continue  # what only helps on the way comes and goes
        told.add((step.verb, step.ref))
        yield Change(step.verb, step.ref, _detail(step), later=step.round > 1)
    for ref, obj in end.snapshot.children.items():
        if ref.kind == CLAIM and after.spec.phase != "local" and ref not in {step.ref for step in steps}:
            yield Change("keep", ref, f"{_what(obj)} by local.storage.retain; it goes on costing what the disk costs")


def _detail(step: Step) -> str:
    if step.verb == "scale" and step.before and step.after:
        return f"{step.before['spec'].get('replicas', 1)} to {_pods_text(step.after['spec']['replicas'])}"
    return _what(step.after or step.before or {})


def _pods_text(count: int) -> str:
    return f"{count} pod{'' if count == 1 else 's'}"


def _what(obj: RawObject | Mapping[str, Any]) -> str:
    """The one thing about an object that a person wants to know."""
    kind, spec = obj["kind"], obj.get("spec", {})
    if kind == CLAIM.name:
        return str(spec["resources"]["requests"]["storage"])
    if kind == AUTOSCALER.name:
        least, most = spec["minReplicas"], spec["maxReplicas"]
        return _pods_text(least) if least == most else f"{least} to {most} pods"
    if kind == JOB.name:
        return "fetches the weights"
    if kind == NETWORK_POLICY.name:
        return "what the pods may reach"
    if kind == CONFIG_MAP.name:
        return "settings; pods follow without a restart"
    if kind == DEPLOYMENT.name:
        component = obj["metadata"].get("labels", {}).get(COMPONENT_LABEL)
        return "new pods, one after the other" if component == BACKEND else "the chat page's pods"
    return ""
