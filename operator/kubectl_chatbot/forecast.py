"""What becomes of a Chatbot when one field, its phase, is edited: asked of the operator's own plan. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from chatbot_operator import cost, effective
from chatbot_operator.actions import Apply, Delete
from chatbot_operator.api import Chatbot, ChatbotSpec, Phase
from chatbot_operator.checks.base import Context
from chatbot_operator.desired.base import BACKEND
from chatbot_operator.desired.deployment import backend_template
from chatbot_operator.desired.network import backend_policy
from chatbot_operator.drift import same
from chatbot_operator.kinds import (
    AUTOSCALER,
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    NETWORK_POLICY,
    Kind,
    RawObject,
    Ref,
    ref_of,
)
from chatbot_operator.migration import Migration, migrate
from chatbot_operator.names import COMPONENT_LABEL, backend, download
from chatbot_operator.observe import observe
from chatbot_operator.observed import Observed
from chatbot_operator.plan import BUILT, Plan, plan
from chatbot_operator.revision import list_hash
from chatbot_operator.settings import Settings
from chatbot_operator.store import Snapshot

Verb = Literal["create", "change", "delete", "keep"]


@dataclass(frozen=True)
class World:
    """A Chatbot with its children, and the optional kinds that the cluster lacks."""

    snapshot: Snapshot
    absent: frozenset[Kind] = frozenset()


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
    old = plan(chatbot, context.observed, now, settings)
    new = plan(after, context.observed, now, settings)
    changes = (*_at_once(old, new, context.observed), *_later(after, old, new, context))
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


def _at_once(old: Plan, new: Plan, observed: Observed) -> Iterator[Change]:
    """What the operator does in its first round. Objects that are as they would have been anyway are left out: this
    tool does not know the operator's images, which cancel each other out so."""
    before = {a.ref: a.body for a in old.actions if isinstance(a, Apply)}
    for action in new.actions:
        if isinstance(action, Delete):
            yield Change("delete", action.ref, _what(observed.children[action.ref]))
        if not isinstance(action, Apply) or before.get(action.ref) == action.body:
            continue
        live = observed.children.get(action.ref)
        if live is None:
            yield Change("create", action.ref, _what(action.body))
        elif action.ref in before or not same(action.body, live):
            yield Change("change", action.ref, _what(action.body))


def _later(after: Chatbot, old: Plan, new: Plan, c: Context) -> Iterator[Change]:
    """What follows once the first round has come to something."""
    applied = {a.ref for a in new.actions if isinstance(a, Apply)}
    migration, deployment = c.migration, Ref(DEPLOYMENT, c.namespace, backend(after.metadata.name))
    waits = migration.job_wanted or (migration.claim_wanted and not migration.model.arrived)
    if waits and not any(ref.kind == JOB for ref in (*applied, *c.observed.children)):
        job = Ref(JOB, c.namespace, download(after.metadata.name, list_hash(after.spec)))
        yield Change("create", job, "fetches the weights", later=True)
    if deployment not in applied and _comes(migration):
        least, most = effective.backend_range(after.spec, after.spec.phase)
        if after.spec.backend.autoscaling.enabled and migration.shape != after.spec.phase:
            scaler = Ref(AUTOSCALER, c.namespace, deployment.name)
            yield Change("change", scaler, f"{least} to {most} pods", later=True)
        why = "once the weights are there" if not migration.model.arrived else "once the pods have come to rest"
        yield Change("change", deployment, f"new pods of phase {after.spec.phase}, {why}", later=True)
    if _comes(migration) and (policy := _policy(old, new, after, c)):
        yield policy
    gone = {a.ref for a in old.actions if isinstance(a, Apply)} - applied
    for ref, obj in c.observed.children.items():
        if ref.kind == CLAIM and ref not in applied:
            yield _unneeded(ref, obj, kept=after.spec.local.storage.retain)
        elif ref in gone and ref.kind not in (DEPLOYMENT, AUTOSCALER, CLAIM):
            yield Change("delete", ref, "once the new phase serves", later=True)


def _unneeded(ref: Ref, obj: RawObject, *, kept: bool) -> Change:
    """A claim of weights that the new phase has no use for."""
    if kept:
        return Change("keep", ref, f"{_what(obj)} by local.storage.retain; it goes on costing what the disk costs")
    return Change("delete", ref, f"{_what(obj)} by local.storage.retain: false", later=True)


def _policy(old: Plan, new: Plan, after: Chatbot, c: Context) -> Change | None:
    """What pods may reach once none of the old phase is left, where the first round does not change it."""
    bodies = [{a.ref: a.body for a in p.actions if isinstance(a, Apply)} for p in (old, new)]
    final = backend_policy(after, c.settings, [backend_template(after, c.settings)], downloads=False)
    ref = ref_of(final)
    if bodies[0].get(ref) == bodies[1].get(ref) and bodies[0].get(ref) != final:
        return Change("change", ref, "what the pods may reach, once the old ones are gone", later=True)
    return None


def _comes(migration: Migration) -> bool:
    """Whether pods of the new phase follow by themselves."""
    return migration.endpoint_allowed and migration.fits


def _what(obj: RawObject | Mapping[str, Any]) -> str:
    """The one thing about an object that a person wants to know."""
    kind, spec = obj["kind"], obj.get("spec", {})
    if kind == CLAIM.name:
        return str(spec["resources"]["requests"]["storage"])
    if kind == AUTOSCALER.name:
        return f"{spec['minReplicas']} to {spec['maxReplicas']} pods"
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
