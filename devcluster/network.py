"""The cluster's network on the host: fence, bridge, cables to the nodes, routes. It must not know what runs on it.

No address translation and no forwarding happen on the host, so nothing of a cluster can leave the machine.
"""

import shutil
import subprocess

from devcluster.errors import DevClusterError
from devcluster.layout import Layout
from devcluster.processes import CAP_NET_ADMIN, has_capabilities

# Any route that is really there wins over the fence.
FENCE_METRIC = "4000000000"


def ip(*arguments: str, check: bool = True) -> bool:
    """Run ip(8); True if it succeeded. Raises DevClusterError if it fails and `check` is set."""
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if check and result.returncode:
        raise DevClusterError(f"`ip {' '.join(arguments)}` failed: {result.stderr.strip()}")
    return result.returncode == 0


def may_change_network() -> bool:
    return has_capabilities(CAP_NET_ADMIN) and shutil.which("ip") is not None


def raise_fence(layout: Layout) -> None:
    """Refuse at home whatever is sent to an address of the cluster that nobody has.

    Fake pods' addresses are the host's own (a "local" route), so a test can serve on them; elsewhere in the range a
    request fails at once instead of following the default route.
    """
    ip("route", "replace", "unreachable", layout.cluster_range, "metric", FENCE_METRIC)
    ip("route", "replace", "local", layout.fake_pod_range, "dev", "lo")


def lower_fence(layout: Layout) -> None:
    ip("route", "del", "local", layout.fake_pod_range, "dev", "lo", check=False)
    ip("route", "del", "unreachable", layout.cluster_range, "metric", FENCE_METRIC, check=False)


def make_bridge(layout: Layout) -> None:
    """The bridge that joins the nodes; the API server and all else outside the nodes listens on its address."""
    ip("link", "del", layout.bridge, check=False)
    ip("link", "add", layout.bridge, "type", "bridge")
    ip("address", "add", f"{layout.bridge_address}/24", "dev", layout.bridge)
    ip("link", "set", layout.bridge, "up")


def connect_node(layout: Layout, index: int, init: int) -> None:
    """Lay a cable from the bridge into the network namespace of a node's process 1, and route its pods through it.

    Packets to Services and load balancers go to node 1, whose kube-proxy translates them on arrival.
    """
    link, address = layout.node_link(index), layout.node_address(index)
    ip("link", "del", link, check=False)
    ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(init))
    ip("link", "set", link, "master", layout.bridge, "up")
    ip("route", "replace", layout.node_pod_range(index), "via", address)
    if index == 1:
        ip("route", "replace", layout.service_range, "via", address)
        ip("route", "replace", layout.load_balancer_range, "via", address)


def disconnect_node(layout: Layout, index: int) -> None:
    ip("link", "del", layout.node_link(index), check=False)


def remove(layout: Layout) -> None:
    """Take away bridge, cables and routes, the fence last."""
    for index in range(1, max(layout.nodes, 1) + 1):
        disconnect_node(layout, index)
    ip("link", "del", layout.bridge, check=False)
    lower_fence(layout)
