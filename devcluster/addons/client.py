"""A small asynchronous client of the API server: call, patch, follow. It must not know which objects it carries.

aiohttp and plain dictionaries, since the generated Kubernetes client alone would take more memory than all add-ons.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from devcluster.layout import Layout

log = logging.getLogger(__name__)

Object = dict[str, Any]
Handler = Callable[[str, Object], Awaitable[None]]

RETRY_SECONDS = 0.5
# One watch event is one line; the largest object etcd takes is 1.5 MiB.
LONGEST_EVENT = 4 << 20


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


TRANSIENT = (aiohttp.ClientError, ApiError, OSError, TimeoutError, ValueError)


class Client:
    """One connection pool to the API server of a cluster."""

    def __init__(self, layout: Layout) -> None:
        tls = ssl.create_default_context(cafile=str(layout.pki / "server-ca.crt"))
        tls.load_cert_chain(layout.pki / "addons-client.crt", layout.pki / "addons-client.key")
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, limit=64))
        self._url = layout.api_url

    async def call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        content_type: str = "application/json",
        tolerate: tuple[int, ...] = (),
    ) -> Object:
        """One request, one JSON answer. Raises ApiError for a status of 400 or more that is not in `tolerate`."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type, "User-Agent": "devcluster-addons"}
        async with self.session.request(method, self._url + path, data=data, headers=headers) as response:
            answer: Object = await response.json(content_type=None)
            if response.status >= 400 and response.status not in tolerate:
                raise ApiError(response.status, str(answer.get("message", "")))
            return answer

    async def patch(self, path: str, body: Object, tolerate: tuple[int, ...] = (404,)) -> Object:
        """A strategic merge patch; an object that has gone meanwhile is no error."""
        return await self.call("PATCH", path, body, "application/strategic-merge-patch+json", tolerate)

    async def apply(self, path: str, body: Object) -> Object:
        """A server-side apply that takes over conflicting fields."""
        target = f"{path}?fieldManager=devcluster&force=true"
        return await self.call("PATCH", target, body, "application/apply-patch+yaml")

    async def follow(self, path: str, handle: Handler) -> None:
        """List and watch for ever; `handle` gets ADDED, MODIFIED or DELETED and the object, and must not raise.

        After a lost watch everything is listed again, and objects that disappeared meanwhile are reported as DELETED.
        """
        known: dict[str, Object] = {}
        while True:
            try:
                listed = await self.call("GET", path)
                current = {item["metadata"]["uid"]: item for item in listed["items"]}
                for uid in known.keys() - current.keys():
                    await handle("DELETED", known[uid])
                known = current
                for item in current.values():
                    await handle("ADDED", item)
                await self._watch(path, listed["metadata"]["resourceVersion"], known, handle)
            except TRANSIENT as error:
                log.info("watching %s: %r", path, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _watch(self, path: str, version: str, known: dict[str, Object], handle: Handler) -> None:
        url = f"{self._url}{path}?watch=1&resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=600"
        forever = aiohttp.ClientTimeout(total=None, connect=5)
        async with self.session.get(url, timeout=forever, read_bufsize=LONGEST_EVENT) as response:
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                if event["type"] == "BOOKMARK":
                    continue
                item, uid = event["object"], event["object"]["metadata"]["uid"]
                if event["type"] == "DELETED":
                    known.pop(uid, None)
                else:
                    known[uid] = item
                await handle(event["type"], item)
