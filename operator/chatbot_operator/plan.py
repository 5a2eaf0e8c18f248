"""The one function that decides: Chatbot + Observed + now -> Plan. Pure: no I/O, no clock, no client."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.actions import Action, Annotate, Apply, Delete, Scale, delete
from chatbot_operator.api import Chatbot, ChatbotStatus, Phase
from chatbot_operator.checks.base import Context
from chatbot_operator.checks.provider import waits_for_token
from chatbot_operator.checks.rollout import scaling_trouble
from chatbot_operator.conditions import status_of
from chatbot_operator.desired.account import backend_account
from chatbot_operator.desired.autoscaler import backend_autoscaler
from chatbot_operator.desired.base import WEB
from chatbot_operator.desired.claim import models_claim
from chatbot_operator.desired.config import backend_config
from chatbot_operator.desired.deployment import backend_deployment, backend_template
from chatbot_operator.desired.disruption import backend_budget
from chatbot_operator.desired.download import download_extras, download_job
from chatbot_operator.desired.network import backend_policy
from chatbot_operator.desired.route import route
from chatbot_operator.desired.service import backend_service, peers_service, public_service
from chatbot_operator.drift import wanted_hash
from chatbot_operator.front import front
from chatbot_operator.kinds import AUTOSCALER, CLAIM, DEPLOYMENT, Ref, kind_of, ref_of
from chatbot_operator.migration import Migration, migrate, wanted_claim
from chatbot_operator.observe import autoscaler, nudged_at, template_as_applied
from chatbot_operator.observed import Job, Observed, Pod
from chatbot_operator.page_plan import page_basics, page_may_go, page_pods
from chatbot_operator.revision import template_inputs
from chatbot_operator.rollouts import in_turn, paused
from chatbot_operator.settings import Settings
from chatbot_runtime.contract import PERMANENT

BUILT: frozenset[Phase] = frozenset({"mock", "hf", "local"})
"""The phases that this version can serve; the others answer NotImplemented."""

RENUDGE = timedelta(seconds=10)


@dataclass(frozen=True)
class Plan:
    """What to do, in this order, and what to say."""

    actions: tuple[Action, ...]
    status: ChatbotStatus
    settled: bool
    """What was asked for serves: nothing is under way."""
    requeue_after: float | None = None


def plan(
    chatbot: Chatbot,
    observed: Observed,
    now: datetime,
    settings: Settings,
    built: Collection[Phase] = BUILT,
) -> Plan:
    """Decide for one Chatbot. Calling it twice on the same world gives the same."""
    migration = migrate(chatbot, observed, built, settings.allowed_hosts)
    context = Context(chatbot, observed, migration, settings, now, frozenset(built))
    status = status_of(context)
    ready = status.condition("Ready")
    settled = ready is not None and ready.status == "True" and not migration.job_wanted
    if chatbot.metadata.annotations.get(names.PAUSED) == "true":
        return Plan((), status, settled)
    actions = tuple(
        action for action in _actions(chatbot, observed, migration, settings, now) if not _going(action, observed)
    )
    return Plan(actions, status, settled, _requeue_after(observed, now, settings, settled=settled))


def _requeue_after(observed: Observed, now: datetime, settings: Settings, *, settled: bool) -> float | None:
    if not settled:
        waits = any(map(waits_for_token, (*observed.current_pods(), *observed.fetching_pods())))
        return min(settings.events_look_seconds, RENUDGE.total_seconds() if waits else settings.events_look_seconds)
    trouble = scaling_trouble(observed, now)
    return trouble.told_in.total_seconds() if trouble and trouble.told_in else None


def _going(action: Action, observed: Observed) -> bool:
    """An object that is being deleted is never acted on."""
    live = observed.children.get(action.ref)
    return live is not None and "deletionTimestamp" in live["metadata"]


def _actions(
    chatbot: Chatbot, observed: Observed, migration: Migration, settings: Settings, now: datetime
) -> Iterator[Action]:
    verified, who = verified_revisions(observed), front(chatbot, observed)
    fetching = migration.job_wanted and migration.model.job is not None and migration.model.job.state == "running"
    config = backend_config(chatbot, verified, settings, behind_web=who == WEB, downloads=fetching)
    templates = _running_templates(chatbot, observed, migration, settings)
    wanted: list[Mapping[str, Any]] = [
        backend_account(chatbot),
        config,
        backend_policy(chatbot, settings, templates, downloads=fetching),
        public_service(chatbot, who),
        backend_service(chatbot),
        peers_service(chatbot),
        *page_basics(chatbot),
    ]
    way_in = route(chatbot)
    if way_in is not None and kind_of(way_in) not in observed.absent:
        wanted.append(way_in)
    if migration.claim_wanted:
        claim = migration.model.claim
        uid = claim.uid if claim else ""
        wanted.append(models_claim(chatbot, size=migration.claim_size, records=migration.claim_records, uid=uid))
    if migration.job_wanted:
        wanted.extend(download_extras(chatbot, settings))
    yield from map(Apply, wanted)
    kept = {ref_of(body) for body in wanted}
    parts = (
        _download(chatbot, migration, observed, settings, now),
        _backend(chatbot, observed, migration, settings),
        page_pods(chatbot, observed, settings),
    )
    for action in chain(*parts):
        kept.add(action.ref)
        yield action
    if migration.job_wanted and migration.model.job:
        kept.add(migration.model.job.ref)
    yield from _prune(chatbot, observed, migration, kept)
    yield from _nudges(observed, now)


def _running_templates(
    chatbot: Chatbot, observed: Observed, migration: Migration, settings: Settings
) -> Iterator[Mapping[str, Any]]:
    """The templates of all pods that there are, also of those that only finish their answers, and of those to come."""
    hashes = {p.template for p in observed.pods}
    yield from (t.raw for t in observed.templates if t.hash in hashes)
    if migration.template == "target":
        yield backend_template(chatbot, settings)


def _download(
    chatbot: Chatbot, migration: Migration, observed: Observed, settings: Settings, now: datetime
) -> Iterator[Apply | Delete]:
    """The Job of the weights. One that fetches or is complete is never changed. One that waits, or has failed, is made
    anew when it would be another now: after an edit or by the retry annotation; a failed one also on a volume that has
    grown, and after a pause if it failed for a passing reason."""
    if migration.job_replaced is not None:
        yield delete(observed, migration.job_replaced.ref)
    claim, job = migration.model.claim, migration.model.job
    if not migration.job_wanted or claim is None:
        return
    body = download_job(
        chatbot,
        settings,
        claim=claim.ref.name,
        claim_uid=claim.uid,
        capacity=job.capacity if job and job.state == "running" else claim.capacity or claim.size,
        # That an old pod has gone meanwhile is no reason to hope for more.
        serving=job.kept_lists if job and job.state == "failed" else migration.lists_kept,
    )
    if job is None:
        yield Apply(body)
    elif job.state == "complete" or job.fetches:
        return
    elif job.applied_hash != wanted_hash(body) or (job.state == "failed" and _worth_a_try(job, settings, now)):
        yield delete(observed, job.ref)


def _worth_a_try(job: Job, settings: Settings, now: datetime) -> bool:
    """Whether a failed download may have failed for something that has passed by now."""
    lasting = job.result is not None and job.result.reason in PERMANENT
    pause = timedelta(seconds=settings.download_retry_seconds)
    return not lasting and job.ended_at is not None and now - job.ended_at >= pause


def _backend(
    chatbot: Chatbot, observed: Observed, migration: Migration, settings: Settings
) -> Iterator[Apply | Scale | Delete]:
    """The Deployment, its number of pods, its autoscaler and budget, in an order that never drops what serves."""
    spec, live = chatbot.spec, observed.backend
    scaler = autoscaler(observed, names.backend(chatbot.metadata.name))
    deployment = _deployment(chatbot, observed, migration, settings)
    if live is None:
        if deployment is not None:
            yield deployment
        return
    scales = spec.backend.autoscaling.enabled and not spec.suspend
    if not scales and scaler is not None:
        yield delete(observed, ref_of(scaler))
    count = _count(chatbot, observed, migration, scaled=scaler is not None)
    ref = _backend_ref(chatbot)
    if count is not None and count > live.replicas:
        yield Scale(ref, count)
    if scales:
        yield Apply(backend_autoscaler(chatbot, migration.shape))
    yield Apply(backend_budget(chatbot))
    if count is not None and count < live.replicas:
        yield Scale(ref, count)
        if live.phase != migration.shape:
            return  # fewer pods first: the new phase may be far larger
    if deployment is None:
        deployment = _resumed(chatbot, observed, settings)
    if deployment is not None:
        template = observed.children[deployment.ref]["spec"]["template"]
        back = migration.template == "previous"
        turn = deployment if back else in_turn(observed.workload, template, deployment)
        if turn is not None:
            yield turn


def _resumed(chatbot: Chatbot, observed: Observed, settings: Settings) -> Apply | None:
    """What serves is kept, and it was paused by us for a change that is not to be any more: it goes on."""
    live = observed.backend
    if live is None or not live.paused:
        return None
    template = template_as_applied(observed.children[_backend_ref(chatbot)]["spec"]["template"])
    wanted = backend_deployment(chatbot, settings, template)
    held = paused(wanted, template, live.template_inputs)
    if live.applied_hash != wanted_hash(held):
        return None
    del held["spec"]["paused"]
    return Apply(held)


def _backend_ref(chatbot: Chatbot) -> Ref:
    return Ref(DEPLOYMENT, chatbot.metadata.namespace, names.backend(chatbot.metadata.name))


def _deployment(chatbot: Chatbot, observed: Observed, migration: Migration, settings: Settings) -> Apply | None:
    live = observed.backend
    if migration.template == "keep":
        return None
    if migration.template == "previous" and migration.previous is not None:
        template = template_as_applied(migration.previous.raw)
        return Apply(backend_deployment(chatbot, settings, template, migration.failed_revision))
    template = backend_template(chatbot, settings, with_engine=migration.template == "target")
    body = backend_deployment(chatbot, settings, template)
    same_inputs = live is not None and live.template_inputs == template_inputs(chatbot.spec)
    same_provider = live is not None and live.revision == template["metadata"]["labels"][names.REVISION_LABEL]
    return Apply(body, own_making=same_inputs and same_provider)


def _count(chatbot: Chatbot, observed: Observed, migration: Migration, *, scaled: bool) -> int | None:
    """How many pods to set by hand; None: leave the number to the autoscaler."""
    spec, live = chatbot.spec, observed.backend
    if live is None:
        return None
    if spec.suspend:
        wanted = 0
    elif not spec.backend.autoscaling.enabled:
        wanted = effective.backend_minimum(spec, migration.shape)
    else:
        pods = effective.backend_range(spec, migration.shape)
        if live.replicas == 0 or (live.replicas < pods.least and not scaled):
            wanted = pods.least
        elif live.phase != migration.shape and live.replicas > pods.most:
            wanted = pods.most
        else:
            return None
    return wanted if wanted != live.replicas else None


def _prune(chatbot: Chatbot, observed: Observed, migration: Migration, kept: Collection[Ref]) -> Iterator[Delete]:
    """What is no longer wanted goes last: once the wanted template is rolled out."""
    if not migration.arrived:
        return
    local_pods = any(p.phase == "local" for p in observed.pods)
    own = names.backend(chatbot.metadata.name)
    for ref, obj in observed.children.items():
        if ref in kept or (ref.name == own and ref.kind in (DEPLOYMENT, AUTOSCALER)):
            continue
        if ref.name == names.web(chatbot.metadata.name) and not page_may_go(chatbot, observed):
            continue
        if ref.kind == CLAIM and (
            _downloads_into(observed, obj["metadata"]["uid"]) or not _claim_may_go(chatbot, ref, local_pods=local_pods)
        ):
            continue
        yield Delete(ref, obj["metadata"]["uid"], obj["metadata"]["resourceVersion"])


def _downloads_into(observed: Observed, claim_uid: str) -> bool:
    """Whether a download may still write that claim: the pod of a deleted Job goes on for a while."""
    jobs = {job.ref.name for job in observed.jobs}
    orphaned = any(name not in jobs for name in observed.downloaders)
    return orphaned or any(job.claim_uid == claim_uid for job in observed.jobs)


def _claim_may_go(chatbot: Chatbot, ref: Ref, *, local_pods: bool) -> bool:
    """Never under a pod. The spec's own claim goes only when it is not to be retained."""
    if local_pods and (chatbot.spec.phase != "local" or ref.name == wanted_claim(chatbot)):
        return False
    return ref.name != wanted_claim(chatbot) or not chatbot.spec.local.storage.retain


