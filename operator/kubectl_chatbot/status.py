"""One Chatbot and its Events -> what `status` tells. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from chatbot_operator.api import Chatbot, Condition, DownloadStatus
from chatbot_operator.api.reasons import Reason
from chatbot_operator.kinds import RawObject

EVENTS_SHOWN = 5
LASTING = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.NOT_IMPLEMENTED,
        Reason.ENDPOINT_NOT_ALLOWED,
        Reason.INSUFFICIENT_MEMORY,
        Reason.STEPPED_BACK,
        Reason.SUSPENDED,
    }
)
"""Reasons that end only by an edit. A Secret, a node or a quota may still come."""
LASTING_MODEL = frozenset({Reason.MODEL_NOT_FOUND, Reason.STORAGE_FULL, Reason.DOWNLOAD_FAILED})
"""The same of a download. Of a provider they may be what pods say that are on their way out."""


@dataclass(frozen=True)
class Event:
    """One Event, or a series of the same one."""

    at: datetime
    type: str
    reason: str
    note: str
    count: int


def events_of(raw: Sequence[RawObject]) -> list[Event]:
    """The Events, oldest first."""
    return sorted(map(_event, raw), key=lambda event: event.at)


def _event(raw: RawObject) -> Event:
    series = raw.get("series") or {}
    at = series.get("lastObservedTime") or raw.get("eventTime") or raw.get("deprecatedLastTimestamp")
    count = int(series.get("count") or raw.get("deprecatedCount") or 1)
    when = moment(str(at or raw["metadata"].get("creationTimestamp") or ""))
    return Event(when, str(raw.get("type", "")), str(raw.get("reason", "")), str(raw.get("note", "")), count)


def moment(text: str) -> datetime:
    """A time of the API; the epoch if it makes no sense."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def current(chatbot: Chatbot) -> bool:
    """Whether the operator has seen the spec as it is."""
    return chatbot.status.observed_generation >= chatbot.metadata.generation


def ready(chatbot: Chatbot) -> Condition | None:
    return chatbot.status.condition("Ready")


def is_ready(chatbot: Chatbot) -> bool:
    """Whether what the spec asks for serves."""
    found = ready(chatbot)
    return current(chatbot) and found is not None and found.status == "True"


def is_stuck(chatbot: Chatbot) -> bool:
    """Whether waiting helps no more: somebody has to edit something first."""
    found, model = ready(chatbot), chatbot.status.condition("ModelReady")
    if found is None or found.status == "True" or not current(chatbot):
        return False
    return found.reason in LASTING or (
        model is not None and model.status == "False" and model.reason == found.reason and model.reason in LASTING_MODEL
    )


def headline(chatbot: Chatbot) -> str:
    """How it is, in one word of the documented reasons."""
    found = ready(chatbot)
    if found is None or not current(chatbot):
        return "NotSeenYet"
    return found.reason


def explanation(chatbot: Chatbot) -> str:
    """The message that goes with the headline."""
    found = ready(chatbot)
    if found is None or not current(chatbot):
        return "The operator has not looked at this version of the Chatbot yet. See: kubectl chatbot doctor"
    return found.message


def serving(chatbot: Chatbot) -> str:
    return chatbot.status.serving_phase or "nothing"


def cost_text(chatbot: Chatbot) -> str:
    cost = chatbot.status.cost
    return f"{cost.monthly} {cost.currency} a month" if cost and cost.monthly else "not known"


def size_text(size: int) -> str:
    """Bytes for people, in the units of what is shown elsewhere: 2.1 GiB."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def bar(percent: int, width: int = 24) -> str:
    """How far something is, as a line of blocks."""
    full = round(width * min(max(percent, 0), 100) / 100)
    return "█" * full + "░" * (width - full)


def progress(download: DownloadStatus) -> str:
    """The progress of a download in one line."""
    total = f" of {size_text(download.total_bytes)}" if download.total_bytes else ""
    return f"{bar(download.percent)} {download.percent} %  {size_text(download.completed_bytes)}{total}"


def age(then: datetime, now: datetime) -> str:
    """How long ago, as kubectl writes it: 12s, 4m, 3h, 2d."""
    seconds = max(0, int((now - then) / timedelta(seconds=1)))
    for unit, size, most in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds // size}{unit}"
    return f"{seconds // 86_400}d"


def facts(chatbot: Chatbot) -> list[tuple[str, str]]:
    """The first lines of the screen."""
    status = chatbot.status
    model = status.model
    rows = [
        ("Phase", f"{chatbot.spec.phase}, serving: {serving(chatbot)}"),
        ("Status", f"{headline(chatbot)}: {explanation(chatbot)}"),
        ("Model", f"{model.name} ({model.engine})" if model and model.name else "none"),
        ("Pods", f"{status.ready_replicas} of {status.replicas} ready"),
        ("Address", status.url or "none yet"),
        ("Cost", cost_text(chatbot)),
    ]
    if status.download:
        rows.insert(2, ("Download", progress(status.download)))
    return rows


def report(chatbot: Chatbot, events: Sequence[Event]) -> dict[str, Any]:
    """All of it for a script."""
    shown = chatbot.status.manifest()
    return {
        "name": chatbot.metadata.name,
        "namespace": chatbot.metadata.namespace,
        "phase": chatbot.spec.phase,
        "servingPhase": chatbot.status.serving_phase,
        "ready": is_ready(chatbot),
        "reason": headline(chatbot),
        "message": explanation(chatbot),
        **{k: shown.get(k) for k in ("model", "download", "url", "replicas", "readyReplicas", "cost", "conditions")},
        "events": [{**vars(event), "at": event.at.isoformat()} for event in events],
    }
