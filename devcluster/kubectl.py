"""Runs kubectl against one cluster as its administrator. It must not know what the objects are."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from devcluster.build import Programs
from devcluster.errors import DevClusterError
from devcluster.layout import Layout
from devcluster.objects import Object
from devcluster.processes import SYSTEM_PATH


def environment(layout: Layout, programs: Programs) -> dict[str, str]:
    """What a shell needs to work with the cluster; the PATH has kubectl (and Helm, if that is built)."""
    folders = [str(programs.path(name).parent) for name in ("kubectl", "helm")]
    return {
        "KUBECONFIG": str(layout.kubeconfig),
        # kubectl keeps what it discovered by address, and addresses are used again by other clusters.
        "KUBECACHEDIR": str(layout.run / "kubectl-cache"),
        "PATH": ":".join([*folders, os.environ.get("PATH", SYSTEM_PATH)]),
    }


def find(programs: Programs, name: str = "kubectl") -> Path:
    """The program on the PATH, else the one that belongs to the embedded cluster, built if need be."""
    found = shutil.which(name)
    return Path(found) if found else programs.ensure([name])[name]


def require_answer(kubeconfig: str, programs: Programs, timeout: float = 15.0) -> None:
    """Raise DevClusterError unless the API server that a kubeconfig names is ready."""
    command = (
        str(find(programs)),
        "--kubeconfig",
        kubeconfig,
        f"--request-timeout={timeout:.0f}s",
        "get",
        "--raw",
        "/readyz",
    )
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise DevClusterError(
            f"the cluster of KUBECONFIG={kubeconfig} does not answer: {result.stderr.strip()[-300:]}",
            "correct KUBECONFIG, or unset it to get a cluster on this machine",
        )


def run(layout: Layout, programs: Programs, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
    """What kubectl prints. Raises DevClusterError with its message, or after `timeout` seconds."""
    command = " ".join(("kubectl", *arguments))
    try:
        result = subprocess.run(
            [str(programs.ensure(["kubectl"])["kubectl"]), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | environment(layout, programs),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DevClusterError(f"`{command}` took longer than {timeout:.0f} s") from error
    if result.returncode:
        raise DevClusterError(f"`{command}` failed: {result.stderr.strip()}")
    return result.stdout


def apply(layout: Layout, programs: Programs, manifests: Iterable[Object]) -> None:
    """Server-side apply, taking over fields that others own."""
    # Not documents between `---`: not every kubectl takes those around JSON.
    documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    flags = ("--server-side", "--force-conflicts", "--validate=false")
    run(layout, programs, "apply", *flags, "-f", "-", stdin=documents)
