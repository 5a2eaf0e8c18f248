"""Verdicts -> status: what is, as people and scripts read it. Pure; only what is observed, never what was requested."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.api import (
    ChatbotStatus,
    Condition,
    ConditionStatus,
    DownloadStatus,
    Endpoints,
    ModelStatus,
    Phase,
    ServingPhase,
)
from chatbot_operator.api.reasons import CONDITIONS, DOWNLOAD_REASONS, FALLBACK_REASONS, ConditionType, Reason
from chatbot_operator.checks import exposure, model, verdicts
from chatbot_operator.checks.base import Context, Verdict
from chatbot_operator.checks.rollout import page_rolls, scaling_trouble
from chatbot_operator.cost import estimate, rates
from chatbot_operator.desired.base import BACKEND, WEB
from chatbot_operator.observe import public_service
from chatbot_operator.observed import Pod
from chatbot_operator.revision import revision


@dataclass(frozen=True)
class _State:
    """A condition without its times."""

    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: str


def status_of(c: Context) -> ChatbotStatus:
    """The whole status. Nothing in it is a clock or a counter, so nothing changes while nothing happens."""
    verdict = next(verdicts(c), None)
    states = (_available(c), _ready(c, verdict), _progressing(c), _model_ready(c), _exposed(c), _fallback_active(c))
    live, spec, name = c.observed.backend, c.chatbot.spec, c.chatbot.metadata.name
    url, serving = _url(c), serving_phase(c)
    answering: Phase = serving or spec.phase
    return ChatbotStatus(
        observed_generation=c.chatbot.metadata.generation,
        serving_phase=serving,
        model=_model_status(c, answering),
        download=_download(c),
        url=url,
        endpoints=_endpoints(c, url),
        replicas=live.total if live else 0,
        ready_replicas=len(c.observed.ready_pods()),
        selector=",".join(f"{k}={v}" for k, v in sorted(names.selector(name, BACKEND).items())),
        cost=estimate(spec, rates(c.settings)),
        conditions=tuple(_condition(c, state) for state in states),
    )


def with_problem(raw: Mapping[str, Any], reason: Reason, message: str, now: datetime) -> dict[str, Any]:
    """The status of an object that cannot be reconciled: as it was, but for Ready, which says why.

    `raw` is the whole object, whose spec need not be readable; what serves is not touched.
    """
    status = dict(raw.get("status") or {})
    others = [c for c in status.get("conditions", ()) if c["type"] != ConditionType.READY]
    found = (c for c in status.get("conditions", ()) if c["type"] == ConditionType.READY)
    old: Mapping[str, Any] = next(found, {})
    generation = raw["metadata"].get("generation", 0)
    stamp = now.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    ready = {
        "type": ConditionType.READY.value,
        "status": "False",
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == "False" else stamp,
        "reason": reason.value,
        "message": message,
    }
    return {**status, "observedGeneration": generation, "conditions": [*others, ready]}


def _condition(c: Context, state: _State) -> Condition:
    old = c.chatbot.status.condition(state.type)
    kept = old is not None and old.status == state.status
    return Condition(
        type=state.type,
        status=state.status,
        observed_generation=c.chatbot.metadata.generation,
        last_transition_time=old.last_transition_time if old and kept else c.now.replace(microsecond=0),
        reason=state.reason,
        message=state.message,
    )


def serving_phase(c: Context) -> ServingPhase:
    """What answers now: during a migration the old phase; mock while the fallback of every ready pod does."""
    ready = c.observed.ready_pods()
    if not ready:
        return ""
    if all(_demo_answers(c, pod) for pod in ready):
        return "mock"
    phases = {p.phase for p in ready}
    others = sorted(phases - {c.chatbot.spec.phase})
    known: dict[str, ServingPhase] = {"mock": "mock", "hf": "hf", "local": "local"}
    return known.get(others[0] if others else c.chatbot.spec.phase, "")


def _fallback_reason(pod: Pod) -> str:
    status = pod.report.status if pod.report else None
    return status.fallback or "" if status else ""


def _demo_answers(c: Context, pod: Pod) -> bool:
    """Whether a pod's provider cannot, and the demo answers in its place."""
    return bool(_fallback_reason(pod)) and effective.fallback_to(c.chatbot.spec, pod.phase) == "mock"


