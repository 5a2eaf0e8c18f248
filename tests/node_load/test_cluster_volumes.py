"""A volume of class `sized` is full at its claim's size, grows under the pod that writes, and goes with the claim."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from devcluster.cluster import Cluster
from devcluster.processes import wait_until
from tests.support.cluster import ClusterAccess

MIB = 1 << 20
NO_SPACE = 28  # errno(3): ENOSPC
USER = 10001
SECONDS = 30.0
# Writes until the disk is full, says how far it came, and goes on as soon as there is room again.
WRITER = textwrap.dedent("""
    import os, time
    file, full = open("/data/weights", "ab", buffering=0), False
    while True:
        try:
            file.write(bytes(1 << 16))
            full = False
        except OSError as error:
            if not full:
                disk = os.statvfs("/data")
                print(error.errno, os.getuid(), file.tell(), disk.f_blocks * disk.f_frsize, flush=True)
            full = True
            time.sleep(0.05)
""")
# Says how large the disk is and how many files lie there, and leaves one.
VISITOR = textwrap.dedent("""
    import os
    disk = os.statvfs("/data")
    print(disk.f_blocks * disk.f_frsize, len(os.listdir("/data")))
    open("/data/visited", "w").close()
""")


def claim(size: str) -> dict[str, Any]:
    spec = {
        "storageClassName": "sized",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}


def pod(name: str, image: str, script: str) -> dict[str, Any]:
    """A pod that runs a script as an ordinary user with the claim at /data."""
    container = {
        "name": "main",
        "image": image,
        "command": ["python", "-c", script],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        # What a container writes into the volume counts as its memory.
        "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER},
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


class Disk:
    """A namespace with one claim, and what its pods and the API say of it."""

    def __init__(self, access: ClusterAccess, namespace: str, image: str) -> None:
        self.access, self.namespace, self.image = access, namespace, image

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        return self.access.kubectl(*arguments, "-n", self.namespace, check=check).stdout

    def make(self, size: str) -> None:
        self.access.apply(claim(size), namespace=self.namespace)

    def start(self, name: str, script: str) -> None:
        self.access.apply(pod(name, self.image, script), namespace=self.namespace)

    def line(self, name: str, index: int) -> list[int]:
        """The numbers in a line that a pod prints, waited for."""

        def said() -> list[str]:
            return self.kubectl("logs", name, check=False).splitlines()

        wait_until(f"{name} has said {index + 1} lines", lambda: len(said()) > index, SECONDS, 0.2)
        return [int(word) for word in said()[index].split()]

    def visit(self, name: str) -> list[int]:
        """Size of the disk and number of its files, as a pod that comes and goes sees them."""
        self.start(name, VISITOR)
        seen = self.line(name, 0)
        self.kubectl("delete", "pod", name)
        return seen

    def grow(self, size: str) -> None:
        self.kubectl("patch", "pvc", "data", "-p", json.dumps({"spec": {"resources": {"requests": {"storage": size}}}}))
        self.kubectl("wait", "pvc/data", f"--for=jsonpath={{.status.capacity.storage}}={size}", "--timeout=30s")

    def volume(self) -> dict[str, Any]:
        name = self.access.get("pvc", "data", "-n", self.namespace)["spec"]["volumeName"]
        return self.access.get("pv", name)

    def wait_gone(self, volume: dict[str, Any]) -> None:
        """Wait until nothing is left of a volume whose claim was deleted: object, mounts in the node, files."""
        name, cluster = volume["metadata"]["name"], self.access.cluster
        self.access.kubectl("wait", f"pv/{name}", "--for=delete", "--timeout=30s")
        if cluster is not None:
            wait_until("the volume's mounts are gone", lambda: name not in mounts(cluster), SECONDS, 0.2)
            assert [path for path in cluster.layout.volumes.iterdir() if path.name.startswith(name)] == []


def mounts(cluster: Cluster) -> str:
    """What is mounted in the node."""
    return Path(f"/proc/{cluster.pid('node1')}/mounts").read_text()


@pytest.fixture
def disk(node_cluster: ClusterAccess, node_namespace: str) -> Disk:
    if node_cluster.kubectl("get", "storageclass", "sized", check=False).returncode != 0:
        pytest.skip("the given cluster has no volumes of a real size")
    if "chatbot-runtime" not in node_cluster.images:
        pytest.skip("the given cluster holds none of our images")
    return Disk(node_cluster, node_namespace, node_cluster.images["chatbot-runtime"])


@pytest.mark.needs("pods run", "storage")
def test_a_full_disk_takes_more_once_its_claim_has_grown_and_is_gone_with_the_claim(disk: Disk) -> None:
    disk.make("32Mi")
    disk.start("writer", WRITER)
    assert disk.line("writer", 0) == [NO_SPACE, USER, 32 * MIB, 32 * MIB]

    disk.grow("48Mi")
    assert disk.line("writer", 1) == [NO_SPACE, USER, 48 * MIB, 48 * MIB]
    volume = disk.volume()
    assert volume["spec"]["capacity"] == {"storage": "48Mi"}
    assert "conditions" not in disk.access.get("pvc", "data", "-n", disk.namespace)["status"]

    disk.kubectl("delete", "pod", "writer")
    disk.kubectl("delete", "pvc", "data")
    disk.wait_gone(volume)


@pytest.mark.needs("pods run", "storage")
def test_a_node_that_was_down_comes_back_with_the_size_that_the_claim_has_by_then(disk: Disk) -> None:
    if disk.access.cluster is None:
        pytest.skip("the cluster was given, so its node is not ours to halt")
    disk.make("16Mi")
    assert disk.visit("first") == [16 * MIB, 0]
    assert disk.visit("second") == [16 * MIB, 1]

    disk.access.cluster.halt("node1")
    disk.grow("24Mi")
    disk.access.cluster.restart("node1")
    # Memory of the node's: what was written has gone with it.
    assert disk.visit("third") == [24 * MIB, 0]

    volume = disk.volume()
    disk.kubectl("delete", "pvc", "data")
    disk.wait_gone(volume)
