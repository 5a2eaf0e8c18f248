"""File systems of a given size that can grow while they are in use, one per volume. It must not know claims.

Each is memory that is mounted in its node's namespace only, so the kernel takes it away with the node. A file system on
disk would do without the node, but to grow a mounted ext4 takes CAP_SYS_RESOURCE, which root in a container may lack.
A record beside the mount point, named after volume and node, holds the size: by it a node that starts again has all of
its volumes, empty, before the first pod comes.
"""

import shutil
import subprocess
from pathlib import Path

from devcluster.layout import Layout
from devcluster.processes import Processes


def mount_command(path: Path, size: int, *, again: bool) -> list[str]:
    """The command that mounts a file system of `size` bytes, or changes the size of the one that is mounted."""
    # Any user of any pod may write, as into any other volume of the cluster.
    options = f"remount,size={size}" if again else f"size={size},mode=0777"
    return ["mount", "-t", "tmpfs", "-o", options, "devcluster-volume", str(path)]


def mount_all(layout: Layout, node: str) -> None:
    """Mount all volumes of a node; runs in the node's own namespace, before its kubelet."""
    for record in layout.volumes.glob(f"*.{node}"):
        path = record.with_suffix("")
        path.mkdir(exist_ok=True)
        _run(mount_command(path, int(record.read_text()), again=path.is_mount()))


class SizedVolumes:
    """The sized volumes of one cluster, seen from the host. Names of volumes must not hold a dot."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.volumes
        self._processes = Processes(layout.state_dir, layout.run, layout.logs)

    def make(self, name: str, node: str, size: int) -> None:
        """Make a volume of `size` bytes on a node; one that is there gets this size.

        On a node that is down it comes with the node's next start, on a fake one never.
        """
        path = self._folder / name
        path.mkdir(parents=True, exist_ok=True)
        self._record(name, node).write_text(str(size))
        if (init := self._processes.program(node)) is not None:
            _run([*_inside(init), *mount_command(path, size, again=_is_mounted(init, path))])

    def resize(self, name: str, size: int) -> None:
        """Change the size of a volume, wherever it is."""
        for record in self._records(name):
            self.make(name, record.suffix.removeprefix("."), size)

    def remove(self, name: str) -> None:
        """Take a volume away with all that is in it; nothing happens if it is not there."""
        path = self._folder / name
        for record in self._records(name):
            init = self._processes.program(record.suffix.removeprefix("."))
            if init is not None and _is_mounted(init, path):
                # The kubelet may be looking at it just now.
                _run([*_inside(init), "umount", "--lazy", str(path)])
            record.unlink()
        shutil.rmtree(path, ignore_errors=True)

    def _record(self, name: str, node: str) -> Path:
        return self._folder / f"{name}.{node}"

    def _records(self, name: str) -> list[Path]:
        return list(self._folder.glob(f"{name}.*"))


def _inside(init: int) -> tuple[str, ...]:
    # umount(8) reads /proc/self, and the node's /proc knows only the node's processes.
    return ("nsenter", f"--target={init}", "--mount", "--pid", "--")


def _is_mounted(init: int, path: Path) -> bool:
    """Whether a path is a mount point in the mount namespace of a node's process 1."""
    return Path(f"/proc/{init}/root", path.relative_to("/")).is_mount()


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise OSError(f"`{' '.join(command)}` failed: {result.stderr.strip()}")
