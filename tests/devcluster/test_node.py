"""A real node runs hardened pods with Services, metrics and volumes, survives kills and leaves nothing behind."""

import json
import textwrap
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devcluster import cgroups
from devcluster.build import cache_dir
from devcluster.cluster import Cluster
from devcluster.images import description
from devcluster.images.builder import build, build_described
from devcluster.processes import members, wait_until
from devcluster.progress import Plain
from devcluster.registry import Registry
from tests.support.cluster import ClusterAccess, access_of, make_namespace, short_folder

SERVER = textwrap.dedent("""
    import http.server, os
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = os.environ["HOSTNAME"].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *_): pass
    http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
""")
FACTS = textwrap.dedent("""
    import json, os
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    try:
        open("/written", "w")
        writable = True
    except OSError:
        writable = False
    open("/tmp/written", "w")
    print(json.dumps({"uid": os.getuid(), "root_writable": writable, "capabilities": int(status["CapEff"], 16),
                      "seccomp": int(status["Seccomp"]), "no_new_privileges": int(status["NoNewPrivs"])}))
""")
BURN = "while True: sum(range(1000))"
HARDENED = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


def pod_spec(image: str, script: str, **changes: Any) -> dict[str, Any]:
    """A hardened pod that runs a Python script in an image of ours."""
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        "command": ["python", "-c", script],
        "securityContext": HARDENED,
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - a path in the pod
    }
    security = {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "securityContext": security,
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    } | changes


def pod(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def server_deployment(name: str, image: str, replicas: int = 1) -> dict[str, Any]:
    spec = pod_spec(image, SERVER)
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    spec["containers"][0] |= {"readinessProbe": probe, "ports": [{"containerPort": 8080}]}
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": spec}
    selector = {"matchLabels": labels}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    }


