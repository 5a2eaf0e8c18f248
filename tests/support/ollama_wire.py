"""What requests and answers of the stand-in for Ollama are made of, and its errors. It must not know models.

Beside `ollama_server.py`, which runs as a plain file in a pod.
"""

import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING or __package__:
    from tests.support.ollama_pull import dumps
else:  # in a pod
    from ollama_pull import dumps

FOREVER = 2**63 / 1e9
"""Seconds; what a negative keep_alive comes to."""
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
DURATION = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h))+")


class ApiError(Exception):
    """Refused. `body`: the body makes no sense; on /v1 the Content-Type of only these errors has a charset."""

    def __init__(self, status: int, message: str, body: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


async def body_of(request: web.Request, missing: str) -> dict[str, Any]:
    """The JSON object that was sent. Raises ApiError."""
    text = (await request.read()).decode(errors="replace")
    if not text:
        raise ApiError(400, missing, body=True)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        where = "object key string" if "property name" in error.msg else "value"
        raise ApiError(400, f"invalid character '{text[error.pos]}' looking for beginning of {where}", True) from None
    return found if isinstance(found, dict) else {}


def json_response(value: object, status: int = 200, charset: bool = True) -> web.Response:
    kind = "application/json; charset=utf-8" if charset else "application/json"
    return web.Response(body=dumps(value).encode(), status=status, headers={"Content-Type": kind})


def plain(status: int, text: str, **headers: str) -> web.Response:
    return web.Response(body=text.encode(), status=status, headers={"Content-Type": "text/plain", **headers})


def empty(status: int) -> web.Response:
    response = web.Response(status=status)
    response.headers["Content-Length"] = "0"
    return response


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds_of(value: object) -> float:
    """A keep_alive: a number of seconds, or a duration such as 1h30m; below zero: for ever. Raises ApiError."""
    text = str(value)
    with suppress(ValueError):
        return float(text) if float(text) >= 0 else FOREVER
    if not DURATION.fullmatch(text):
        raise ApiError(400, f'time: invalid duration "{text}"')
    if text.startswith("-"):
        return FOREVER
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ns|us|µs|ms|s|m|h)", text))
