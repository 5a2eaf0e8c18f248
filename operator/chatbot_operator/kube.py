"""The Cluster protocol on `kubernetes.aio`: the only module that imports the client.

It must not know what a Chatbot is.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from chatbot_operator.cluster import Conflict, Invalid, Listing, NotFound, Transient
from chatbot_operator.kinds import EVENT, Kind, RawObject, Ref
from chatbot_operator.names import MANAGER, SCALE_MANAGER
from chatbot_operator.rest import error_of, path

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
TEST_FAILED = "the server rejected our request due to an error in our request"
"""The whole of what the API server's 422 says when the `test` of a JSON patch does not hold."""
JSON = "application/json"
NO_VERSION = "1"
"""No object has this resource version: etcd counts from there. An apply that names it is refused where one exists."""

PAGE = 500
"""Objects a page of a LIST: keeps the answers of a large cluster below a few MiB."""

Observer = Callable[[str, str, int, float], None]
"""Told of every call: verb, resource, status code (0: no answer), seconds."""


class NoCluster(Exception):
    """Nothing says where the cluster is, or what says so is not usable."""


async def connect(*, timeout_seconds: float = 30, observer: Observer | None = None) -> "Kube":
    """A client with the pod's own account, or with KUBECONFIG outside of a cluster.

    Raises NoCluster when there is neither.
    """
    configuration = Configuration()
    file = os.environ.get("KUBECONFIG")  # the library reads it when it is imported
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and not file:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(config_file=file, client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (config.ConfigException, yaml.YAMLError, OSError) as error:
        raise NoCluster(f"{error}; set KUBECONFIG to the file of a cluster, or run in one") from None
    return Kube(ApiClient(configuration), timeout_seconds=timeout_seconds, observer=observer)


class Kube:
    """See Cluster."""

    def __init__(self, client: ApiClient, *, timeout_seconds: float = 30, observer: Observer | None = None) -> None:
        self._client, self._configuration = client, client.configuration
        rest = client.rest_client
        self._host: str = client.configuration.host
        # Requests of our own: the client's cost more than twice the CPU. It keeps credentials and TLS. As in Kopf, no
        # proxy of the environment is used, only the kubeconfig's: aiohttp would read ~/.netrc before each call.
        connector = aiohttp.TCPConnector(ssl=rest.ssl_context, limit=client.configuration.connection_pool_maxsize)
        self._session = aiohttp.ClientSession(
            connector=connector, headers={"User-Agent": MANAGER}, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        self._options: dict[str, Any] = {
            "timeout": aiohttp.ClientTimeout(total=timeout_seconds),
            "proxy": rest.proxy,
            "proxy_headers": rest.proxy_headers,
            "server_hostname": client.configuration.tls_server_name,
            "allow_redirects": False,
        }
        self._observer = observer or (lambda *_: None)

    async def close(self) -> None:
        await self._session.close()
        await self._client.close()  # type: ignore[no-untyped-call]

    async def _authorization(self) -> dict[str, str]:
        """Asked before each call: a pod's token is replaced from time to time."""
        settings = await self._configuration.auth_settings()
        return {auth["key"]: auth["value"] for auth in settings.values() if auth["value"]}

    async def list(self, kind: Kind, namespace: str | None, selector: str = "") -> Listing:
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        items: list[RawObject] = []
        while True:
            page = await self._call("GET", "list", kind, path(kind, namespace), query)
            # Items of a list lack what names their kind; the rest of the operator relies on it.
            items += [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in page.get("items") or ()]
            token = page["metadata"].get("continue")
            if not token:
                return Listing(items, page["metadata"].get("resourceVersion", ""))
            query["continue"] = token

    async def get(self, ref: Ref) -> RawObject:
        return await self._call("GET", "get", ref.kind, _path(ref))

    async def create(self, ref: Ref, body: Mapping[str, Any]) -> RawObject:
        return await self._call(
            "POST", "create", ref.kind, path(ref.kind, ref.namespace), {"fieldManager": MANAGER}, body
        )

    async def replace(self, ref: Ref, body: Mapping[str, Any]) -> RawObject:
        return await self._call("PUT", "update", ref.kind, _path(ref), {"fieldManager": MANAGER}, body)

    async def apply(self, ref: Ref, body: Mapping[str, Any], *, new: bool = False) -> RawObject:
        query = {"fieldManager": MANAGER, "force": "true"}
        if new:
            body = {**body, "metadata": {**body["metadata"], "resourceVersion": NO_VERSION}}
        return await self._call("PATCH", "patch", ref.kind, _path(ref), query, body, APPLY)

    async def merge(self, ref: Ref, body: Mapping[str, Any]) -> RawObject:
        return await self._call("PATCH", "patch", ref.kind, _path(ref), {"fieldManager": MANAGER}, body, MERGE)

    async def put_status(self, ref: Ref, status: Mapping[str, Any], *, uid: str) -> RawObject:
        # On a status the API server ignores a uid that a merge patch names: only a JSON patch can test it.
        patch: list[dict[str, object]] = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        query = {"fieldManager": MANAGER}
        try:
            return await self._call(
                "PATCH", "patch", ref.kind, _path(ref, "status"), query, patch, JSON_PATCH, "status"
            )
        except Invalid as error:
            if error.message == TEST_FAILED:
                raise Conflict("another object has the name", verb=error.verb, resource=error.resource) from error
            raise

    async def scale(self, ref: Ref, replicas: int) -> None:
        body = {"spec": {"replicas": replicas}}
        query = {"fieldManager": SCALE_MANAGER}
        await self._call("PATCH", "patch", ref.kind, _path(ref, "scale"), query, body, MERGE, "scale")

    async def delete(self, ref: Ref, *, uid: str, resource_version: str | None = None) -> None:
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": preconditions,
        }
        try:
            await self._call("DELETE", "delete", ref.kind, _path(ref), body=body)
        except NotFound:
            return

    async def events_about(self, namespace: str, uid: str) -> Sequence[RawObject]:
        query = {"fieldSelector": f"regarding.uid={uid}"}
        page = await self._call("GET", "list", EVENT, path(EVENT, namespace), query)
        items: list[RawObject] = page.get("items") or []
        return sorted(items, key=lambda e: e["metadata"].get("creationTimestamp") or "")

    async def _call(
        self,
        method: str,
        verb: str,
        kind: Kind,
        resource_path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        content_type: str = JSON,
        subresource: str = "",
    ) -> dict[str, Any]:
        resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
        started, status = time.monotonic(), 0
        url = f"{self._host}{resource_path}?{urlencode(query)}" if query else f"{self._host}{resource_path}"
        try:
            headers = {"Accept": JSON, "Content-Type": content_type, **await self._authorization()}
            data = orjson.dumps(body) if body is not None else None
            async with self._session.request(method, url, data=data, headers=headers, **self._options) as response:
                status = response.status
                answer = await response.read()
            if status >= 400:
                raise error_of(status, answer, response.headers, verb=verb, resource=resource)
            parsed: dict[str, Any] = orjson.loads(answer)
            return parsed
        except (aiohttp.ClientError, config.ConfigException, OSError, TimeoutError) as error:
            raise Transient(f"no answer: {type(error).__name__}", verb=verb, resource=resource) from error
        except ValueError as error:
            raise Transient("the API server's answer is not JSON", verb=verb, resource=resource) from error
        finally:
            self._observer(verb, resource, status, time.monotonic() - started)


def _path(ref: Ref, subresource: str = "") -> str:
    return path(ref.kind, ref.namespace, ref.name, subresource)
