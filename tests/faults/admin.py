"""The administrator's client of the API server, past the fault proxy. It must not know what a scenario is."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import Configuration

from chatbot_operator.kinds import CHATBOT, Kind
from chatbot_operator.rest import path

Object = dict[str, Any]

NAMESPACE = Kind("Namespace", "", "v1", "namespaces")
SLICE = Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices")
ROLE = Kind("Role", "rbac.authorization.k8s.io", "v1", "roles")
ROLE_BINDING = Kind("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings")
JSON, MERGE, STRATEGIC = (
    "application/json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
LINE_BYTES = 4 * 2**20
"""Longest line of a watch."""


class Refused(AssertionError):
    """The API server said no; `status` is its code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


@dataclass(frozen=True)
class Admin:
    """Every right; used by scenarios to do what people, controllers and accidents do."""

    server: str
    session: aiohttp.ClientSession
    """With the administrator's certificate."""
    plain: aiohttp.ClientSession
    """Without any: whoever uses it brings an Authorization header."""

    async def request(self, method: str, url: str, body: Any = None, content_type: str = JSON) -> Object:
        """One call. Raises Refused."""
        data = json.dumps(body) if body is not None else None
        headers = {"Content-Type": content_type, "Accept": JSON}
        async with self.session.request(method, self.server + url, data=data, headers=headers) as answer:
            parsed: Object = await answer.json(content_type=None)
            if answer.status >= 400:
                raise Refused(answer.status, str(parsed.get("message", "")))
            return parsed

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        return await self.request("GET", path(kind, namespace, name))

    async def list(self, kind: Kind, namespace: str | None = None, query: str = "") -> list[Object]:
        found = await self.request("GET", path(kind, namespace) + query)
        return [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in found["items"] or ()]

    async def create(self, kind: Kind, namespace: str | None, body: Mapping[str, Any]) -> Object:
        whole = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        return await self.request("POST", path(kind, namespace), whole)

    async def merge(
        self, kind: Kind, namespace: str | None, name: str, body: Mapping[str, Any], subresource: str = ""
    ) -> Object:
        return await self.request("PATCH", path(kind, namespace, name, subresource), body, MERGE)

    async def replace(self, kind: Kind, body: Object) -> Object:
        metadata = body["metadata"]
        return await self.request("PUT", path(kind, metadata.get("namespace"), metadata["name"]), body)

    async def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        await self.request("DELETE", path(kind, namespace, name))

    async def chatbot(self, namespace: str, name: str, spec: Mapping[str, Any]) -> Object:
        """A new Chatbot, as `kubectl create` makes it."""
        return await self.create(CHATBOT, namespace, {"metadata": {"name": name}, "spec": spec})


@asynccontextmanager
async def administrator(kubeconfig: Path) -> AsyncIterator[Admin]:
    """Connected by a kubeconfig with a client certificate."""
    configuration = Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
    assert configuration.cert_file is not None, f"{kubeconfig} has no client certificate"
    ours = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    ours.load_cert_chain(configuration.cert_file, configuration.key_file)
    nobody = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    async with (
        _session(ours) as session,
        _session(nobody) as plain,
    ):
        yield Admin(configuration.host, session, plain)


def _session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        read_bufsize=LINE_BYTES,
        trust_env=False,
    )
