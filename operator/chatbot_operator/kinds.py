"""The kinds of objects that the operator reads and writes, as data. It must not know any client."""

from collections.abc import Mapping
from typing import Any, NamedTuple

RawObject = Mapping[str, Any]
"""One Kubernetes object as parsed JSON. Never changed in place once it is in the store."""

GROUP = "chatbot-operator.dev"
API_VERSION = f"{GROUP}/v1alpha1"


class Kind(NamedTuple):
    """One API resource: what a URL and a manifest need to name it."""

    name: str
    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return self.name


class Key(NamedTuple):
    """Names one Chatbot: the unit of work of the queue and the owner of every child."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Ref(NamedTuple):
    """Names one object."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


CHATBOT = Kind("Chatbot", GROUP, "v1alpha1", "chatbots")
DEPLOYMENT = Kind("Deployment", "apps", "v1", "deployments")
REPLICA_SET = Kind("ReplicaSet", "apps", "v1", "replicasets")
POD = Kind("Pod", "", "v1", "pods")
SERVICE = Kind("Service", "", "v1", "services")
CONFIG_MAP = Kind("ConfigMap", "", "v1", "configmaps")
SERVICE_ACCOUNT = Kind("ServiceAccount", "", "v1", "serviceaccounts")
AUTOSCALER = Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
NETWORK_POLICY = Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies")
INGRESS = Kind("Ingress", "networking.k8s.io", "v1", "ingresses")
HTTP_ROUTE = Kind("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes")
CLAIM = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
JOB = Kind("Job", "batch", "v1", "jobs")
EVENT = Kind("Event", "events.k8s.io", "v1", "events")
LEASE = Kind("Lease", "coordination.k8s.io", "v1", "leases")

CHILD_KINDS = (
    DEPLOYMENT,
    REPLICA_SET,
    POD,
    SERVICE,
    CONFIG_MAP,
    SERVICE_ACCOUNT,
    AUTOSCALER,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    INGRESS,
    HTTP_ROUTE,
    CLAIM,
    JOB,
)
"""Watched with the label selector of `names.SELECTOR`."""

OPTIONAL_KINDS = frozenset({HTTP_ROUTE})
"""Kinds that a cluster may lack."""

WATCHED_KINDS = (CHATBOT, *CHILD_KINDS)
BY_API: Mapping[tuple[str, str], Kind] = {(k.api_version, k.name): k for k in (*WATCHED_KINDS, EVENT, LEASE)}


def kind_of(obj: RawObject) -> Kind:
    """The kind of an object. Raises KeyError for one that the operator does not handle."""
    return BY_API[(obj["apiVersion"], obj["kind"])]


def ref_of(obj: RawObject) -> Ref:
    """The name of an object."""
    return Ref(kind_of(obj), obj["metadata"]["namespace"], obj["metadata"]["name"])
