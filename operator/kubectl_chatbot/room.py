"""Whether one more pod of a Chatbot has room: on a node, and in the namespace's quotas. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.api import Chatbot, ChatbotSpec
from chatbot_operator.kinds import RawObject
from chatbot_operator.migration import wanted_claim
from chatbot_operator.units import cpu_text, memory_text, quantity
from kubectl_chatbot.findings import Finding, failed, ok, warning

Amounts = Mapping[str, Decimal]
_OF_CLAIM = ("persistentvolumeclaims", "requests.storage")


def pod_request(spec: ChatbotSpec) -> dict[str, Decimal]:
    """What the scheduler is asked for by one backend pod of the spec's phase."""
    requests = effective.backend_resources(spec, spec.phase).requests
    wanted = {"cpu": quantity(requests.cpu), "memory": quantity(requests.memory)}
    if spec.phase == "local" and spec.local.gpu:
        wanted[spec.local.gpu.resource_name] = Decimal(spec.local.gpu.count)
    return wanted


def text(amounts: Amounts) -> str:
    """Amounts for people: cpu 1500m, memory 4Gi."""
    return ", ".join(f"{name} {_amount(name, value)}" for name, value in amounts.items())


def _amount(name: str, value: Decimal) -> str:
    if name.endswith("cpu"):
        return cpu_text(value)
    return memory_text(value) if name.endswith(("memory", "storage")) else f"{value.normalize():f}"


def node_finding(chatbot: Chatbot, nodes: Sequence[RawObject], pods: Iterable[RawObject] | None) -> Finding:
    """Whether a node has room for one more backend pod; `pods` None: what runs is not known."""
    wanted, spec = pod_request(chatbot.spec), chatbot.spec
    open_to = [n for n in nodes if _takes(n, spec)]
    if not open_to:
        return failed("node", "No node takes its pods: check pods.nodeSelector, pods.tolerations and cordoned nodes.")
    large = [n for n in open_to if _covers(_allocatable(n), wanted)]
    if not large:
        return failed(
            "node", f"No node is large enough for a pod of {text(wanted)}. Lower the requests, or add a node."
        )
    if pods is None:
        return ok("node", f"{len(large)} of {len(nodes)} nodes are large enough for a pod of {text(wanted)}.")
    used = _used(pods)
    free = [n for n in large if _covers(_less(_allocatable(n), used[n["metadata"]["name"]]), wanted)]
    if free:
        return ok("node", f"{len(free)} of {len(nodes)} nodes have room for one more pod of {text(wanted)}.")
    return warning("node", f"No node has room for one more pod of {text(wanted)} now. Free some, or add a node.")


def _takes(node: RawObject, spec: ChatbotSpec) -> bool:
    labels, wanted = node["metadata"].get("labels", {}), spec.pods.node_selector
    if node["spec"].get("unschedulable") or any(labels.get(k) != v for k, v in wanted.items()):
        return False
    taints = [t for t in node["spec"].get("taints", ()) if t["effect"] != "PreferNoSchedule"]
    tolerations = [t.manifest() for t in spec.pods.tolerations]
    return all(any(_tolerates(toleration, taint) for toleration in tolerations) for taint in taints)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))


def _allocatable(node: RawObject) -> dict[str, Decimal]:
    return {k: quantity(v) for k, v in node.get("status", {}).get("allocatable", {}).items()}


def _used(pods: Iterable[RawObject]) -> dict[str, dict[str, Decimal]]:
    used: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for pod in pods:
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            continue
        for name, value in _requested(pod["spec"]).items():
            used[pod["spec"].get("nodeName", "")][name] += value
    return used


def _requested(spec: Mapping[str, Any]) -> Amounts:
    """What a pod takes of its node: its containers and sidecars together, or an init container if that is more."""
    init = spec.get("initContainers", ())
    sidecars = [c for c in init if c.get("restartPolicy") == "Always"]
    total: dict[str, Decimal] = defaultdict(Decimal)
    for container in (*spec.get("containers", ()), *sidecars):
        for name, value in _requests(container).items():
            total[name] += value
    for container in init:
        for name, value in _requests(container).items():
            total[name] = max(total[name], value)
    return total


def _requests(container: Mapping[str, Any]) -> dict[str, Decimal]:
    return {k: quantity(v) for k, v in container.get("resources", {}).get("requests", {}).items()}


def _covers(given: Amounts, wanted: Amounts) -> bool:
    return all(given.get(name, Decimal(0)) >= value for name, value in wanted.items())


def _less(given: Amounts, used: Amounts) -> dict[str, Decimal]:
    return {name: value - used.get(name, Decimal(0)) for name, value in given.items()}


def quota_finding(chatbot: Chatbot, quotas: Sequence[RawObject], *, claim_there: bool) -> Finding:
    """Whether the namespace's quotas leave room for one more pod, and for the claim of the weights."""
    if not quotas:
        return ok("quota", "The namespace has none.")
    wanted = _quota_needs(chatbot, claim_there=claim_there)
    for quota in quotas:
        status = quota.get("status", {})
        for name, hard in status.get("hard", {}).items():
            left = quantity(hard) - quantity(status.get("used", {}).get(name, "0"))
            if wanted.get(name, Decimal(0)) > left:
                needs, has = _amount(name, wanted[name]), _amount(name, max(left, Decimal(0)))
                whose = "the claim of the weights" if name in _OF_CLAIM else "one more pod"
                return failed(
                    "quota",
                    f"ResourceQuota {quota['metadata']['name']}, {name}: {has} left, and {whose} needs {needs}. "
                    "Raise it, or lower the requests.",
                )
    return ok("quota", "Leaves room for one more pod, as a change of the pods needs.")


def _quota_needs(chatbot: Chatbot, *, claim_there: bool) -> dict[str, Decimal]:
    pod = pod_request(chatbot.spec)
    wanted = {"pods": Decimal(1), "count/pods": Decimal(1)}
    for name, value in pod.items():
        wanted |= {f"requests.{name}": value} | ({name: value} if name in ("cpu", "memory") else {})
    if effective.downloads(chatbot.spec) and not claim_there:
        size = effective.storage_size(chatbot.spec)
        wanted |= {"persistentvolumeclaims": Decimal(1), "requests.storage": size}
    return wanted


def has_claim(chatbot: Chatbot, claims: Iterable[RawObject]) -> bool:
    """Whether the claim of the weights is among those of the namespace."""
    wanted = wanted_claim(chatbot)
    return any(
        c["metadata"]["name"] == wanted and names.CHATBOT_LABEL in c["metadata"].get("labels", {}) for c in claims
    )
