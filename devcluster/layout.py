"""Addresses, names and paths of one cluster, computed from its number. It must not touch the system.

Cluster number N owns 10.(200+N).0.0/16, 127.(200+N).0.1, the bridge `kcN`, the control group `/kcN` and its state
folder; nothing of one cluster overlaps with another's, so any of the numbers 0 to 55 can run side by side.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devcluster.errors import DevClusterError

Level = Literal["control-plane", "node"]
LEVELS: tuple[Level, ...] = ("control-plane", "node")

NUMBERS = range(56)
MAX_NODES = 30
API_PORT = 6443
CONTROLLER_MANAGER_PORT = 10257
SCHEDULER_PORT = 10259
ADDONS_PORT = 4443
REGISTRY_PORT = 5000
KUBELET_PORT = 10250
# sockaddr_un.sun_path holds 108 bytes with the closing zero (unix(7)).
SOCKET_PATH_LIMIT = 107


@dataclass(frozen=True)
class Layout:
    """Every name, address and path of one cluster."""

    state_dir: Path
    number: int
    level: Level = "control-plane"
    nodes: int = 0

    def __post_init__(self) -> None:
        if self.number not in NUMBERS:
            raise DevClusterError(f"cluster number {self.number} is out of range", "numbers are 0 to 55")
        if not 0 <= self.nodes <= MAX_NODES:
            raise DevClusterError(f"{self.nodes} real nodes are out of range", f"ask for 1 to {MAX_NODES}")
        if len(str(self.etcd_socket).encode()) > SOCKET_PATH_LIMIT:
            raise DevClusterError(
                f"the state folder {self.state_dir} has too long a path for a unix socket "
                f"({len(str(self.etcd_socket))} of {SOCKET_PATH_LIMIT} characters)",
                "choose a shorter one with --state-dir",
            )

    def _address(self, third: int, fourth: int) -> str:
        return f"10.{200 + self.number}.{third}.{fourth}"

    @property
    def host_address(self) -> str:
        """The address that the API server and all other processes outside the nodes listen on."""
        return self.bridge_address if self.level == "node" else f"127.{200 + self.number}.0.1"

    @property
    def bridge_address(self) -> str:
        return self._address(0, 1)

    @property
    def api_url(self) -> str:
        return f"https://{self.host_address}:{API_PORT}"

    @property
    def listening_ports(self) -> tuple[int, ...]:
        return (API_PORT, CONTROLLER_MANAGER_PORT, SCHEDULER_PORT, ADDONS_PORT)

    @property
    def cluster_range(self) -> str:
        return f"{self._address(0, 0)}/16"

    @property
    def pod_range(self) -> str:
        return f"{self._address(64, 0)}/19"

    @property
    def fake_pod_range(self) -> str:
        return f"{self._address(96, 0)}/19"

    @property
    def service_range(self) -> str:
        return f"{self._address(128, 0)}/18"

    @property
    def load_balancer_range(self) -> str:
        return f"{self._address(192, 0)}/24"

    @property
    def first_service_address(self) -> str:
        return str(ipaddress.ip_network(self.service_range)[1])

    @property
    def dns_address(self) -> str:
        return self._address(128, 10)

    @property
    def fake_node_address(self) -> str:
        return self._address(200, 1)

    def node_address(self, index: int) -> str:
        return self._address(0, 10 + index)

    def node_pod_range(self, index: int) -> str:
        return f"{self._address(64 + index, 0)}/24"

    @property
    def node_indices(self) -> range:
        return range(1, self.nodes + 1)

    @property
    def bridge(self) -> str:
        return f"kc{self.number}"

    def node_link(self, index: int) -> str:
        """The host's end of a node's cable; interface names have at most 15 characters."""
        return f"{self.bridge}n{index}"

    @property
    def control_group(self) -> str:
        return f"kc{self.number}"

    @property
    def pki(self) -> Path:
        return self.state_dir / "pki"

    @property
    def logs(self) -> Path:
        return self.state_dir / "log"

    @property
    def run(self) -> Path:
        return self.state_dir / "run"

    @property
    def volumes(self) -> Path:
        return self.state_dir / "volumes"

    @property
    def etcd_socket(self) -> Path:
        return self.run / "etcd.sock"

    @property
    def kubeconfig(self) -> Path:
        return self.state_dir / "kubeconfig"

    def component_kubeconfig(self, name: str) -> Path:
        return self.state_dir / "kubeconfigs" / name

    @property
    def audit_log(self) -> Path:
        return self.logs / "audit.log"

    @property
    def audit_policy(self) -> Path:
        return self.state_dir / "audit-policy.json"

    def node_dir(self, index: int) -> Path:
        return self.state_dir / f"node{index}"
