"""Releases of the chart on a control plane, the operator at work as a process with the account and the settings that
the chart gives it. No test logic here."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from charts.release import THEIRS, replaced
from chatbot_operator.settings import PREFIX
from tests.support.cluster import ClusterAccess, make_namespace
from tests.support.helm import CHART, Helm, flags, helm
from tests.support.image_registry import Registry, serving
from tests.support.operator import FakePods, OperatorProcess, account_kubeconfig, wait_for

CRD = "chatbots.chatbot-operator.dev"
RELEASE = "chatbot-operator"
FEW = {"backend": {"replicas": 1, "autoscaling": {"enabled": False}}}
IMAGES = ("images.runtime.tag=same", "images.web.tag=same")
Make = Callable[[], "Release"]


@dataclass(frozen=True)
class Release:
    """One install, in a namespace of its own that enforces Pod Security restricted."""

    access: ClusterAccess
    namespace: str
    folder: Path
    pods: FakePods
    name: str = RELEASE

    def helm(self, *args: str, version: str = "helm", check: bool = True) -> str:
        program: Helm = helm(version, self.access.environment)
        return program(*args, "--namespace", self.namespace, check=check)

    def put(
        self, *settings: str, chart: Path = CHART, version: str = "helm", check: bool = True, more: str = ""
    ) -> str:
        """Install or upgrade, and wait until its pods are ready; what Helm complains about."""
        asked = ("upgrade", "--install", self.name, str(chart), "--wait", "--timeout=60s", *more.split())
        return self.helm(*asked, *flags((*IMAGES, *settings)), version=version, check=check)

    def uninstall(self) -> None:
        self.helm("uninstall", self.name, "--wait", "--ignore-not-found")

    @contextmanager
    def operator(self) -> Iterator[OperatorProcess]:
        """The process that its Deployment describes."""
        (container,) = self.deployment()["spec"]["template"]["spec"]["containers"]
        given = {e["name"].removeprefix(PREFIX): e.get("value", "") for e in container["env"]}
        given |= {"NAMESPACE": self.namespace, "IDENTITY": f"{self.namespace}-0", "HOST": "127.0.0.1", "PORT": "0"}
        given |= {"POD_STATUS_URL": self.pods.url, "LEASE_SECONDS": "3", "LEASE_RENEW_SECONDS": "1"}
        kubeconfig = account_kubeconfig(self.access, self.folder, namespace=self.namespace)
        process = OperatorProcess(kubeconfig, self.folder / f"{self.namespace}.log", given)
        process.start()
        try:
            yield process
        finally:
            process.kill()

    def deployment(self) -> dict[str, Any]:
        return self.access.get(f"deployment/{self.name}", "-n", self.namespace)


def ready(process: OperatorProcess) -> None:
    wait_for("the operator is ready", lambda: process.http("/readyz")[0] == 200, 30)


@pytest.fixture(scope="module")
def pods(control_plane: ClusterAccess) -> Iterator[FakePods]:
    found = FakePods(control_plane.kubeconfig)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def release(control_plane: ClusterAccess, pods: FakePods, tmp_path: Path) -> Iterator[Make]:
    """Makes releases; at the end nothing of them is left, the definition and all Chatbots included."""
    made: list[Release] = []
    with ExitStack() as stack:

        def make() -> Release:
            namespace = stack.enter_context(make_namespace(control_plane, "system"))
            enforce = "pod-security.kubernetes.io/enforce=restricted"
            control_plane.kubectl("label", "namespace", namespace, enforce)
            made.append(Release(control_plane, namespace, tmp_path, pods))
            return made[-1]

        yield make
        for found in made:
            found.uninstall()
        control_plane.kubectl("delete", "crd", CRD, "--ignore-not-found")


@pytest.fixture
def namespaces(control_plane: ClusterAccess) -> Iterator[tuple[str, str]]:
    with make_namespace(control_plane, "shop") as shop, make_namespace(control_plane, "bank") as bank:
        yield shop, bank


def pods_of(access: ClusterAccess, namespace: str) -> dict[str, str]:
    """Pods by name with their uids."""
    return {p["metadata"]["name"]: p["metadata"]["uid"] for p in access.get("pods", "-n", namespace)["items"]}


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """An image registry of this file's own."""
    with serving() as found:
        yield found


@pytest.fixture
def chart(tmp_path: Path, registry: Registry) -> Path:
    """A copy of the chart that takes the engines' images from the registry too."""
    copy = tmp_path / "source" / CHART.name
    shutil.copytree(CHART, copy)
    text = (copy / "values.yaml").read_text()
    for path, name in zip(THEIRS, ("ollama", "llama.cpp"), strict=True):
        registry.put(f"{name}:1", tmp_path)
        text = replaced(text, path, {"repository": f"{registry.address}/{name}", "tag": "1"})
    (copy / "values.yaml").write_text(text)
    return copy
