"""What a test knows about its cluster: access, abilities, namespaces. It must not know which kind it is."""

import json
import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from kubernetes.client import CustomObjectsApi
from kubernetes.config import new_client_from_config

from chatbot_operator.kinds import CHATBOT
from devcluster.build import Programs
from devcluster.cluster import Cluster
from devcluster.engines import Running
from devcluster.kubectl import find as find_kubectl
from devcluster.objects import FAKE_NODE_ANNOTATION
from devcluster.processes import wait_until
from devcluster.progress import Plain

GIVEN_KUBECONFIG = "CHATBOT_TEST_KUBECONFIG"
PODS_RUN, FAKE_NODES, METRICS, STORAGE, LOAD_BALANCER = "pods run", "fake nodes", "metrics", "storage", "load balancer"
ABILITIES = frozenset({PODS_RUN, FAKE_NODES, METRICS, STORAGE, LOAD_BALANCER})
# Time that a load balancer of a foreign cluster gets to hand out an address, in seconds.
LOAD_BALANCER_SECONDS = 15.0


@dataclass(frozen=True)
class ClusterAccess:
    """One cluster as tests see it; `cluster` is None if it was given by CHATBOT_TEST_KUBECONFIG."""

    kubeconfig: Path
    abilities: frozenset[str]
    kubectl_path: Path
    environment: Mapping[str, str]
    audit_log: Path | None = None
    cluster: Cluster | None = None
    images: Mapping[str, str] = field(default_factory=dict)

    def kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002 - named as in subprocess.run
        check: bool = True,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator. With `check`, a failure is an AssertionError that shows what it said."""
        result = subprocess.run(
            [str(self.kubectl_path), *args],
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | self.environment,
            check=False,
        )
        if check:
            assert result.returncode == 0, f"kubectl {' '.join(args)}: {result.stderr.strip()}"
        return result

    def get(self, *args: str) -> dict[str, Any]:
        """`kubectl get … -o json`, parsed."""
        parsed: dict[str, Any] = json.loads(self.kubectl("get", *args, "-o", "json").stdout)
        return parsed

    @cached_property
    def _api(self) -> CustomObjectsApi:
        return CustomObjectsApi(new_client_from_config(str(self.kubeconfig)))  # type: ignore[no-untyped-call]

    def chatbot(self, namespace: str, name: str) -> dict[str, Any]:
        """The Chatbot as the API server has it, for who asks again and again: kubectl is a process each time."""
        kind = (CHATBOT.group, CHATBOT.version, namespace, CHATBOT.plural, name)
        return cast("dict[str, Any]", self._api.get_namespaced_custom_object(*kind))

    def apply(self, *manifests: dict[str, Any], namespace: str = "default") -> None:
        """`kubectl apply` of manifests given as dictionaries."""
        objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        self.kubectl("apply", "--namespace", namespace, "-f", "-", input=objects)


def access_of(cluster: Cluster, images: Mapping[str, str] | None = None) -> ClusterAccess:
    """Access to a cluster that this test run started; what it can do follows from how it was started."""
    abilities = {FAKE_NODES, METRICS, STORAGE, LOAD_BALANCER} | ({PODS_RUN} if cluster.layout.nodes else set())
    return ClusterAccess(
        kubeconfig=cluster.kubeconfig,
        abilities=frozenset(abilities),
        kubectl_path=cluster.kubectl_path,
        environment=cluster.environment(),
        audit_log=cluster.audit_log,
        cluster=cluster,
        images=images or {},
    )


def given_access() -> ClusterAccess | None:
    """Access to the cluster that CHATBOT_TEST_KUBECONFIG names, its abilities found out by trying; None if not set."""
    path = os.environ.get(GIVEN_KUBECONFIG)
    if not path:
        return None
    kubectl = find_kubectl(Programs(Plain()))
    access = ClusterAccess(Path(path), frozenset(), kubectl, {"KUBECONFIG": path})
    # `python -m devcluster up` notes beside the kubeconfig which of our images the cluster holds.
    running = Running.read(Path(path).parent)
    return replace(access, abilities=probe_abilities(access), images=running.images if running else {})


def probe_abilities(access: ClusterAccess) -> frozenset[str]:
    """Which abilities a cluster has, from what it does."""
    found = set()
    nodes = access.get("nodes")["items"]
    fake = [node for node in nodes if FAKE_NODE_ANNOTATION in node["metadata"].get("annotations", {})]
    if fake:
        found.add(FAKE_NODES)
    if len(nodes) > len(fake):
        found.add(PODS_RUN)
    if access.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes", check=False).returncode == 0:
        found.add(METRICS)
    default_class = "storageclass.kubernetes.io/is-default-class"
    classes = access.get("storageclasses")["items"]
    if any(c["metadata"].get("annotations", {}).get(default_class) == "true" for c in classes):
        found.add(STORAGE)
    if _load_balancer_answers(access):
        found.add(LOAD_BALANCER)
    return frozenset(found)


def _load_balancer_answers(access: ClusterAccess) -> bool:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "probe"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    }
    with make_namespace(access) as namespace:
        access.apply(service, namespace=namespace)

        def has_address() -> bool:
            found = access.get("service", "probe", "--namespace", namespace)
            return bool(found["status"].get("loadBalancer", {}).get("ingress"))

        try:
            wait_until("the load balancer has an address", has_address, LOAD_BALANCER_SECONDS, 0.5)
        except TimeoutError:
            return False
    return True


@contextmanager
def make_namespace(access: ClusterAccess, prefix: str = "test") -> Iterator[str]:
    """A fresh namespace with its ServiceAccount, deleted (without waiting for it) at the end."""
    name = f"{prefix}-{uuid.uuid4().hex[:8]}"
    access.kubectl("create", "namespace", name)

    def has_account() -> bool:
        return access.kubectl("get", "serviceaccount", "default", "-n", name, check=False).returncode == 0

    try:
        wait_until(f"namespace {name} is usable", has_account, 30.0)
        yield name
    finally:
        access.kubectl("delete", "namespace", name, "--wait=false", check=False)


def await_definition(access: ClusterAccess, name: str) -> None:
    """Return once a CustomResourceDefinition is served. kubectl's own wait fails on one without any condition yet."""
    wait = ("wait", "--for=condition=Established", f"crd/{name}", "--timeout=5s")
    wait_until(f"{name} is served", lambda: access.kubectl(*wait, check=False).returncode == 0, 60.0, 0.2)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A fresh folder for a cluster's state; pytest's own are too deep for the path of a unix socket."""
    with tempfile.TemporaryDirectory(prefix="dc-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def fresh_control_plane(*, fake_nodes: int = 2, tainted: bool = False) -> Iterator[ClusterAccess]:
    """An own control plane with fake nodes, which take ordinary pods unless `tainted`; gone after the block."""
    with short_folder() as folder:
        cluster = Cluster.start("test", state_dir=folder, progress=Plain(), lifetime="process")
        try:
            cluster.add_fake_nodes(fake_nodes, tainted=tainted)
            yield access_of(cluster)
        finally:
            cluster.remove()
