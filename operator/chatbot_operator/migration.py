"""What moves a Chatbot from the phase that serves to the one that is wanted, decided anew from what is observed.

There is no stored step: deciding twice, or after a crash, gives the same. Pure.

    what is observed                                     the pods' template
    ------------------------------------------------     ------------------------------------------------
    phase not built yet, endpoint not allowed            keep what serves
    the weights are where they must be (or none needed)  the spec's own: the rolling update does the rest,
                                                         its pods get ready once they have answered a question
    weights on their way, or known not to fit into
    memory: something serves                             keep what serves
    the same, nothing serves                             the spec's own without its engine
    the update is stuck half-way between two providers   the previous one again: step back
    this very template has been stepped back from        keep what serves
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from chatbot_operator import effective, names
from chatbot_operator.api import Chatbot, LocalSpec, Phase
from chatbot_operator.api.reasons import DOWNLOAD_REASONS, Reason
from chatbot_operator.desired.deployment import ENGINELESS
from chatbot_operator.desired.engine import engine_resources
from chatbot_operator.endpoints import allowed
from chatbot_operator.observed import Backend, Claim, Job, Observed, Template
from chatbot_operator.revision import list_hash, revision
from chatbot_operator.units import quantity
from chatbot_runtime.contract import DownloadedModel, DownloadReason

TemplateChoice = Literal["target", "engineless", "previous", "keep"]


@dataclass(frozen=True)
class Model:
    """Where the weights are. `arrived`: where they must be for the spec's list of models."""

    reason: Reason
    arrived: bool
    claim: Claim | None = None
    job: Job | None = None
    weights: tuple[DownloadedModel, ...] = ()
    """What is recorded of the wanted list; nothing if it is not on the claim yet."""


@dataclass(frozen=True)
class Migration:
    """What the plan may do to the pods, and what it must keep for their sake."""

    template: TemplateChoice
    shape: Phase
    """The phase whose number of pods holds now."""
    model: Model
    endpoint_allowed: bool
    """Whether the administrator lets this spec's phase send prompts where it would."""
    fits: bool
    """Whether the weights, as far as they are known, go into the engine's memory."""
    claim_wanted: bool
    claim_size: str
    claim_records: Mapping[str, str]
    job_wanted: bool
    job_replaced: Job | None
    """A Job that stands in the way of the wanted one."""
    lists_kept: frozenset[str]
    """The lists of models that pods serve: a download must leave them alone."""
    previous: Template | None
    failed_revision: str
    arrived: bool
    """The wanted template is rolled out: what is no longer wanted may go."""


def migrate(
    chatbot: Chatbot, observed: Observed, built: Collection[Phase], allowed_hosts: Collection[str]
) -> Migration:
    """Decide for one Chatbot. `built` are the phases that this version can serve, `allowed_hosts` those that prompts
    may be sent to."""
    spec, live = chatbot.spec, observed.backend
    model = _model(chatbot, observed)
    marker = failed_marker(chatbot)
    previous = _previous(observed) if _stuck_between(observed) else None
    reachable = spec.phase != "hf" or allowed(spec.hf.base_url, allowed_hosts)
    fits = spec.phase != "local" or needed_memory(spec.local, model) <= engine_memory(spec.local)
    possible = spec.phase in built and reachable
    ready = model.arrived and fits
    template = _template(chatbot, observed, marker, previous, ready=ready) if possible else "keep"
    job_wanted, replaced = _job(chatbot, observed, model, built)
    own = template in ("target", "engineless")
    live_phase: Phase = _phase(live) or spec.phase
    return Migration(
        template=template,
        shape=spec.phase if own else live_phase,
        model=model,
        endpoint_allowed=reachable,
        fits=fits,
        claim_wanted=_claim_wanted(chatbot, built),
        claim_size=_claim_size(chatbot, model.claim),
        claim_records=_records(chatbot, observed, model),
        job_wanted=job_wanted,
        job_replaced=replaced,
        lists_kept=served_lists(observed),
        previous=previous,
        failed_revision=marker if template == "previous" else "",
        arrived=bool(template == "target" and live and live.revision == revision(spec) and live.rolled_out),
    )


