"""The cluster by kind on a working Docker. It must stay as thin as what CI does by hand."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.images.description import CHECKOUT, ImageDescription
from devcluster.images.layers import source_files
from devcluster.images.page import page_files
from devcluster.progress import Progress


def _run(*command: str, timeout: float = 1800) -> str:
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=timeout, check=False)
    if result.returncode:
        raise DevClusterError(f"`{' '.join(command)}` failed: {result.stderr.strip()[-600:]}")
    return result.stdout


def exists(name: str) -> bool:
    return name in _run("kind", "get", "clusters").split()


def configuration(nodes: int) -> str:
    """kind's settings: one control plane that takes pods, and workers if more nodes are wanted."""
    roles = "".join(f"- role: {role}\n" for role in ("control-plane", *["worker"] * (nodes - 1)))
    return f"kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n{roles}"


def up(name: str, nodes: int, state_dir: Path, progress: Progress) -> Path:
    """Create the cluster unless it is there; the path of its kubeconfig."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    kubeconfig = state_dir / "kubeconfig"
    if not exists(name):
        settings = state_dir / "kind.yaml"
        settings.write_text(configuration(nodes))
        with progress.step(f"kind cluster {name}", usual=60):
            command = ("kind", "create", "cluster", "--name", name, "--config", str(settings), "--wait", "180s")
            _run(*command, "--kubeconfig", str(kubeconfig))
    _run("kind", "export", "kubeconfig", "--name", name, "--kubeconfig", str(kubeconfig))
    return kubeconfig


METRICS_CHART = ("metrics-server", "--repo", "https://kubernetes-sigs.github.io/metrics-server", "--version", "3.13.0")


def metrics(kubeconfig: Path, helm: str, progress: Progress) -> None:
    """Put the metrics API into the cluster, which kind does not bring along: without it no autoscaler works.

    Where it cannot be had, as without a network, the cluster is used without.
    """
    # kind's kubelets sign their certificates themselves.
    settings = ("--namespace", "kube-system", "--set", "args={--kubelet-insecure-tls}")
    command = (helm, "upgrade", "--install", "metrics-server", *METRICS_CHART, *settings)
    with progress.step("metrics API", usual=20):
        try:
            _run(*command, "--kubeconfig", str(kubeconfig))
        except DevClusterError as error:
            progress.note(f"no metrics API, so autoscalers will not act: {error.problem[-300:]}")


def image_tag(image: ImageDescription) -> str:
    """12 hex digits of everything that Docker is given to build from."""
    digest = hashlib.sha256()
    sources = [path for source in image.sources for path in source_files(source)]
    page = page_files(image.page) if image.page else ()
    for path in filter(None, (image.dockerfile, image.requirements, *sources, *page)):
        digest.update(f"{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def load_image(name: str, image: ImageDescription, progress: Progress) -> str:
    """Build an image by its Dockerfile, put it into the cluster's nodes, return its reference."""
    reference = image.reference(image_tag(image))
    with progress.step(f"image {image.name}", usual=60):
        base = os.environ.get("CHATBOT_BASE_IMAGE") if image.base == "python" else None
        arguments = ("--build-arg", f"BASE={base}") if base else ()
        _run("docker", "build", "--file", str(image.dockerfile), "--tag", reference, *arguments, str(CHECKOUT))
        _run("kind", "load", "docker-image", reference, "--name", name)
    return reference


def down(name: str, state_dir: Path) -> None:
    """Delete the cluster and what was written about it."""
    if shutil.which("kind") and exists(name):
        _run("kind", "delete", "cluster", "--name", name)
    shutil.rmtree(state_dir, ignore_errors=True)
