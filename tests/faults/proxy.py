"""A fault proxy between one operator and the API server: keeps the trail of calls and breaks what it is told to.

Fault models: Sieve (OSDI'22) - the process dies between two writes, sees old state, or never sees a change - and the
API server's own failures. It must not know what a Chatbot is.
"""

import asyncio
import json
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from tests.faults.admin import Admin, Object

VERBS: Mapping[str, str] = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
WRITES = frozenset(VERBS.values())
PASSED = ("Authorization", "Accept", "Content-Type", "User-Agent")


@dataclass
class Call:
    """One request of the operator and what became of it."""

    number: int
    at: float
    """Seconds of the monotonic clock."""
    verb: str
    resource: str
    """Plural, with `/subresource`."""
    namespace: str
    name: str
    """Of the object; for a create the one in its body."""
    url: str
    body: Any = None
    status: int = 0
    """0: no answer was seen."""
    response: Any = None
    fault: str = ""

    @property
    def writes(self) -> bool:
        """Whether it changes something; the operator's own Lease aside."""
        return self.verb in WRITES and self.resource != "leases"

    @property
    def landed(self) -> bool:
        return self.writes and 200 <= self.status < 300

    def __str__(self) -> str:
        return (
            f"{self.verb} {self.resource} {self.name} -> {self.status or 'no answer'}{self.fault and ' '}{self.fault}"
        )


@dataclass(frozen=True)
class Reply:
    """An answer of the API server, read whole."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def respond(self, body: bytes | None = None) -> web.Response:
        return web.Response(status=self.status, body=self.body if body is None else body, headers=dict(self.headers))


@dataclass(frozen=True)
class Exchange:
    """One call on its way; a fault may forward it, answer it, or neither."""

    proxy: "FaultProxy"
    call: Call
    request: web.Request
    data: bytes

    async def forward(self) -> Reply:
        """Let it through and read the answer."""
        return await self.proxy.forward(self)

    def hang_up(self) -> web.Response:
        """End the connection without an answer."""
        if self.request.transport is not None:
            self.request.transport.abort()
        return web.Response()


Fault = Callable[[Exchange], Awaitable[web.StreamResponse]]


@dataclass
class Rule:
    """Which calls meet a fault. Calls that match are counted; the first `skip` pass, the next `times` meet it."""

    fault: Fault
    verbs: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    writes: bool = False
    """Only what changes something."""
    skip: int = 0
    times: int | None = None
    share: float = 1.0
    """Of the calls that match, chosen by the proxy's seeded generator."""
    seen: int = 0
    hits: int = 0

    def takes(self, call: Call, rng: random.Random) -> bool:
        """Whether this call meets the fault; counts it."""
        if call.resource == "leases" and "leases" not in self.resources:
            return False
        if (self.verbs and call.verb not in self.verbs) or (self.resources and call.resource not in self.resources):
            return False
        if (self.names and call.name not in self.names) or (self.writes and not call.writes):
            return False
        self.seen += 1
        spent = self.times is not None and self.hits >= self.times
        if self.seen <= self.skip or spent or rng.random() >= self.share:
            return False
        self.hits += 1
        return True


WatchFilter = Callable[[str, Object], bool]
"""Told the resource and a watch event; whether the operator may see it."""