def needed_memory(local: LocalSpec, model: Model) -> Decimal:
    """Bytes that the largest of the models takes with its context; 0 if that is not known, or it lies on a GPU."""
    if local.gpu:
        return Decimal(0)
    tokens = local.context_length * local.parallel
    return Decimal(max((w.size_bytes + w.bytes_per_token * tokens for w in model.weights), default=0))


def engine_memory(local: LocalSpec) -> Decimal:
    """Bytes that the engine may use."""
    return quantity(engine_resources(local.resources)["limits"]["memory"])


def served_lists(observed: Observed) -> frozenset[str]:
    """The lists of models that there are pods for, or will be."""
    live = observed.backend.list_hash if observed.backend else ""
    hashes = {p.template for p in observed.pods}
    running = (t.raw["metadata"].get("annotations", {}) for t in observed.templates if t.hash in hashes)
    return frozenset(filter(None, (live, *(a.get(names.LIST_HASH, "") for a in running))))


def failed_marker(chatbot: Chatbot) -> str:
    """Names what a step back was made from: another spec or another retry annotation is tried again."""
    return names.short_hash([revision(chatbot.spec), chatbot.metadata.annotations.get(names.RETRY, "")])


def _template(
    chatbot: Chatbot,
    observed: Observed,
    marker: str,
    previous: Template | None,
    *,
    ready: bool,
) -> TemplateChoice:
    """`ready`: there is all that the spec's own pods need."""
    live, target = observed.backend, revision(chatbot.spec)
    if live and live.failed_revision == marker and live.revision != target:
        return "keep"
    if previous and live and live.revision == target:
        return "previous"
    if ready:
        return "target"
    nothing_serves = live is None or live.revision == ENGINELESS or live.replicas == 0
    return "engineless" if nothing_serves else "keep"


def _stuck_between(observed: Observed) -> bool:
    """At the progress deadline some new pods answer and the rest cannot: two providers answer in turns.

    Pods without an engine are no provider: there is nothing to go back to.
    """
    live = observed.backend
    if not live or not live.deadline_exceeded or live.rolled_out:
        return False
    ready = observed.ready_pods()
    new = [p for p in ready if p.revision == live.revision]
    old = [p for p in ready if p.revision not in (live.revision, ENGINELESS)]
    return bool(new and old)


def _previous(observed: Observed) -> Template | None:
    """The newest template of another provider that still has pods."""
    live = observed.backend
    own = (live.revision if live else "", ENGINELESS)
    others = (t for t in observed.templates if live and t.revision not in own and t.pods)
    return max(others, key=lambda t: t.number, default=None)


def _phase(live: Backend | None) -> Phase | None:
    phases: dict[str, Phase] = {"mock": "mock", "hf": "hf", "local": "local"}
    return phases.get(live.phase) if live else None


def wanted_claim(chatbot: Chatbot) -> str:
    """Name of the claim that the spec's weights are downloaded into."""
    storage = chatbot.spec.local.storage
    return names.claim(chatbot.metadata.name, storage.storage_class_name, storage.access_mode)


def _model(chatbot: Chatbot, observed: Observed) -> Model:
    spec, source = chatbot.spec, chatbot.spec.local.source
    if not effective.downloads(spec):
        mounted = source.claim is not None
        there = Reason.MOUNTED if mounted else Reason.BAKED
        reason = there if spec.phase == "local" else Reason.NOT_NEEDED
        return Model(reason, arrived=True)
    wanted = wanted_claim(chatbot)
    claim = next((c for c in observed.claims if c.ref.name == wanted and not c.deleting), None)
    if claim is None:
        return Model(Reason.CLAIM_PENDING, arrived=spec.phase != "local")
    hashed = list_hash(spec)
    job = next((j for j in observed.jobs if j.list_hash == hashed and j.claim_uid == claim.uid), None)
    recorded = names.DOWNLOADED + hashed in claim.annotations
    arrived = recorded or bool(job and job.state == "complete")
    reason = Reason.DOWNLOADED if arrived else _on_its_way(job)
    # Ahead of a switch (prefetch) nothing has to wait for the weights.
    weights = _recorded(claim, hashed) or (job.result.models if arrived and job and job.result else ())
    return Model(reason, arrived=arrived or spec.phase != "local", claim=claim, job=job, weights=weights)