def _available(c: Context) -> _State:
    ready, live = c.observed.ready_pods(), c.observed.backend
    no_page = c.front == WEB and not c.observed.web.ready_pods()
    if ready and not no_page and all(map(_fallback_reason, ready)):
        if not any(_demo_answers(c, pod) for pod in ready):
            message = "The provider does not answer and fallback.to is none; see Ready."
            return _State(ConditionType.AVAILABLE, "False", Reason.MODEL_NOT_READY, message)
        return _State(ConditionType.AVAILABLE, "True", Reason.SERVING_FALLBACK, "The fallback answers.")
    if ready and no_page:
        return _State(ConditionType.AVAILABLE, "False", Reason.WEB_NOT_READY, "No pod of the chat page is ready.")
    if ready:
        newest = c.observed.newest_template()
        current = [p for p in ready if newest and p.template == newest.hash]
        wanted = live is not None and live.revision == revision(c.chatbot.spec)
        if wanted and len(current) == len(ready):
            return _State(ConditionType.AVAILABLE, "True", Reason.SERVING, "People can chat.")
        return _State(
            ConditionType.AVAILABLE,
            "True",
            Reason.SERVING_PREVIOUS,
            "People can chat; the previous version still answers.",
        )
    if c.chatbot.spec.suspend:
        return _State(ConditionType.AVAILABLE, "False", Reason.SUSPENDED, "spec.suspend is true: nothing answers.")
    on_its_way = live is not None or c.migration.template != "keep"
    if on_its_way and not (live and live.deadline_exceeded):
        return _State(ConditionType.AVAILABLE, "False", Reason.STARTING, "No pod is ready yet.")
    return _State(ConditionType.AVAILABLE, "False", Reason.BACKEND_NOT_READY, "No backend pod is ready.")


def _ready(c: Context, verdict: Verdict | None) -> _State:
    paused = c.chatbot.metadata.annotations.get(names.PAUSED) == "true"
    note = f" The operator keeps its hands off: annotation {names.PAUSED} is set." if paused else ""
    if verdict is not None:
        return _State(ConditionType.READY, "False", verdict.reason, verdict.message + note)
    trouble = scaling_trouble(c.observed, c.now)
    hint = f" The autoscaler cannot work now: {trouble.message}" if trouble and not trouble.told_in else ""
    return _State(ConditionType.READY, "True", Reason.SERVING, f"What was asked for serves.{hint}{note}")


def _progressing(c: Context) -> _State:
    live = c.observed.backend
    if c.migration.job_wanted and c.migration.model.reason in (Reason.DOWNLOADING, Reason.QUEUED):
        state = model.model_state(c)
        return _State(ConditionType.PROGRESSING, "True", Reason.DOWNLOADING, state.message)
    if live is not None and live.deadline_exceeded and not live.rolled_out:
        return _State(ConditionType.PROGRESSING, "False", Reason.STALLED, "The rollout makes no progress.")
    if live is not None and live.rolled_out:
        if page := page_rolls(c):
            return _State(ConditionType.PROGRESSING, "True", page.reason, page.message)
        return _State(ConditionType.PROGRESSING, "False", Reason.SETTLED, "Nothing is under way.")
    if live is None and c.migration.template == "keep":
        return _State(ConditionType.PROGRESSING, "False", Reason.SETTLED, "Nothing is under way.")
    if not c.observed.ready_pods():
        return _State(ConditionType.PROGRESSING, "True", Reason.CREATING, "The first pods are being started.")
    if live is not None and live.generation_seen and live.updated == live.total:
        return _State(ConditionType.PROGRESSING, "True", Reason.SCALING, "The number of pods is changing.")
    return _State(ConditionType.PROGRESSING, "True", Reason.ROLLING_OUT, "New pods replace old ones.")


def _model_ready(c: Context) -> _State:
    told = model.model_state(c)
    if told.reason in CONDITIONS[ConditionType.MODEL_READY].true:
        return _State(ConditionType.MODEL_READY, "True", told.reason, told.message)
    known = told.reason in DOWNLOAD_REASONS
    return _State(ConditionType.MODEL_READY, "False", told.reason if known else Reason.QUEUED, told.message)


