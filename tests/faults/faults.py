"""What can go wrong with one call, each fault a value that a rule of the proxy takes. It must not know who calls."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from tests.faults.proxy import Exchange, Fault, Reply, status_reply

HANG_SECONDS = 60
"""Longer than any client here waits."""


def answers(code: int, reason: str, message: str = "injected", headers: Mapping[str, str] | None = None) -> Fault:
    """Refused by the API server before it does anything."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        exchange.call.status = code
        return status_reply(code, reason, message, headers).respond()

    return _named(fault, str(code))


def lost_answer() -> Fault:
    """Done, and the connection breaks before the answer."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        await exchange.forward()
        return exchange.hang_up()

    return _named(fault, "answer lost")


def reset() -> Fault:
    """The connection breaks before anything is done."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        return exchange.hang_up()

    return _named(fault, "connection reset")


def hangs() -> Fault:
    """Nothing is done and nothing is said until the caller gives up."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        await asyncio.sleep(HANG_SECONDS)
        return exchange.hang_up()

    return _named(fault, "no answer")


def truncated() -> Fault:
    """Done; the answer is cut in the middle of its JSON."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        reply = await exchange.forward()
        return reply.respond(reply.body[: len(reply.body) // 2])

    return _named(fault, "truncated JSON")


def not_json() -> Fault:
    """Something between the two answers in the API server's place."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        exchange.call.status = 200
        return Reply(200, b"<html>gateway</html>", {"Content-Type": "text/html"}).respond()

    return _named(fault, "not JSON")


def late(seconds: float) -> Fault:
    """Done, slowly."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return (await exchange.forward()).respond()

    return _named(fault, f"{seconds:g} s late")


def before(action: Callable[[], Awaitable[None]]) -> Fault:
    """Something happens to the caller before its call is forwarded: it never is."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        await action()
        return exchange.hang_up()

    return _named(fault, "killed before")


def after(action: Callable[[], Awaitable[None]]) -> Fault:
    """Something happens to the caller after its call was committed and before it is answered."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        await exchange.forward()
        await action()
        return exchange.hang_up()

    return _named(fault, "killed after")


def watch_error(code: int, reason: str, message: str = "injected") -> Fault:
    """A watch that opens well and then says it has failed (an ERROR event), as an expired one does."""

    async def fault(exchange: Exchange) -> web.StreamResponse:
        if exchange.call.verb != "watch":
            return (await exchange.forward()).respond()
        exchange.call.status = 200
        body = b'{"type":"ERROR","object":' + status_reply(code, reason, message).body + b"}\n"
        return web.Response(body=body, content_type="application/json")

    return _named(fault, f"watch says {code}")


API_FAULTS: Mapping[str, Callable[[], Fault]] = {
    "401": lambda: answers(401, "Unauthorized"),
    "403": lambda: answers(403, "Forbidden", 'is forbidden: User "operator" cannot do this'),
    "409": lambda: answers(409, "Conflict"),
    "410": lambda: answers(410, "Expired"),
    "422": lambda: answers(422, "Invalid"),
    "429": lambda: answers(429, "TooManyRequests", headers={"Retry-After": "1"}),
    "500": lambda: answers(500, "InternalError", "etcdserver: leader changed"),
    "503": lambda: answers(503, "ServiceUnavailable"),
    "504": lambda: answers(504, "Timeout", "etcdserver: request timed out"),
    "no-answer": hangs,
    "reset": reset,
    "answer-lost": lost_answer,
    "truncated": truncated,
    "not-json": not_json,
}
"""The fourteen API faults of R3."""


def _named(fault: Fault, name: str) -> Fault:
    fault.__name__ = name
    return fault
