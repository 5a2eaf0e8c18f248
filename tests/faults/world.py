"""What really happened: every version of every object that matters, as the API server tells an onlooker.

The oracles judge by it, scenarios wait on it, and the pods of fake nodes answer from it. It must not know scenarios.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import aiohttp
from aiohttp import web

from chatbot_operator import names
from chatbot_operator.kinds import CHATBOT, CHILD_KINDS, CONFIG_MAP, EVENT, OPTIONAL_KINDS, POD, Kind
from chatbot_operator.rest import path
from chatbot_runtime.contract import Phase, PodStatus, settings_hash
from tests.faults.admin import SLICE, Admin, Object

KINDS = (CHATBOT, *(kind for kind in CHILD_KINDS if kind not in OPTIONAL_KINDS), SLICE, EVENT)
RELIST_SECONDS = 0.2


class Id(NamedTuple):
    """Names an object within its namespace."""

    kind: str
    name: str


@dataclass(frozen=True)
class Change:
    """One version of an object, or its end."""

    version: int
    """Resource version: one order for all kinds."""
    at: float
    """Seconds of the monotonic clock, when it was seen."""
    type: str
    """ADDED, MODIFIED or DELETED."""
    obj: Object

    @property
    def id(self) -> Id:
        return Id(self.obj["kind"], self.obj["metadata"]["name"])


class World:
    """All namespaces of one API server."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self.now: dict[str, dict[Id, Object]] = defaultdict(dict)
        self.history: dict[str, list[Change]] = defaultdict(list)
        self.quiet_pods: set[str] = set()
        """Pods that do not answer when they are asked for their status."""
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self.port = 0

    async def start(self) -> "World":
        listed = [asyncio.Event() for _ in KINDS]
        self._tasks = [asyncio.create_task(self._follow(k, e)) for k, e in zip(KINDS, listed, strict=True)]
        for event in listed:
            await event.wait()
        app = web.Application()
        app.add_routes([web.get("/{namespace}/{name}", self._pod_status)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.cleanup()

    def get(self, namespace: str, kind: Kind, name: str) -> Object | None:
        return self.now[namespace].get(Id(kind.name, name))

    def of(self, namespace: str, kind: Kind, chatbot: str | None = None) -> list[Object]:
        """Objects of a kind, of one Chatbot if it is given."""
        found = (o for i, o in self.now[namespace].items() if i.kind == kind.name)
        return [o for o in found if chatbot is None or label(o) == chatbot]

    def begin_anew(self, namespace: str) -> None:
        """The history of a namespace begins with what is there now, except for what was said of it in Events."""
        now = time.monotonic()
        there = [o for i, o in self.now[namespace].items() if i.kind != EVENT.name]
        self.history[namespace] = [Change(int(o["metadata"]["resourceVersion"]), now, "MODIFIED", o) for o in there]

    async def until(self, what: str, probe: Callable[[], Any], timeout: float) -> Any:
        """The first truthy value of `probe`, asked again after each change; AssertionError after `timeout` seconds."""
        value = probe()
        try:
            async with asyncio.timeout(timeout), self._changed:
                while not value:
                    await self._changed.wait()
                    value = probe()
        except TimeoutError:
            value = probe()
        assert value, f"not within {timeout:g} s: {what}"
        return value

    async def _follow(self, kind: Kind, listed: asyncio.Event) -> None:
        while True:
            try:
                version = await self._list(kind)
                listed.set()
                await self._watch(kind, version)
            except (aiohttp.ClientError, OSError, ValueError, AssertionError):
                await asyncio.sleep(RELIST_SECONDS)

    async def _list(self, kind: Kind) -> str:
        found = await self._admin.request("GET", path(kind, None))
        items = [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in found["items"] or ()]
        version: str = found["metadata"]["resourceVersion"]
        live = {(o["metadata"]["namespace"], o["metadata"]["name"]) for o in items}
        for namespace, objects in list(self.now.items()):
            for gone in [i for i in objects if i.kind == kind.name and (namespace, i.name) not in live]:
                self._note("DELETED", objects[gone], int(version))
        for obj in items:
            self._note("MODIFIED", obj)
        await self._tell()
        return version

    async def _watch(self, kind: Kind, version: str) -> None:
        url = f"{self._admin.server}{path(kind, None)}?watch=1&resourceVersion={version}"
        async with self._admin.session.get(url) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self._note(event["type"], event["object"])
                await self._tell()

    def _note(self, type_: str, obj: Object, version: int | None = None) -> None:
        metadata = obj["metadata"]
        change = Change(version or int(metadata["resourceVersion"]), time.monotonic(), type_, obj)
        objects = self.now[metadata["namespace"]]
        old = objects.get(change.id)
        if type_ == "DELETED":
            objects.pop(change.id, None)
        elif old is not None and old["metadata"]["resourceVersion"] == metadata["resourceVersion"]:
            return
        else:
            objects[change.id] = obj
        self.history[metadata["namespace"]].append(change)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _pod_status(self, request: web.Request) -> web.Response:
        """What the runtime in that pod would say that has read its mounted settings."""
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        pod = self.get(namespace, POD, name)
        chatbot = label(pod) if pod else ""
        settings = self.get(namespace, CONFIG_MAP, names.backend(chatbot))
        labels = pod["metadata"]["labels"] if pod else {}
        phases = get_args(Phase)
        if pod is None or settings is None or name in self.quiet_pods or labels[names.PHASE_LABEL] not in phases:
            return web.Response(status=503)
        status = PodStatus(
            chatbot=chatbot,
            phase=labels[names.PHASE_LABEL],
            revision=labels[names.REVISION_LABEL],
            ready=True,
            settings_hash=settings_hash(settings["data"].get(names.SETTINGS_KEY, "")),
        )
        return web.json_response(status.model_dump(mode="json", by_alias=True))


def label(obj: Object) -> str:
    """Which Chatbot's it is."""
    return str((obj["metadata"].get("labels") or {}).get(names.CHATBOT_LABEL, ""))


def replay(changes: list[Change]) -> Iterator[tuple[Change, dict[Id, Object]]]:
    """Each change in the API server's own order, with the world after it."""
    world: dict[Id, Object] = {}
    for change in sorted(changes, key=lambda c: c.version):
        if change.type == "DELETED":
            world.pop(change.id, None)
        else:
            world[change.id] = change.obj
        yield change, world