def service(name: str) -> dict[str, Any]:
    spec = {"type": "LoadBalancer", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def answer(url: str) -> str:
    """The body of one GET, empty while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def soon(what: str, condition: Callable[[], bool], seconds: float = 30.0) -> None:
    wait_until(what, condition, seconds, 0.2)


def finished_log(access: ClusterAccess, namespace: str, name: str) -> str:
    access.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "-n", namespace, "--timeout=30s")
    return access.kubectl("logs", name, "-n", namespace).stdout


@pytest.fixture(scope="module")
def image(node_cluster: ClusterAccess) -> str:
    if "chatbot-runtime" not in node_cluster.images:
        pytest.skip("the given cluster holds none of our images")
    return node_cluster.images["chatbot-runtime"]


@pytest.fixture(scope="module")
def cluster(node_cluster: ClusterAccess) -> Cluster:
    if node_cluster.cluster is None:
        pytest.skip("the cluster was given, so its parts are not ours to kill")
    return node_cluster.cluster


@pytest.mark.needs("pods run")
def test_a_hardened_pod_has_no_rights_and_a_read_only_root(
    node_cluster: ClusterAccess, node_namespace: str, image: str
) -> None:
    node_cluster.apply(pod("facts", pod_spec(image, FACTS, restartPolicy="Never")), namespace=node_namespace)
    facts = json.loads(finished_log(node_cluster, node_namespace, "facts"))
    expected = {"uid": 10001, "root_writable": False, "capabilities": 0, "seccomp": 2, "no_new_privileges": 1}
    assert facts == expected


@pytest.mark.needs("pods run", "load balancer")
def test_a_service_is_reached_by_address_by_name_and_by_load_balancer(
    node_cluster: ClusterAccess, node_namespace: str, image: str
) -> None:
    node_cluster.apply(server_deployment("web", image, 2), service("web"), namespace=node_namespace)
    node_cluster.kubectl("rollout", "status", "deployment/web", "-n", node_namespace, "--timeout=60s")
    found = node_cluster.get("service", "web", "-n", node_namespace)
    load_balancer = found["status"]["loadBalancer"]["ingress"][0]["ip"]
    pods = {item["metadata"]["name"] for item in node_cluster.get("pods", "-n", node_namespace)["items"]}
    for address in (found["spec"]["clusterIP"], load_balancer):
        soon(f"{address} answers", lambda address=address: answer(f"http://{address}/") in pods)  # type: ignore[misc]
    fetch = f"import urllib.request as u; print(u.urlopen('http://web.{node_namespace}.svc.cluster.local/').read().decode())"
    by_name = node_cluster.kubectl("exec", "deploy/web", "-n", node_namespace, "--", "python", "-c", fetch).stdout
    assert by_name.strip() in pods


@pytest.mark.needs("pods run", "metrics")
def test_an_autoscaler_sees_what_a_pod_uses_and_acts_on_it(
    node_cluster: ClusterAccess, node_namespace: str, image: str
) -> None:
    deployment = server_deployment("busy", image)
    deployment["spec"]["template"]["spec"] = pod_spec(image, BURN)
    target = {"type": "Utilization", "averageUtilization": 50}
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "busy"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
            "minReplicas": 1,
            "maxReplicas": 2,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }
    node_cluster.apply(deployment, autoscaler, namespace=node_namespace)

    def scaled() -> bool:
        status = node_cluster.get("hpa", "busy", "-n", node_namespace).get("status", {})
        return status.get("currentMetrics") is not None and status.get("desiredReplicas") == 2

    soon("the autoscaler asks for a second pod", scaled, 60.0)
    used = node_cluster.kubectl("top", "pods", "-n", node_namespace, "--no-headers").stdout
    assert "busy-" in used


@pytest.mark.needs("pods run", "storage")
def test_a_claim_is_writable_without_root_and_outlives_its_pod(
    node_cluster: ClusterAccess, node_namespace: str, image: str
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }

    def user(name: str, script: str) -> dict[str, Any]:
        spec = pod_spec(image, script, restartPolicy="Never")
        spec["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "data"}})
        spec["containers"][0]["volumeMounts"].append({"name": "data", "mountPath": "/data"})
        return pod(name, spec)

    node_cluster.apply(claim, user("writer", "open('/data/kept', 'w').write('kept')"), namespace=node_namespace)
    finished_log(node_cluster, node_namespace, "writer")
    node_cluster.kubectl("delete", "pod", "writer", "-n", node_namespace)
    node_cluster.apply(user("reader", "print(open('/data/kept').read())"), namespace=node_namespace)
    assert finished_log(node_cluster, node_namespace, "reader").strip() == "kept"
    (volume,) = [
        item
        for item in node_cluster.get("pv")["items"]
        if item["spec"]["claimRef"]["namespace"] == node_namespace
    ]  # fmt: skip
    folder = Path(volume["spec"]["local"]["path"])
    node_cluster.kubectl("delete", "pod", "reader", "-n", node_namespace)
    node_cluster.kubectl("delete", "pvc", "data", "-n", node_namespace)
    if node_cluster.cluster is not None:
        soon("the volume's folder is gone", lambda: not folder.exists())


@pytest.mark.needs("pods run")
@pytest.mark.parametrize("daemon", ["kubelet", "containerd", "kube-proxy"])
def test_running_pods_outlive_a_killed_daemon_and_new_ones_start(
    node_cluster: ClusterAccess, cluster: Cluster, node_namespace: str, image: str, daemon: str
) -> None:
    node_cluster.apply(server_deployment("steady", image), namespace=node_namespace)
    node_cluster.kubectl("rollout", "status", "deployment/steady", "-n", node_namespace, "--timeout=60s")
    component = f"node1/{daemon}"
    before = cluster.pid(component)
    cluster.kill(component)
    soon(f"{daemon} is back", lambda: cluster.pid(component) not in (None, before), 10.0)
    node_cluster.apply(pod("after", pod_spec(image, "print('ran')", restartPolicy="Never")), namespace=node_namespace)
    assert finished_log(node_cluster, node_namespace, "after").strip() == "ran"
    (steady,) = node_cluster.get("pods", "-l", "app=steady", "-n", node_namespace)["items"]
    assert steady["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.needs("pods run")
def test_an_image_that_only_a_registry_has_is_pulled_and_waited_for_without_it(
    node_cluster: ClusterAccess, cluster: Cluster, node_namespace: str
) -> None:
    registry = Registry(cluster)
    registry.start()
    try:
        # Not the chatbots' own: one that the kubelet has pulled once is under no name preloaded to it any more.
        runtime = description.load()["chatbot-runtime"]
        other = replace(runtime, name="test-pulled", environment={**runtime.environment, "PULLED": "yes"})
        reference = registry.push(build_described(other, Plain(), cache_dir() / "images"))
        spec = pod_spec(reference, "print('pulled')", restartPolicy="Never")
        spec["containers"][0]["imagePullPolicy"] = "Always"
        node_cluster.apply(pod("pulls", spec), namespace=node_namespace)
        assert finished_log(node_cluster, node_namespace, "pulls").strip() == "pulled"
    finally:
        registry.stop()
    node_cluster.apply(pod("waits", spec), namespace=node_namespace)

    def waits_for_the_image() -> bool:
        (status,) = node_cluster.get("pod", "waits", "-n", node_namespace)["status"].get("containerStatuses", [{}])
        return status.get("state", {}).get("waiting", {}).get("reason") in ("ErrImagePull", "ImagePullBackOff")

    soon("the pod waits for its image", waits_for_the_image)


def traces(cluster: Cluster) -> dict[str, list[str]]:
    """What of a cluster the machine still knows, by kind."""
    layout = cluster.layout
    mounts = Path("/proc/self/mounts").read_text()
    roots = [*cgroups.hierarchies(mounts, "cgroup"), *cgroups.hierarchies(mounts, "cgroup2")]
    prefix = layout.bridge_address.rsplit(".", 2)[0]
    routes = Path("/proc/net/fib_trie").read_text()
    return {
        "processes": [str(pid) for pid in members(cluster.state_dir)],
        "links": [path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(layout.bridge)],
        "routes": [line.strip() for line in routes.splitlines() if f"{prefix}." in line and "127." not in line],
        "control groups": [str(root) for root in roots if (root / layout.control_group).exists()],
        "mounts": [line for line in mounts.splitlines() if str(cluster.state_dir) in line],
        "folders": [str(cluster.state_dir)] if cluster.state_dir.exists() else [],
    }


@pytest.mark.needs("pods run")
def test_a_second_cluster_gets_a_node_survives_a_kill_of_everything_and_leaves_no_trace(cluster: Cluster) -> None:
    runtime = build("chatbot-runtime")
    with short_folder() as folder:
        second = Cluster.start(
            "second", level="node", state_dir=folder, images=[runtime], progress=Plain(), lifetime="process"
        )
        try:
            assert second.layout.number != cluster.layout.number
            access = access_of(second)
            assert second.add_node([runtime]) == "node2"
            with make_namespace(access) as namespace:
                deployment = server_deployment("spread", runtime.reference, 2)
                rule = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
                spread = rule | {"labelSelector": {"matchLabels": {"app": "spread"}}}
                deployment["spec"]["template"]["spec"]["topologySpreadConstraints"] = [spread]
                access.apply(deployment, service("spread"), namespace=namespace)
                access.kubectl("rollout", "status", "deployment/spread", "-n", namespace, "--timeout=60s")
                address = access.get("service", "spread", "-n", namespace)["spec"]["clusterIP"]
                seen: set[str] = set()
                deadline = time.monotonic() + 30
                while len(seen - {""}) < 2 and time.monotonic() < deadline:
                    seen.add(answer(f"http://{address}/"))
                assert len(seen - {""}) == 2, "the Service must reach the pods of both nodes"
                second.drain("node2")
                left = access.get("pods", "-n", namespace, "--field-selector=spec.nodeName=node2")["items"]
                assert left == []
                second.uncordon("node2")
            shown = traces(second)
            assert all(shown[kind] for kind in ("processes", "links", "routes", "control groups", "folders")), shown
            second.processes.kill_members()
            second = Cluster.start("second", level="node", nodes=2, state_dir=folder, lifetime="process")
            assert second.healthy()
        finally:
            second.remove()
        assert traces(second) == {kind: [] for kind in traces(second)}