class FaultProxy:
    """Plain HTTP on a free port of loopback; the operator's own token goes through to the API server."""

    def __init__(self, admin: Admin, *, seed: int = 0) -> None:
        self._admin, self._rng = admin, random.Random(seed)
        self.trail: list[Call] = []
        self.rules: list[Rule] = []
        self.watch_filter: WatchFilter | None = None
        self.rewrite: Callable[[Object], Object] | None = None
        """Changes every object that the operator is shown."""
        self.token: str | None = None
        """The only one that is let in, while it is set."""
        self.refuses = False
        """Nobody listens: every connection is cut."""
        self.events_passed = 0
        self._lists: dict[str, bytes] = {}
        self._frozen: dict[str, bytes] | None = None
        self._sound = asyncio.Event()
        self._sound.set()
        self._streams: set[aiohttp.ClientResponse] = set()
        self.port = 0

    async def start(self, tls: ssl.SSLContext | None = None) -> "FaultProxy":
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.port = runner.addresses[0][1]
        self._runner = runner
        return self

    async def stop(self) -> None:
        self._sound.set()
        self.close_watches()
        await self._runner.cleanup()

    # what a scenario may do -------------------------------------------------------------------------------------

    def writes(self, since: int = 0) -> list[Call]:
        """What changes something, from the trail's entry `since` on."""
        return [c for c in self.trail[since:] if c.writes]

    def close_watches(self) -> None:
        """End every watch as a server does that is tired of it."""
        for stream in list(self._streams):
            stream.close()

    def mute(self) -> None:
        """Watches stay open and say nothing."""
        self._sound.clear()

    async def freeze(self) -> None:
        """From now on LIST and WATCH show the world of this moment; reads by name and writes are current."""
        self._sound.clear()
        self._frozen = {}
        for url in self._lists:
            async with self._admin.session.get(self._admin.server + url) as answer:
                self._frozen[url] = await answer.read()

    def thaw(self) -> None:
        """Current again; what watches held back comes now. Ends `mute` too."""
        self._frozen = None
        self._sound.set()

    def clear(self) -> None:
        """No faults any more."""
        self.rules.clear()
        self.watch_filter, self.rewrite, self.token, self.refuses = None, None, None, False
        self.thaw()

    # the way of a call ------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        data = await request.read()
        call = _call(len(self.trail), request, data)
        self.trail.append(call)
        exchange = Exchange(self, call, request, data)  # type: ignore[arg-type]
        if self.refuses:
            call.fault = "refused"
            return exchange.hang_up()
        if self.token is not None and request.headers.get("Authorization", "").split(" ")[-1] != self.token:
            call.fault, call.status = "token", 401
            return status_reply(401, "Unauthorized", "Unauthorized").respond()
        for rule in self.rules:
            if rule.takes(call, self._rng):
                call.fault = getattr(rule.fault, "__name__", "fault")
                return await rule.fault(exchange)
        if call.verb == "watch":
            return await self._watch(exchange)
        return (await exchange.forward()).respond()

    async def forward(self, exchange: Exchange) -> Reply:
        call, request = exchange.call, exchange.request
        if call.verb == "list":
            self._lists.setdefault(call.url, b"")
            if self._frozen is not None and call.url in self._frozen:
                call.fault, call.status = "stale", 200
                return Reply(200, self._shown(self._frozen[call.url]), {"Content-Type": "application/json"})
        try:
            async with self._admin.plain.request(
                request.method, self._admin.server + call.url, data=exchange.data or None, headers=_passed(request)
            ) as answer:
                body = await answer.read()
                headers = {k: answer.headers[k] for k in ("Content-Type", "Retry-After") if k in answer.headers}
        except (aiohttp.ClientError, OSError):
            return status_reply(503, "ServiceUnavailable", "the API server is away")
        call.status = answer.status
        if call.verb in WRITES:
            call.response = json.loads(body)
        # A path that the server does not know is answered by plain text.
        known = answer.content_type == "application/json"
        return Reply(answer.status, self._shown(body) if known else body, headers)

    def _shown(self, body: bytes) -> bytes:
        if self.rewrite is None:
            return body
        parsed = json.loads(body)
        if parsed.get("kind", "").endswith("List"):
            parsed["items"] = [self.rewrite(item) for item in parsed.get("items") or ()]
        else:
            parsed = self.rewrite(parsed)
        return json.dumps(parsed).encode()

    async def _watch(self, exchange: Exchange) -> web.StreamResponse:
        request, call = exchange.request, exchange.call
        try:
            answer = await self._admin.plain.get(self._admin.server + call.url, headers=_passed(request))
        except (aiohttp.ClientError, OSError):
            return exchange.hang_up()
        call.status = answer.status
        if answer.status != 200:
            body = await answer.read()
            return web.Response(status=answer.status, body=body, headers={"Content-Type": "application/json"})
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        self._streams.add(answer)
        try:
            await response.prepare(request)
            async for line in answer.content:
                await self._sound.wait()
                if (shown := self._seen(call.resource, line)) is not None:
                    self.events_passed += 1
                    await response.write(shown)
        except (aiohttp.ClientError, ConnectionError, OSError):
            pass  # one side has gone
        finally:
            self._streams.discard(answer)
            answer.close()
        return response

    def _seen(self, resource: str, line: bytes) -> bytes | None:
        if self.watch_filter is None and self.rewrite is None:
            return line
        event = json.loads(line)
        if self.watch_filter is not None and not self.watch_filter(resource, event):
            return None
        if self.rewrite is not None and event["type"] != "ERROR":
            event["object"] = self.rewrite(event["object"])
            return json.dumps(event).encode() + b"\n"
        return line


def status_reply(code: int, reason: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    """A failure in the API server's own form (meta/v1 Status)."""
    body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    body |= {"reason": reason, "message": message, "code": code}
    return Reply(code, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})


def _passed(request: web.BaseRequest) -> dict[str, str]:
    return {k: request.headers[k] for k in PASSED if k in request.headers}


def _call(number: int, request: web.BaseRequest, data: bytes) -> Call:
    parts = [p for p in request.path.split("/") if p]
    rest = parts[2:] if parts[:1] == ["api"] else parts[3:]
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = [*rest, "", "", ""][:3]
    body = None
    if data and request.method != "GET":
        body = json.loads(data)
        name = name or body.get("metadata", {}).get("name", "")
    if request.method == "GET":
        watching = request.query.get("watch") in ("1", "true")
        verb = "watch" if watching else "get" if name else "list"
    else:
        verb = VERBS.get(request.method, request.method.lower())
    whole = f"{resource}/{subresource}" if subresource else resource
    return Call(number, time.monotonic(), verb, whole, namespace, name, request.path_qs, body)
