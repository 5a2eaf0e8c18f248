"""What takes its time, or has got stuck, on the way to what was asked for. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.api.reasons import Reason
from chatbot_operator.checks.base import Context, Verdict
from chatbot_operator.checks.writes import problem
from chatbot_operator.kinds import AUTOSCALER, CLAIM, JOB
from chatbot_operator.migration import failed_marker
from chatbot_operator.observed import Observed
from chatbot_operator.revision import revision, template_inputs


def settings_pending(c: Context) -> Verdict | None:
    """A ready pod has not read the current settings yet, or could not be asked.

    A pod that was never asked, as after a restart of the operator, counts as it did when the status was written.
    """
    if (c.observed.backend is None or not c.observed.backend.rolled_out) or not c.observed.settings_hash:
        return None
    was_ready = _was_ready(c.chatbot)
    for pod in c.observed.ready_pods():
        if pod.report is None:
            if was_ready:
                continue
            return Verdict(Reason.SETTINGS_PENDING, f"Pod {pod.ref.name} has not been asked for its settings yet.")
        status = pod.report.status
        if status is None:
            return Verdict(
                Reason.SETTINGS_PENDING,
                f"Pod {pod.ref.name}: {pod.report.problem}. Check that network policies let the operator reach "
                "port 8001 of the backend's pods.",
            )
        if status.settings_error:
            return Verdict(Reason.SETTINGS_PENDING, f"Pod {pod.ref.name}: {status.settings_error}")
        if status.settings_hash != c.observed.settings_hash:
            return Verdict(Reason.SETTINGS_PENDING, f"Pod {pod.ref.name} has not read the new settings yet.")
    return None


def _was_ready(chatbot: Chatbot) -> bool:
    ready = chatbot.status.condition("Ready")
    return (
        ready is not None
        and ready.status == "True"
        and chatbot.status.observed_generation == chatbot.metadata.generation
    )


def rolling_out(c: Context) -> Verdict | None:
    """New pods are on their way and nothing is known to be wrong with them, or a write has not succeeded yet."""
    live = c.observed.backend
    unwritten = problem(c, lambda p: p.error not in ("Forbidden", "Invalid"))
    if unwritten is not None:
        ref, write = unwritten
        overtaken = write.error == "Conflict"
        what = f"{ref} was changed by somebody at the same moment" if overtaken else f"{ref}: {write.message}"
        return Verdict(Reason.ROLLING_OUT, f"{what}. It is tried again.")
    if held := _held(c):
        return Verdict(Reason.ROLLING_OUT, held)
    if c.chatbot.spec.suspend or stepped_back(c) or stalled(c):
        return None
    if live is None:
        return Verdict(Reason.ROLLING_OUT, "The backend is being created.")
    target = revision(c.chatbot.spec)
    if c.migration.template == "target" and live.template_inputs != template_inputs(c.chatbot.spec):
        return Verdict(Reason.ROLLING_OUT, "The change waits until the one before has come to rest for a moment.")
    if not live.rolled_out or (live.revision != target and c.migration.template == "target"):
        return Verdict(Reason.ROLLING_OUT, "New pods are being started; see status.readyReplicas.")
    return page_rolls(c)


def page_rolls(c: Context) -> Verdict | None:
    """The chat page is on its way, and the time for that is not over."""
    page = c.observed.web.live
    if not c.chatbot.spec.web.enabled or (page and (page.rolled_out or page.deadline_exceeded)):
        return None
    return Verdict(Reason.ROLLING_OUT, "The pods of the chat page are being started.")


def _held(c: Context) -> str:
    """A child that somebody's finalizer keeps from going; a claim or a Job may take its time."""
    for ref, obj in c.observed.children.items():
        if "deletionTimestamp" in obj["metadata"] and ref.kind not in (CLAIM, JOB):
            finalizers = ", ".join(obj["metadata"].get("finalizers", ())) or "the API server"
            return (
                f"{ref} is being deleted and is held by {finalizers}. It is made again once it is gone; "
                "if nothing else will remove the finalizer, do it by hand."
            )
    return ""


def stepped_back(c: Context) -> Verdict | None:
    """The wanted template was tried, got stuck half-way and was taken back."""
    live = c.observed.backend
    stepping = c.migration.template == "previous"
    taken_back = live is not None and live.failed_revision == failed_marker(c.chatbot)
    if not stepping and not (taken_back and live and live.revision != revision(c.chatbot.spec)):
        return None
    return Verdict(
        Reason.STEPPED_BACK,
        "Some pods of the new version could not be placed beside the old ones, so the old version serves again. "
        "Use spec.backend.rollout: Replace, or make room, then set the annotation "
        f"{names.RETRY} to a new value.",
    )


def stalled(c: Context) -> Verdict | None:
    """The Deployment has made no progress within its deadline."""
    live = c.observed.backend
    if live is None or live.rolled_out or not live.deadline_exceeded:
        return None
    return Verdict(
        Reason.STALLED,
        f"{c.backend_ref} has made no progress for {c.settings.progress_deadline_seconds} s; what served before goes "
        f"on. See: kubectl describe deployment -n {c.namespace} {c.backend_ref.name}",
    )


def backend_not_ready(c: Context) -> Verdict | None:
    """No pod answers, or fewer than are asked for, and no other reason is known."""
    ready, live = c.observed.ready_pods(), c.observed.backend
    if ready and live and live.rolled_out:
        return None
    return Verdict(
        Reason.BACKEND_NOT_READY,
        f"{len(ready)} backend pods are ready. See: kubectl get pods -n {c.namespace} "
        f"-l {names.CHATBOT_LABEL}={c.chatbot.metadata.name}",
    )


SCALING_GRACE = timedelta(seconds=120)
"""A metrics API knows a new pod only after some scrapes; until then an autoscaler's complaint means nothing."""


@dataclass(frozen=True)
class ScalingTrouble:
    """What keeps the autoscaler from scaling, in its own words, and whether it has lasted long enough to be told."""

    message: str
    told_in: timedelta


def scaling_trouble(observed: Observed, now: datetime) -> ScalingTrouble | None:
    """The complaint of an autoscaler, if one has any."""
    scalers = (obj for ref, obj in observed.children.items() if ref.kind == AUTOSCALER)
    for condition in (c for scaler in scalers for c in scaler.get("status", {}).get("conditions", ())):
        if condition["type"] != "ScalingActive" or condition["status"] != "False":
            continue
        if condition.get("reason") == "ScalingDisabled":
            continue
        since = datetime.fromisoformat(condition["lastTransitionTime"])
        return ScalingTrouble(str(condition.get("message", "")), max(timedelta(), since + SCALING_GRACE - now))
    return None
