"""Real nodes seen from the host: started, connected, given images, cleaned up. It must not know what pods do.

A node is a bundle of namespaces held by one process (`node_init`); when that is killed, all of the node is gone.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from devcluster import cgroups, network, node_files, packages
from devcluster.build import NEEDED, Programs
from devcluster.errors import DevClusterError
from devcluster.images import pause
from devcluster.images.archive import BuiltImage
from devcluster.layout import Layout
from devcluster.processes import (
    CAP_NET_ADMIN,
    CAP_SYS_ADMIN,
    Processes,
    children,
    command_name,
    has_capabilities,
    wait_until,
)
from devcluster.progress import Progress

DAEMONS = ("containerd", "kubelet", "kube-proxy")
# At most two imports at once: each unpacks with one core.
IMPORTS_AT_ONCE = 2
PACKAGE_ROOT = Path(__file__).resolve().parent.parent


class Nodes:
    """The real nodes of one cluster; their indices count from 1."""

    def __init__(self, layout: Layout, processes: Processes, programs: Programs) -> None:
        self._layout, self._processes, self._programs = layout, processes, programs

    @staticmethod
    def require_abilities(progress: Progress) -> None:
        """Install what the distribution can give; raise DevClusterError naming all that still is missing."""
        if not has_capabilities(CAP_NET_ADMIN, CAP_SYS_ADMIN):
            raise DevClusterError(
                "real nodes need root (namespaces, mounts, network)",
                "run it with sudo, or ask for --level control-plane, which does not need it",
            )
        if lacking := cgroups.missing_controllers(cgroups.MOUNTS.read_text()):
            raise DevClusterError(
                f"this machine has no control groups for {', '.join(sorted(lacking))}",
                "mount them below /sys/fs/cgroup, or ask for --level control-plane",
            )
        packages.ensure(progress)

    def names(self) -> list[str]:
        return [f"node{index}" for index in self._layout.node_indices]

    def components(self) -> list[str]:
        return [name for node in self.names() for name in (node, *(f"{node}/{daemon}" for daemon in DAEMONS))]

    def init(self, index: int) -> int | None:
        """The host's pid of a node's process 1."""
        record = self._processes.record(f"node{index}")
        return next(iter(children(record.pid)), None) if record and record.alive else None

    def pid(self, component: str) -> int | None:
        """The host's pid of a node's process 1 (`node1`) or of one of its daemons (`node1/kubelet`)."""
        node, _, daemon = component.partition("/")
        init = self.init(int(node.removeprefix("node")))
        if not daemon or init is None:
            return init
        return next((pid for pid in children(init) if command_name(pid) == daemon), None)

    def coredns_command(self) -> list[str]:
        path = self._layout.state_dir / "Corefile"
        path.write_text(node_files.corefile(self._layout))
        return [str(self._programs.ensure(["coredns"])["coredns"]), "-conf", str(path)]

    def start_all(self) -> None:
        for index in self._layout.node_indices:
            self.start(index)

    def start(self, index: int) -> None:
        """Start one node and lay its cable; its kubelet registers it once the API server answers."""
        layout, name = self._layout, f"node{index}"
        programs = self._programs.ensure(NEEDED["node"])
        node_files.write(layout, index, _snapshotter(layout.state_dir))
        cgroups.make(f"{layout.control_group}/{name}")
        namespaces = ("--mount", "--pid", "--net", "--uts", "--fork", "--kill-child", "--mount-proc")
        self._processes.start(
            name,
            [
                *("unshare", *namespaces, "--propagation", "private"),
                *(sys.executable, "-m", "devcluster.node_init"),
                *("--state-dir", str(layout.state_dir), "--index", str(index)),
                *("--kubelet", str(programs["kubelet"]), "--kube-proxy", str(programs["kube-proxy"])),
            ],
            environment={"PYTHONPATH": str(PACKAGE_ROOT)},
            supervised=False,
        )
        wait_until(f"{name} has its own network", lambda: self._has_own_network(index), 10.0, 0.01)
        init = self.init(index)
        if init is None:
            raise DevClusterError(f"{name} ended at once:\n{self._processes.log_tail(name)}")
        network.connect_node(layout, index, init)

    def _has_own_network(self, index: int) -> bool:
        init = self.init(index)
        try:
            return init is not None and Path(f"/proc/{init}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        except OSError:
            return False

    def clean_up(self) -> None:
        """Take away what the kernel does not take by itself: control groups, runtime folders."""
        if not self._layout.nodes:
            return
        cgroups.remove(self._layout.control_group)
        for index in self._layout.node_indices:
            shutil.rmtree(self._layout.node_dir(index) / "run", ignore_errors=True)

    # ------------------------------------------------------------ images

    def load_images_meanwhile(self, images: Iterable[BuiltImage | Path]) -> list["Future[None]"]:
        """Import images, and the one that every pod needs, in the background."""
        if not self._layout.nodes:
            return []
        pool = ThreadPoolExecutor(IMPORTS_AT_ONCE)
        lacking = self._lacking([pause.build(), *images])
        futures = [pool.submit(self._import, index, archive) for archive, index in lacking]
        pool.shutdown(wait=False)
        return futures

    def load_images(self, images: Iterable[BuiltImage | Path], progress: Progress) -> None:
        """Import images into every node; those that are there already cost nothing."""
        for archive, index in self._lacking(images):
            with progress.step(f"image {archive.stem} into node{index}", usual=3):
                self._import(index, archive)

    def _lacking(self, images: Iterable[BuiltImage | Path]) -> list[tuple[Path, int]]:
        """Archives and the nodes that have not imported them yet; a node keeps its images between starts."""
        archives = [image if isinstance(image, Path) else image.archive for image in images]
        pairs = [(archive, index) for archive in archives for index in self._layout.node_indices]
        return [(archive, index) for archive, index in pairs if not self._mark(index, archive).exists()]

    def _mark(self, index: int, archive: Path) -> Path:
        stat = archive.stat()
        return self._layout.node_dir(index) / "imported" / f"{archive.name}-{stat.st_size}-{stat.st_mtime_ns}"

    def _import(self, index: int, archive: Path) -> None:
        socket = f"/proc/{self.init(index)}/root/run/containerd/containerd.sock"
        ctr = ("ctr", "--address", socket, "--namespace", "k8s.io")
        wait_until(f"containerd of node{index} answers", lambda: _succeeds(*ctr, "version"), 30.0, 0.1)
        result = subprocess.run((*ctr, "images", "import", str(archive)), capture_output=True, text=True, check=False)
        if result.returncode:
            raise DevClusterError(f"node{index} cannot import {archive}: {result.stderr.strip()}")
        mark = self._mark(index, archive)
        mark.parent.mkdir(exist_ok=True)
        mark.touch()


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _snapshotter(folder: Path) -> str:
    """overlayfs cannot lie on another overlay or on some network file systems; copies then take its place."""
    kind = subprocess.run(
        ("stat", "--file-system", "--format=%T", str(folder)), capture_output=True, text=True, check=False
    )
    return "native" if kind.stdout.strip() in ("overlayfs", "nfs") else "overlayfs"
