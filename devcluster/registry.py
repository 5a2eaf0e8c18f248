"""An image registry inside one cluster, for tests in which nodes really pull. It must not be reachable from outside.

Nodes find it under the name `registry.test` (see `node_files`); it forgets everything when it ends.
"""

import socket
import subprocess

from devcluster.cluster import Cluster
from devcluster.errors import DevClusterError
from devcluster.images.archive import BuiltImage
from devcluster.layout import REGISTRY_PORT
from devcluster.node_files import REGISTRY_NAME
from devcluster.processes import wait_until

COMPONENT = "registry"


class Registry:
    """A registry on a cluster's bridge address; `stop` it to see what nodes do without."""

    def __init__(self, cluster: Cluster) -> None:
        if not cluster.layout.nodes:
            raise DevClusterError("only a cluster with real nodes pulls images", "start it at level node")
        self._cluster = cluster
        self._crane = str(cluster.programs.ensure(["crane"])["crane"])
        self._address = (cluster.layout.bridge_address, REGISTRY_PORT)

    def start(self) -> None:
        command = [self._crane, "registry", "serve", "--address", f"{self._address[0]}:{self._address[1]}"]
        self._cluster.processes.start(COMPONENT, command)
        wait_until("the registry answers", self._answers, 10.0)

    def _answers(self) -> bool:
        try:
            socket.create_connection(self._address, timeout=1).close()
        except OSError:
            return False
        return True

    def push(self, image: BuiltImage) -> str:
        """Put an image into the registry; the reference under which nodes pull it. Raises DevClusterError."""
        name = image.reference.partition("/")[2]
        target = f"{self._address[0]}:{self._address[1]}/{name}"
        command = (self._crane, "push", "--insecure", str(image.archive), target)
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise DevClusterError(f"{name} cannot be pushed: {result.stderr.strip()[-400:]}")
        return f"{REGISTRY_NAME}/{name}"

    def stop(self) -> None:
        self._cluster.processes.stop(COMPONENT, grace=0)
