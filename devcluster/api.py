"""A minimal blocking client of the API server, for waiting until things are ready. It must not change anything."""

import http.client
import json
import ssl
from typing import Any

from devcluster.layout import API_PORT, Layout


class Api:
    """Asks one cluster's API server with the add-ons' certificate; every request has a short time-out."""

    def __init__(self, layout: Layout, timeout: float = 3.0) -> None:
        self._layout, self._timeout = layout, timeout
        self._tls = ssl.create_default_context(cafile=str(layout.pki / "server-ca.crt"))
        self._tls.load_cert_chain(layout.pki / "addons-client.crt", layout.pki / "addons-client.key")

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET; status 0 if the server cannot be reached."""
        connection = http.client.HTTPSConnection(
            self._layout.host_address, API_PORT, timeout=self._timeout, context=self._tls
        )
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def exists(self, path: str) -> bool:
        return self.get(path)[0] == http.HTTPStatus.OK

    def items(self, path: str) -> list[dict[str, Any]]:
        """The items of a list, none if it cannot be had."""
        status, body = self.get(path)
        return list(json.loads(body)["items"]) if status == http.HTTPStatus.OK else []

    def ready_nodes(self) -> set[str]:
        """Names of the nodes whose Ready condition is True and which pods may be put on."""
        return {
            node["metadata"]["name"]
            for node in self.items("/api/v1/nodes")
            if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))
            and not any(t["key"] == "node.kubernetes.io/not-ready" for t in node["spec"].get("taints", []))
        }
