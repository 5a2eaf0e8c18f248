"""A hosted provider in the cluster: the stand-in of the router in a pod of its own, told from outside how to answer."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster import demo
from devcluster.progress import Plain
from tests.support.cluster import ClusterAccess, make_namespace
from tests.support.operator import wait_for
from tests.support.router import ANSWER, PIECES

SCRIPT = Path(__file__).with_name("router.py")
PORT = 9000
ZONE = "svc"
"""Names of Services end like this; the operator under test is told to allow them all."""
MODEL = "org/tiny"
SHORT, REPEAT, DELAY = ANSWER, 40, 0.1
STREAM = "".join(PIECES) * REPEAT
"""What a whole answer and a stream say; the stream takes about 8 s."""


@dataclass(frozen=True)
class Provider:
    """A stand-in that runs. `token` is the one that it knows."""

    access: ClusterAccess
    namespace: str
    token: str

    @property
    def url(self) -> str:
        """As pods reach it: a value of `hf.baseURL`."""
        return f"http://router.{self.namespace}.{ZONE}:{PORT}/v1"

    def hf(self, **more: Any) -> dict[str, Any]:
        """`spec.hf` of a Chatbot that asks it."""
        return {"models": [MODEL], "baseURL": self.url, "requestsPerMinute": 100_000, **more}

    def behave(self, name: str = "ok", **how: Any) -> None:
        """How it answers from now on; streams take their time unless told otherwise."""
        self._call("POST", "/ctl", {"behaviour": name, "delay": DELAY, "repeat": REPEAT, **how})

    def asked(self) -> list[dict[str, Any]]:
        """The requests that it got since it was last told to forget them."""
        found: list[dict[str, Any]] = json.loads(self._call("GET", "/ctl/requests"))
        return found

    def stop(self) -> None:
        """It dies: nobody listens any more."""
        self._kubectl("delete", "pod/router", "--force", "--grace-period=0")

    def start(self) -> None:
        """It comes, or comes back, under the same name and address."""
        container = {
            "name": "router",
            "image": self.access.images["chatbot-runtime"],
            "command": ["python", "/router/router.py", "--host", "0.0.0.0", "--port", str(PORT), "--token", self.token],
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
            "volumeMounts": [{"name": "router", "mountPath": "/router"}],
            "resources": {"requests": {"cpu": "100m"}},
        }
        spec = {
            "containers": [container],
            "volumes": [{"name": "router", "configMap": {"name": "router"}}],
            "terminationGracePeriodSeconds": 1,
        }
        metadata = {"name": "router", "labels": {"app": "router"}}
        self.access.apply(
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, namespace=self.namespace
        )
        self._kubectl("wait", "--for=condition=Ready", "pod/router", "--timeout=90s")
        wait_for("the provider can be told", self._told, 30, 0.2)

    def _told(self) -> bool:
        try:
            self.behave()
        except OSError:
            return False
        return True

    def _call(self, method: str, path: str, body: Any = None) -> str:
        address = self.access.get("service", "router", "-n", self.namespace)["spec"]["clusterIP"]
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://{address}:{PORT}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    def _kubectl(self, *args: str) -> None:
        self.access.kubectl("-n", self.namespace, *args, timeout=120)


@contextmanager
def provider(access: ClusterAccess, token: str) -> Iterator[Provider]:
    """A provider that is up, in a namespace of its own, and that the chart's operator allows."""
    demo.install({**access.environment}, access.images, Plain(), (f"allowedHosts={{*.{ZONE}}}",))
    with make_namespace(access, "provider") as namespace:
        found = Provider(access, namespace, token)
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "router"}}
        ports = [{"port": PORT, "targetPort": PORT}]
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "router"}}
        access.apply(
            {**config, "data": {"router.py": SCRIPT.read_text()}},
            {**service, "spec": {"selector": {"app": "router"}, "ports": ports}},
            namespace=namespace,
        )
        found.start()
        yield found
