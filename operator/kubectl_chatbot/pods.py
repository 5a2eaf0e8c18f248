"""Which pods and containers a command is about, from raw objects. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from chatbot_operator.kinds import RawObject
from chatbot_operator.names import COMPONENT_LABEL, PHASE_LABEL


def answering(pods: Iterable[RawObject], serving: str) -> list[str]:
    """Names of the backend pods that can be asked, those of the phase that serves first."""
    ready = [p for p in pods if component(p) == "backend" and _ready(p) and "deletionTimestamp" not in p["metadata"]]
    return [p["metadata"]["name"] for p in sorted(ready, key=lambda p: (_phase(p) != serving, p["metadata"]["name"]))]


def component(pod: RawObject) -> str:
    return str(pod["metadata"].get("labels", {}).get(COMPONENT_LABEL, ""))


def _phase(pod: RawObject) -> str:
    return str(pod["metadata"].get("labels", {}).get(PHASE_LABEL, ""))


def _ready(pod: RawObject) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@dataclass(frozen=True)
class Source:
    """One container that has a log. After a restart it is another one."""

    pod: str
    container: str
    restarts: int = 0
    running: bool = field(default=True, compare=False)


def sources(pod: RawObject, *, only: str = "") -> list[Source]:
    """Its containers that have begun."""
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    known = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    begun = [c for c in known if only in ("", c["name"]) and (c.get("restartCount") or _has_begun(c))]
    return [Source(name, c["name"], c.get("restartCount", 0), "running" in c.get("state", {})) for c in begun]


def _has_begun(container: RawObject) -> bool:
    state = container.get("state", {})
    return "running" in state or "terminated" in state


def label(source: Source, known: Iterable[Source]) -> str:
    """What stands before its lines: the container only where a pod has several."""
    several = any(other.pod == source.pod and other.container != source.container for other in known)
    return f"{source.pod}/{source.container}" if several else source.pod
