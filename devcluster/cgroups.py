"""Makes and removes the control groups that a cluster's containers live in. It must not know what a container is."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
# The kubelet refuses to start without these on cgroup v1.
REQUIRED_V1 = frozenset({"cpu", "cpuacct", "cpuset", "memory", "pids"})


def hierarchies(mounts: str, kind: str) -> list[Path]:
    """Mount points below /sys/fs/cgroup of a kind ("cgroup" for version 1, "cgroup2" for 2) in /proc/self/mounts."""
    rows = (line.split() for line in mounts.splitlines())
    return [Path(row[1]) for row in rows if row[2] == kind and row[1].startswith("/sys/fs/cgroup")]


def missing_controllers(mounts: str) -> set[str]:
    """Controllers that the kubelet needs and that no version 1 hierarchy has; none on a machine with version 2 only."""
    rows = [line.split() for line in mounts.splitlines()]
    version_1 = {option for row in rows if row[2] == "cgroup" for option in row[3].split(",")}
    if not version_1:
        return set() if hierarchies(mounts, "cgroup2") else set(REQUIRED_V1)
    return set(REQUIRED_V1 - version_1)


def make(name: str) -> None:
    """Make a group (a path relative to the root) wherever the kubelet looks for it."""
    mounts = MOUNTS.read_text()
    version_1 = hierarchies(mounts, "cgroup")
    for root in version_1:
        _make_v1(root, name)
    if not version_1:
        for root in hierarchies(mounts, "cgroup2"):
            _make_v2(root, name)


def _make_v1(root: Path, name: str) -> None:
    parent = root
    for part in name.split("/"):
        group = parent / part
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            # Empty in a new group, and then no process may join it.
            if (group / file).exists() and not (group / file).read_text().strip():
                (group / file).write_text((parent / file).read_text())
        parent = group


def _make_v2(root: Path, name: str) -> None:
    parent = root
    for part in name.split("/"):
        for controller in (parent / "cgroup.controllers").read_text().split():
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")
        parent = parent / part
        parent.mkdir(exist_ok=True)


def remove(name: str, timeout: float = 5.0) -> None:
    """Kill what is left in a group and remove it and all below, in every hierarchy.

    runc makes groups in a version 2 hierarchy too, even if it has no controllers.
    """
    mounts = MOUNTS.read_text()
    deadline = time.monotonic() + timeout
    for root in (*hierarchies(mounts, "cgroup"), *hierarchies(mounts, "cgroup2")):
        for folder, _, _ in os.walk(root / name, topdown=False):
            while Path(folder).exists() and time.monotonic() < deadline:
                with suppress(OSError):
                    for pid in Path(folder, "cgroup.procs").read_text().split():
                        os.kill(int(pid), signal.SIGKILL)
                try:
                    Path(folder).rmdir()
                except OSError:
                    time.sleep(0.02)  # a killed process leaves its group when the kernel has cleared it away
