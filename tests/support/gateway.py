"""The Gateway API's own definition of HTTPRoute, and a controller that says what a test wants it to say."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from devcluster.build import toolchain
from tests.support.cluster import ClusterAccess
from tests.support.operator import wait_for

MODULE, VERSION = "sigs.k8s.io/gateway-api", "v1.4.0"
SUM = "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ="
"""Of the module's contents, as in a go.sum."""

NAME = "httproutes.gateway.networking.k8s.io"
FILE = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"


@cache
def definition() -> Path:
    """The file of the definition, from the module's cache."""
    toolchain()
    command = ("go", "mod", "download", "-json", f"{MODULE}@{VERSION}")
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout)
    assert found.get("Sum") == SUM, f"{MODULE} {VERSION} is not what it was: {found.get('Error', found.get('Sum'))}"
    return Path(found["Dir"]) / FILE


def install(access: ClusterAccess) -> None:
    """Make HTTPRoute a kind of the cluster."""
    access.kubectl("apply", "--server-side", "-f", str(definition()))
    # `kubectl wait` fails where a definition has no conditions yet.
    wait_for("the API server knows the kind", lambda: _established(access), 20)


def _established(access: ClusterAccess) -> bool:
    conditions = access.get(f"crd/{NAME}").get("status", {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def say(access: ClusterAccess, namespace: str, name: str, *, accepted: bool, message: str = "It is.") -> None:
    """What a Gateway's controller writes into the status of a route."""
    live = access.get(f"httproute/{name}", "-n", namespace)
    condition: dict[str, Any] = {
        "type": "Accepted",
        "status": "True" if accepted else "False",
        "reason": "Accepted" if accepted else "NotAllowedByListeners",
        "message": message,
        "observedGeneration": live["metadata"]["generation"],
        "lastTransitionTime": "2026-11-27T00:00:00Z",
    }
    parent = {"parentRef": live["spec"]["parentRefs"][0], "controllerName": "example.com/gateway"}
    status = {"status": {"parents": [{**parent, "conditions": [condition]}]}}
    access.kubectl(
        *("patch", f"httproute/{name}", "-n", namespace, "--subresource=status", "--type=merge", "-p"),
        json.dumps(status),
    )
