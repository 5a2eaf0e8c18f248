"""The distribution's packages that real nodes need, and how to get them. It must not install others."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.node_files import cni_folder
from devcluster.progress import Progress

# Debian's package for each program that must be on the PATH.
PROGRAMS: Mapping[str, str] = {
    "containerd": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "mount": "mount",
    "unshare": "util-linux",
    "hostname": "hostname",
    "gcc": "gcc",
    "nginx": "nginx",
}
CNI_PACKAGE = "containernetworking-plugins"
INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends")


def missing() -> list[str]:
    """Debian names of the packages that are not there, in no need of root to find out."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = {package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None}
    if cni_folder() is None:
        lacking.add(CNI_PACKAGE)
    return sorted(lacking)


def remedy(packages: list[str]) -> str:
    """The one command that gets them."""
    if shutil.which("apt-get"):
        return f"sudo {' '.join(INSTALL)} {' '.join(packages)}"
    return f"install what Debian calls {' '.join(packages)}"


def ensure(progress: Progress) -> None:
    """Install what is missing on Debian or Ubuntu as root, saying so first. Raises DevClusterError elsewhere."""
    lacking = missing()
    if not lacking:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise DevClusterError(f"real nodes need {', '.join(lacking)}", remedy(lacking))
    progress.note(f"installing from the distribution: {' '.join(lacking)}")
    # A freshly installed containerd must not be started for the whole machine by the package's scripts.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    with progress.step("packages of the distribution", usual=20):
        commands = (("apt-get", "update"), (*INSTALL, *lacking))
        for command in commands:
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if result.returncode and command is commands[-1]:
                raise DevClusterError(f"`{' '.join(command)}` failed: {result.stderr.strip()[-400:]}", remedy(lacking))
    if still := missing():
        raise DevClusterError(f"still missing after the installation: {', '.join(still)}", remedy(still))


def is_debian_like(os_release: str) -> bool:
    """Whether the text of /etc/os-release says Debian, Ubuntu or one of their descendants."""
    values = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    family = f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".replace('"', "").split()
    return bool({"debian", "ubuntu"} & set(family))


def os_release() -> str:
    path = Path("/etc/os-release")
    return path.read_text() if path.exists() else ""