def _model_status(c: Context, answering: Phase) -> ModelStatus:
    """The default model of who answers; what is known of its weights was recorded when they were fetched."""
    name = effective.default_model(c.chatbot.spec, answering)
    engine = effective.engine(c.chatbot.spec, answering)
    found = next((w for w in c.migration.model.weights if answering == "local" and w.name == name), None)
    return ModelStatus(
        name=name,
        engine=engine,
        digest=found.digest if found else "",
        size_bytes=found.size_bytes if found else 0,
    )


def _download(c: Context) -> DownloadStatus | None:
    """How far the download is that runs, as its pod said last."""
    job = c.migration.model.job
    if not c.migration.job_wanted or job is None or job.state != "running":
        return None
    said = next((p.report.download for p in reversed(job.pods) if not p.ended and p.report), None)
    if said is None:
        return DownloadStatus()
    return DownloadStatus(
        percent=int(said.percent or 0), completed_bytes=said.completed_bytes, total_bytes=said.total_bytes or 0
    )


def _exposed(c: Context) -> _State:
    expose, service = c.chatbot.spec.expose, public_service(c.observed, c.chatbot.metadata.name)
    trouble = exposure.route_not_accepted(c) or exposure.address_pending(c)
    if trouble is not None:
        return _State(ConditionType.EXPOSED, "False", trouble.reason, trouble.message)
    if expose.host or expose.type == "LoadBalancer":
        return _State(ConditionType.EXPOSED, "True", Reason.ADDRESS_ASSIGNED, f"Reachable at {_url(c)}.")
    if expose.type == "ClusterIP":
        message = f"Reachable inside the cluster at {_cluster_url(c)}."
        return _State(ConditionType.EXPOSED, "True", Reason.CLUSTER_INTERNAL, message)
    port = _node_port(service)
    if port:
        message = f"Reachable at port {port} of every node."
        return _State(ConditionType.EXPOSED, "True", Reason.ADDRESS_ASSIGNED, message)
    return _State(ConditionType.EXPOSED, "False", Reason.ADDRESS_PENDING, "The Service has no node port yet.")


def _fallback_active(c: Context) -> _State:
    if c.chatbot.spec.phase == "mock":
        return _State(ConditionType.FALLBACK_ACTIVE, "False", Reason.NOT_NEEDED, "Phase mock needs no fallback.")
    if effective.fallback_to(c.chatbot.spec) == "none":
        return _State(ConditionType.FALLBACK_ACTIVE, "False", Reason.DISABLED, "fallback.to is none.")
    ready = c.observed.ready_pods()
    reasons = sorted(filter(None, map(_fallback_reason, ready)))
    if reasons:
        message = f"{len(reasons)} of {len(ready)} pods answer by the fallback."
        reason = FALLBACK_REASONS.get(reasons[0], Reason.PROVIDER_UNAVAILABLE)
        return _State(ConditionType.FALLBACK_ACTIVE, "True", reason, message)
    if not any(p.report and p.report.status for p in ready):
        return _State(ConditionType.FALLBACK_ACTIVE, "Unknown", Reason.UNKNOWN, "No pod has said so yet.")
    return _State(ConditionType.FALLBACK_ACTIVE, "False", Reason.NOT_NEEDED, "The model itself answers.")


def _cluster_url(c: Context) -> str:
    return f"http://{c.chatbot.metadata.name}.{c.namespace}.svc{_port(c)}"


def _port(c: Context) -> str:
    port = c.chatbot.spec.expose.port
    return "" if port == 80 else f":{port}"


def _endpoints(c: Context, url: str) -> Endpoints:
    page = url if c.front == WEB else ""
    return Endpoints(web=page, openai=f"{url}/v1" if url else "", cluster=f"{_cluster_url(c)}/v1")


def _url(c: Context) -> str:
    """Where people reach it: by its host name, outside by the load balancer, inside the cluster by its Service.

    A node port has no address of its own: the operator does not read nodes. Nor Gateways: whether one ends TLS is not
    known, and those that do send http:// there.
    """
    expose = c.chatbot.spec.expose
    if expose.host:
        return f"{'https' if expose.tls_secret_name else 'http'}://{expose.host}"
    if expose.type == "ClusterIP":
        return _cluster_url(c)
    address = exposure.balancer_address(public_service(c.observed, c.chatbot.metadata.name))
    if not address:
        return ""
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}{_port(c)}"


def _node_port(service: Mapping[str, Any] | None) -> int:
    ports = service["spec"].get("ports", ()) if service else ()
    return next((int(p["nodePort"]) for p in ports if p.get("nodePort")), 0)
