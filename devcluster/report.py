"""What `status` shows: a cluster's parts, their memory, its nodes. It must not change anything."""

from dataclasses import asdict, dataclass
from typing import Any

from devcluster.addons.fake_nodes import is_fake
from devcluster.cluster import Cluster
from devcluster.engines import Running
from devcluster.processes import descendants, resident_bytes


@dataclass(frozen=True)
class Component:
    """One part: its process (None while it is down) and the memory of all its processes, in bytes."""

    name: str
    pid: int | None
    memory: int


@dataclass(frozen=True)
class NodeState:
    """One Node object."""

    name: str
    ready: bool
    fake: bool


@dataclass(frozen=True)
class Status:
    """A whole cluster; `components` is empty for one that is not embedded."""

    name: str
    engine: str
    level: str
    address_range: str
    kubeconfig: str
    healthy: bool
    components: list[Component]
    nodes: list[NodeState]
    images: dict[str, str]

    @property
    def memory(self) -> int:
        return sum(component.memory for component in self.components)

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"memory": self.memory}


def _components(cluster: Cluster) -> list[Component]:
    found = []
    for name in cluster.components():
        pid = cluster.pid(name)
        # A node's own line covers what its daemons' lines do not: process 1 and the pods.
        below = descendants(pid) if pid else []
        if name in cluster.nodes.names():
            daemons = {cluster.pid(other) for other in cluster.components() if other.startswith(f"{name}/")}
            below = [process for process in below if process not in daemons]
        found.append(Component(name, pid, sum(resident_bytes(process) for process in below)))
    return found


def of(cluster: Cluster) -> Status:
    """The state of an embedded cluster, running or not."""
    running = Running.read(cluster.state_dir)
    api = cluster.api()
    ready = api.ready_nodes()
    nodes = [
        NodeState(n["metadata"]["name"], n["metadata"]["name"] in ready, is_fake(n)) for n in api.items("/api/v1/nodes")
    ]
    return Status(
        name=cluster.saved.name,
        engine="embedded",
        level=cluster.saved.level,
        address_range=cluster.layout.cluster_range,
        kubeconfig=str(cluster.kubeconfig),
        healthy=cluster.healthy(),
        components=_components(cluster),
        nodes=nodes,
        images=dict(running.images) if running else {},
    )


def text(status: Status) -> str:
    """Aligned lines for people."""
    lines = [f"cluster {status.name} ({status.engine}, level {status.level}, {status.address_range})"]
    for part in status.components:
        state = f"pid {part.pid}" if part.pid else "down"
        lines.append(f"  {part.name:<20} {state:<12} {part.memory / 1e6:7.0f} MB")
    for node in status.nodes:
        kind = "fake" if node.fake else "real"
        lines.append(f"  {node.name:<20} {kind} node, {'Ready' if node.ready else 'not Ready'}")
    lines += [f"  {name:<20} {reference}" for name, reference in status.images.items()]
    verdict = "healthy" if status.healthy else "not healthy: `python -m devcluster up` repairs it"
    return "\n".join([*lines, f"  {status.memory / 1e6:.0f} MB in all; {verdict}"])
