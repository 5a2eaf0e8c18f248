"""Which pods and containers a command is about, from raw objects. Pure."""

from collections.abc import Iterable, Sequence

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


def started(pod: RawObject, *, only: str = "") -> list[str]:
    """Its containers that have begun, and so have a log."""
    status = pod.get("status", {})
    known: Sequence[RawObject] = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    begun = [c["name"] for c in known if not c.get("state", {}).get("waiting") or c.get("restartCount")]
    return [name for name in begun if only in ("", name)]


def labels(pods: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What stands before a line of each (pod, container): the container only where a pod has several."""
    count: dict[str, int] = {}
    for pod, _ in pods:
        count[pod] = count.get(pod, 0) + 1
    return {(pod, c): f"{pod}/{c}" if count[pod] > 1 else pod for pod, c in pods}
