"""The embedded control plane starts quickly, survives the death of each part, and leaves nothing behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.cluster import Cluster
from devcluster.errors import DevClusterError
from devcluster.layout import API_PORT
from devcluster.processes import members, wait_until
from devcluster.state import Numbers
from tests.support.cluster import ClusterAccess, access_of, fresh_control_plane, make_namespace, short_folder

# 5 s on an idle machine; the suite may share its cores with builds.
START_SECONDS = 20.0


@pytest.fixture(scope="module")
def cluster(control_plane: ClusterAccess) -> Cluster:
    if control_plane.cluster is None:
        pytest.skip("the cluster was given: its nodes and parts are not ours")
    return control_plane.cluster


@pytest.fixture
def state_folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


def deployment(name: str, replicas: int, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    labels = {"app": name}
    pod = {
        "containers": [{"name": "main", "image": "example.invalid/none:1", "resources": {"requests": {"cpu": "100m"}}}]
    }
    template = {"metadata": {"labels": labels, "annotations": annotations or {}}, "spec": pod}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_a_fresh_control_plane_is_ready_in_seconds_and_gone_without_a_trace(state_folder: Path) -> None:
    began = time.monotonic()
    cluster = Cluster.start("fresh", state_dir=state_folder, lifetime="process")
    try:
        assert time.monotonic() - began < START_SECONDS
        assert members(state_folder)
        assert access_of(cluster).get("serviceaccount", "default")["metadata"]["name"] == "default"
    finally:
        cluster.remove()
    assert members(state_folder) == []
    assert not state_folder.exists()
    assert Numbers().of(state_folder) is None


@pytest.mark.usefixtures("cluster")
def test_an_ordinary_deployment_becomes_available_on_fake_nodes(control_plane: ClusterAccess, namespace: str) -> None:
    control_plane.apply(deployment("web", 3), namespace=namespace)
    control_plane.kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=20s")
    pods = control_plane.get("pods", "-n", namespace)["items"]
    addresses = {pod["status"]["podIP"] for pod in pods}
    assert len(addresses) == 3


def test_a_tainted_fake_node_takes_only_pods_that_tolerate_it() -> None:
    with fresh_control_plane(fake_nodes=1, tainted=True) as access, make_namespace(access) as namespace:
        tolerating = deployment("tolerating", 1)
        toleration = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
        tolerating["spec"]["template"]["spec"]["tolerations"] = [toleration]
        access.apply(deployment("ordinary", 1), tolerating, namespace=namespace)
        access.kubectl("rollout", "status", "deployment/tolerating", "-n", namespace, "--timeout=20s")
        (ordinary,) = access.get("pods", "-l", "app=ordinary", "-n", namespace)["items"]
        assert "nodeName" not in ordinary["spec"]


@pytest.mark.usefixtures("cluster")
def test_a_fake_pod_can_be_told_to_fail_with_a_reason(control_plane: ClusterAccess, namespace: str) -> None:
    failing = deployment("failing", 1, {"devcluster.local/fail": "ImagePullBackOff: no such image"})
    control_plane.apply(failing, namespace=namespace)

    def waiting_reason() -> str:
        for pod in control_plane.get("pods", "-n", namespace)["items"]:
            for status in pod["status"].get("containerStatuses", []):
                return str(status["state"].get("waiting", {}).get("reason", ""))
        return ""

    wait_until("the pod waits with the reason", lambda: waiting_reason() == "ImagePullBackOff", 15.0)


@pytest.mark.usefixtures("cluster")
def test_jobs_on_fake_nodes_end_as_their_annotations_say(control_plane: ClusterAccess, namespace: str) -> None:
    def job(name: str, exit_code: str) -> dict[str, Any]:
        pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.invalid/none:1"}]}
        template = {"metadata": {"annotations": {"devcluster.local/exit-code": exit_code}}, "spec": pod}
        spec = {"backoffLimit": 0, "template": template}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}

    control_plane.apply(job("good", "0"), job("bad", "3"), namespace=namespace)
    control_plane.kubectl("wait", "--for=condition=Complete", "job/good", "-n", namespace, "--timeout=20s")
    control_plane.kubectl("wait", "--for=condition=Failed", "job/bad", "-n", namespace, "--timeout=20s")


@pytest.mark.parametrize("component", ["etcd", "apiserver", "controller-manager", "scheduler", "addons"])
def test_a_killed_part_comes_back_and_the_data_stays(
    cluster: Cluster, control_plane: ClusterAccess, namespace: str, component: str
) -> None:
    control_plane.kubectl("create", "configmap", "kept", "--from-literal=a=b", "-n", namespace)
    before = cluster.pid(component)
    cluster.kill(component)
    wait_until(f"{component} is back", lambda: cluster.pid(component) not in (None, before), 10.0)
    cluster.await_ready()
    assert control_plane.get("configmap", "kept", "-n", namespace)["data"] == {"a": "b"}
    control_plane.apply(deployment("after", 1), namespace=namespace)
    control_plane.kubectl("rollout", "status", "deployment/after", "-n", namespace, "--timeout=30s")


def test_a_halted_part_stays_down_until_it_is_restarted(
    cluster: Cluster, control_plane: ClusterAccess, namespace: str
) -> None:
    cluster.halt("scheduler")
    assert cluster.pid("scheduler") is None
    control_plane.apply(deployment("late", 1), namespace=namespace)
    cluster.restart("scheduler")
    control_plane.kubectl("rollout", "status", "deployment/late", "-n", namespace, "--timeout=30s")


def test_two_clusters_run_side_by_side_without_touching_each_other(control_plane: ClusterAccess) -> None:
    with fresh_control_plane(fake_nodes=0) as other:
        assert other.get("configmaps", "-n", "default")["items"]
        with make_namespace(other) as name:
            assert control_plane.kubectl("get", "namespace", name, check=False).returncode != 0


def test_starting_again_keeps_a_running_cluster_as_it_is(state_folder: Path) -> None:
    first = Cluster.start("again", state_dir=state_folder, lifetime="process")
    try:
        pids = {name: first.pid(name) for name in first.components()}
        second = Cluster.start("again", state_dir=state_folder, lifetime="process")
        assert {name: second.pid(name) for name in second.components()} == pids
    finally:
        first.remove()


def test_data_survives_a_stop_and_a_start(state_folder: Path) -> None:
    cluster = Cluster.start("kept", state_dir=state_folder, lifetime="process")
    try:
        cluster.kubectl("create", "configmap", "kept")
        cluster.stop()
        assert members(state_folder) == []
        cluster = Cluster.start("kept", state_dir=state_folder, lifetime="process")
        assert "kept" in cluster.kubectl("get", "configmap", "kept", "-o", "name")
    finally:
        cluster.remove()


def test_a_killed_test_run_leaves_no_process_and_the_next_start_removes_the_rest(state_folder: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from devcluster.cluster import Cluster\n"
        "Cluster.start('killed', state_dir=Path(sys.argv[1]), lifetime='process')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", program, str(state_folder)], cwd=root, check=False, timeout=120)
    assert result.returncode == -9
    wait_until("all of its processes have ended", lambda: not members(state_folder), 15.0)
    with fresh_control_plane(fake_nodes=0):
        assert not state_folder.exists()
        assert Numbers().of(state_folder) is None


def test_ctrl_c_during_a_start_ends_everything_and_leaves_nothing(state_folder: Path) -> None:
    folder = state_folder / "c"
    command = [sys.executable, "-m", "devcluster", "up", "--engine", "embedded", "--level", "control-plane"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [*command, "--state-dir", str(folder)], cwd=root, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until("the API server has been started", (folder / "run" / "apiserver.pid").exists, 60.0, 0.01)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert members(folder) == []
    assert not folder.exists()
    assert Numbers().of(folder) is None


def test_a_taken_port_is_named_with_what_to_do(state_folder: Path) -> None:
    cluster = Cluster.start("port", state_dir=state_folder, lifetime="process")
    try:
        cluster.stop()
        with socket.create_server((cluster.layout.host_address, API_PORT)):
            with pytest.raises(DevClusterError, match=rf"port {API_PORT} .* is taken"):
                Cluster.start("port", state_dir=state_folder, lifetime="process")
            assert members(state_folder) == []
    finally:
        cluster.remove()


def test_a_process_without_any_rights_can_start_use_and_remove_a_control_plane(state_folder: Path) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("util-linux' setpriv is not there to take rights away")
    program = (
        "import sys; from pathlib import Path; from devcluster.cluster import Cluster\n"
        "from devcluster.processes import CAP_NET_ADMIN, has_capabilities\n"
        "assert not has_capabilities(CAP_NET_ADMIN)\n"
        "cluster = Cluster.start('bare', fake_nodes=1, state_dir=Path(sys.argv[1]), lifetime='process')\n"
        "print(cluster.kubectl('get', 'nodes', '-o', 'name'))\n"
        "cluster.remove()\n"
    )
    without = [setpriv, "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*without, sys.executable, "-c", program, str(state_folder / "c")]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "node/fake-1"
    assert members(state_folder / "c") == []


def test_real_nodes_are_refused_without_rights_and_the_message_says_what_helps(state_folder: Path) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None or os.geteuid() != 0:
        pytest.skip("takes rights away from root by util-linux' setpriv")
    without = [setpriv, "--bounding-set=-all", "--inh-caps=-all"]
    command = ["-m", "devcluster", "up", "--engine", "embedded", "--no-images", "--state-dir", str(state_folder / "c")]
    root = Path(__file__).parents[2]
    result = subprocess.run([*without, sys.executable, *command], cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "need root" in result.stderr
    assert "--level control-plane" in result.stderr


def test_down_ends_a_cluster_whose_settings_were_damaged(state_folder: Path) -> None:
    folder = state_folder / "c"
    Cluster.start("damaged", state_dir=folder)
    (folder / "settings.json").write_text("{")
    command = [sys.executable, "-m", "devcluster", "down", "--state-dir", str(folder)]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert members(folder) == []
    assert not folder.exists()
    assert Numbers().of(folder) is None