def _on_its_way(job: Job | None) -> Reason:
    """How far a download is that has not arrived: what its newest pod says, else how the last one ended."""
    if job is None:
        return Reason.QUEUED
    ended = job.result.reason if job.result else None
    if job.state == "failed":
        # A Job that takes too long is ended while it may still do well.
        return Reason.DOWNLOAD_FAILED if job.reason == "DeadlineExceeded" else _reason_of(ended)
    running = next((p for p in reversed(job.pods) if not p.ended), None)
    progress = running.report.download if running and running.report else None
    if progress is not None:
        return _reason_of(progress.reason) if progress.state == "waiting" else Reason.DOWNLOADING
    # The Job is told of its pod's end a moment after it.
    if (running is not None and running.ready) or ended == "Downloaded":
        return Reason.DOWNLOADING
    return _reason_of(ended) if ended and running is None else Reason.QUEUED


def _reason_of(said: DownloadReason | None) -> Reason:
    return DOWNLOAD_REASONS.get(said or "", Reason.DOWNLOAD_FAILED)


def _recorded(claim: Claim, hashed: str) -> tuple[DownloadedModel, ...]:
    """What the claim's record says of a list. People can edit it: one that makes no sense says nothing."""
    try:
        record = json.loads(claim.annotations.get(names.DOWNLOADED + hashed, "{}"))
        return tuple(map(DownloadedModel.model_validate, record.get("models", ())))
    except (ValueError, AttributeError, TypeError):
        return ()


def _claim_wanted(chatbot: Chatbot, built: Collection[Phase]) -> bool:
    return "local" in built and effective.downloads(chatbot.spec)


def _claim_size(chatbot: Chatbot, live: Claim | None) -> str:
    """A volume cannot shrink: a larger claim that was retained keeps its size."""
    size = chatbot.spec.local.storage.size
    return live.size if live and quantity(live.size) > quantity(size) else size


def _records(chatbot: Chatbot, observed: Observed, model: Model) -> dict[str, str]:
    """What the claim holds whole: the wanted list, and the one that serves. Others a download may have removed."""
    if model.claim is None:
        return {}
    kept = {names.DOWNLOADED + hashed for hashed in (list_hash(chatbot.spec), *served_lists(observed))}
    records = {k: v for k, v in model.claim.annotations.items() if k in kept}
    # Its pod's last words may be seen later than its end; without them it is not recorded what there is.
    if model.job and model.job.state == "complete" and model.job.result:
        records.setdefault(names.DOWNLOADED + model.job.list_hash, _record(model.job))
    return records


def _record(job: Job) -> str:
    """What was downloaded and when, as it is written on the claim."""
    models = [found.model_dump(by_alias=True) for found in (job.result.models if job.result else ())]
    when = job.ended_at.isoformat().replace("+00:00", "Z") if job.ended_at else ""
    return json.dumps({"models": models, "finishedAt": when}, sort_keys=True)


def _job(chatbot: Chatbot, observed: Observed, model: Model, built: Collection[Phase]) -> tuple[bool, Job | None]:
    """Whether the wanted download should be there, and a Job that must go first: only one may write a claim."""
    recorded = model.claim is not None and names.DOWNLOADED + list_hash(chatbot.spec) in model.claim.annotations
    if "local" not in built or not effective.downloads(chatbot.spec) or model.claim is None or recorded:
        return False, None
    own = names.download(chatbot.metadata.name, list_hash(chatbot.spec))
    other = next((j for j in observed.jobs if j.ref.name != own or j.claim_uid != model.claim.uid), None)
    if other is not None:
        return False, other
    foreign = any(name != own for name in observed.downloaders)
    return not foreign, None