def _nudges(observed: Observed, now: datetime) -> Iterator[Annotate]:
    """A kubelet looks at a changed ConfigMap or Secret within about a minute; at a changed pod at once."""
    settings, shown = observed.settings_hash, observed.shown_download
    wanted = names.short_hash([settings, shown]) if shown else settings
    ready, others = observed.ready_pods(), (*observed.current_pods(), *observed.fetching_pods())
    for pod in {p.ref: p for p in (*ready, *others)}.values():
        told, when = nudged_at(pod)
        waits = waits_for_token(pod) or (pod in ready and _has_old_settings(pod, settings))
        due = waits and (told != wanted or when is None or now - when >= RENUDGE)
        if due or (shown and pod in ready and told != wanted):
            yield Annotate(pod.ref, {names.SETTINGS_NUDGE: f"{wanted}@{now.isoformat(timespec='seconds')}"})


def _has_old_settings(pod: Pod, current: str) -> bool:
    status = pod.report.status if pod.report else None
    return bool(status and current and status.settings_hash != current)


def verified_revisions(observed: Observed) -> tuple[str, ...]:
    """The providers that have answered a question: those of pods that are ready now, and of earlier ones while a
    template of theirs still exists. A mock needs no proof."""
    ready = {p.revision for p in observed.ready_pods() if p.phase != "mock"}
    known = {t.revision for t in observed.templates if t.phase != "mock"}
    return tuple(sorted(ready | (set(observed.verified) & known)))
