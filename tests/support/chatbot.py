"""One Chatbot under the operator's care, as tests create, change and look at it. No test logic here."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chatbot_operator.api import API_VERSION
from tests.support.cluster import ClusterAccess
from tests.support.operator import NAMESPACE, RELEASE, wait_for

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
CHILDREN = (
    "configmap/{}-backend",
    "deployment/{}-backend",
    "horizontalpodautoscaler/{}-backend",
    "networkpolicy/{}-backend",
    "poddisruptionbudget/{}-backend",
    "service/{}",
    "service/{}-backend",
    "service/{}-peers",
    "serviceaccount/{}-backend",
)
"""What the operator makes for a mock without a chat page, as kubectl names it."""

PAGE_CHILDREN = tuple(
    f"{kind}/{{}}-web"
    for kind in (
        *("configmap", "deployment", "horizontalpodautoscaler", "networkpolicy"),
        *("poddisruptionbudget", "service", "serviceaccount"),
    )
)
"""What it makes for the page."""

PAGE = {"enabled": True}


@dataclass(frozen=True)
class Bot:
    """A Chatbot by name."""

    access: ClusterAccess
    namespace: str
    name: str = "demo"

    def children(self, *, page: bool = False) -> list[str]:
        return [child.format(self.name) for child in (*CHILDREN, *(PAGE_CHILDREN if page else ()))]

    def create(self, **spec: Any) -> "Bot":
        self.access.apply(manifest(self.name, **spec), namespace=self.namespace)
        return self

    def patch(self, **spec: Any) -> None:
        """A merge patch of the spec."""
        self.kubectl("patch", f"chatbot/{self.name}", "--type=merge", "-p", json.dumps({"spec": spec}))

    def kubectl(self, *args: str, check: bool = True) -> str:
        return self.access.kubectl("-n", self.namespace, *args, check=check).stdout

    def get(self, *what: str) -> dict[str, Any]:
        return self.access.get(*what, "-n", self.namespace)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.access.chatbot(self.namespace, self.name).get("status", {})
        return found

    def condition(self, type_: str) -> dict[str, Any]:
        """The condition if it is about the current generation, else nothing."""
        raw = self.access.chatbot(self.namespace, self.name)
        found = (c for c in raw.get("status", {}).get("conditions", ()) if c["type"] == type_)
        condition: dict[str, Any] = next(found, {})
        current = condition.get("observedGeneration") == raw["metadata"]["generation"]
        return condition if current else {}

    def wait_ready(self, timeout: float = 40) -> dict[str, Any]:
        def ready() -> dict[str, Any]:
            condition = self.condition("Ready")
            return condition if condition.get("status") == "True" else {}

        try:
            found: dict[str, Any] = wait_for(f"{self.name} is Ready", ready, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; status: {json.dumps(self.status(), indent=1)}") from None
        return found

    def wait_reason(self, reason: str, timeout: float = 30) -> dict[str, Any]:
        """Ready is False with this reason."""

        def found() -> dict[str, Any]:
            condition = self.condition("Ready")
            return condition if (condition.get("status"), condition.get("reason")) == ("False", reason) else {}

        try:
            condition: dict[str, Any] = wait_for(f"Ready is False with {reason}", found, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; Ready is {self.condition('Ready')}") from None
        return condition

    def state(self) -> dict[str, Any]:
        """Every child by name, without what differs between two equal ones: for comparing end states."""
        kinds = "deployment,service,configmap,serviceaccount,hpa,pdb,networkpolicy"
        items = self.get(kinds, "-l", f"chatbot-operator.dev/chatbot={self.name}")["items"]
        return {f"{o['kind']}/{o['metadata']['name']}": _masked(o) for o in items}


def manifest(name: str, **spec: Any) -> dict[str, Any]:
    """A Chatbot; unless said otherwise of phase mock and without a chat page: most tests look at the backend."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Chatbot",
        "metadata": {"name": name},
        "spec": {"phase": "mock", "web": {"enabled": False}} | spec,
    }


def _masked(obj: dict[str, Any]) -> dict[str, Any]:
    metadata = obj["metadata"]
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k.startswith("chatbot-operator.dev/")}
    annotations.pop("chatbot-operator.dev/applied-hash", None)  # it covers the owner's uid
    spec = json.loads(json.dumps(obj.get("spec", {})).replace(metadata["namespace"], "NAMESPACE"))
    for key in ("clusterIP", "clusterIPs"):
        if spec.get(key) not in ("None", ["None"]):
            spec.pop(key, None)
    for port in spec.get("ports", ()) if obj["kind"] == "Service" else ():
        port.pop("nodePort", None)
    return {
        "labels": metadata.get("labels"),
        "annotations": annotations,
        "owners": [(o["kind"], o["name"]) for o in metadata.get("ownerReferences", ())],
        "spec": spec,
        "data": obj.get("data"),
    }


def operator_calls(access: ClusterAccess, since: datetime, *, namespace: str | None = None) -> list[dict[str, Any]]:
    """The operator's own calls since a moment, from the audit log; watches and its Lease aside."""
    return [e for e in audit(access) if _at(e) >= since and _of_operator(e, namespace)]


def _of_operator(entry: dict[str, Any], namespace: str | None) -> bool:
    about = entry.get("objectRef") or {}
    return (
        entry["user"]["username"] == ACCOUNT
        and entry["verb"] != "watch"
        and about.get("resource") not in (None, "leases")
        and (namespace is None or about.get("namespace") == namespace)
    )


def audit(access: ClusterAccess, *stages: str) -> Iterator[dict[str, Any]]:
    """The API server's audit log: every call that is complete, or is at one of these stages."""
    assert access.audit_log is not None
    for line in access.audit_log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # the last line is being written
            continue
        if entry.get("stage") in (stages or ("ResponseComplete",)):
            yield entry


def _at(entry: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["requestReceivedTimestamp"])


def tally(calls: list[dict[str, Any]]) -> Counter[tuple[str, str, str]]:
    """Calls by verb, resource with subresource, and name."""
    found: Counter[tuple[str, str, str]] = Counter()
    for call in calls:
        about = call["objectRef"]
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        found[call["verb"], resource, about.get("name", "")] += 1
    return found


def now() -> datetime:
    return datetime.now(UTC)
