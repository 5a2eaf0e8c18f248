"""An upstream's answer, read within bounds of time and size, and checked. It must not know requests, tokens or clients.

What is passed on has the shape of OpenAI's API, whatever the upstream sends.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import aiohttp
import orjson

from chatbot_runtime.event_parser import EventParser, TooLong
from chatbot_runtime.providers.base import Chunk, ProviderError, Usage

T = TypeVar("T")

EVENTS = "text/event-stream"
JSON = "application/json"
DONE = b"[DONE]"
MAX_WHOLE_BYTES = 8 * 1024 * 1024
"""Largest whole answer; the longest that models write are far below."""
MAX_EVENT_BYTES = 1024 * 1024
"""Largest event of a stream."""
MAX_STREAM_BYTES = 64 * 1024 * 1024
"""Largest stream: events have some hundred bytes for each token."""
MAX_HELD_BYTES = 32 * 1024 * 1024
"""Most memory that all answers take together while they are being read."""
END_SECONDS = 0.2
"""How long the end of a response may take after its last event."""
MAX_FINISH_REASON = 64
"""Characters."""


def unavailable(host: str, what: str) -> ProviderError:
    """The upstream does not do its part."""
    return ProviderError("ProviderUnavailable", f"{host} {what}.")


class Held:
    """Memory that unfinished answers take, all of them together."""

    def __init__(self, most_bytes: int = MAX_HELD_BYTES) -> None:
        self._most = most_bytes
        self.bytes = 0

    @contextmanager
    def reading(self) -> Iterator[Callable[[int], bool]]:
        """Counts one answer while the block lasts: what it gives is told its size each time; False: no room."""
        mine = 0

        def hold(size: int) -> bool:
            nonlocal mine
            self.bytes += size - mine
            mine = size
            return self.bytes <= self._most

        try:
            yield hold
        finally:
            hold(0)


class Reading:
    """Reads one response. `deadline`: loop time for the first byte; after it `silence` seconds for each next event.

    Every method raises ProviderError.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        host: str,
        deadline: float,
        silence: float,
        hold: Callable[[int], bool],
    ) -> None:
        self._response = response
        self._host = host
        self._deadline = deadline
        self.silence = silence
        self._hold = hold
        self._total = 0
        self._parser = EventParser(MAX_EVENT_BYTES)
        self._events: deque[bytes] = deque()
        self._ended = False

    async def whole(self) -> bytearray:
        """All of the body."""
        body = bytearray()
        while piece := await self._in_time(self._piece):
            body += piece
            if len(body) > MAX_WHOLE_BYTES or not self._hold(len(body)):
                raise unavailable(self._host, f"sent more than fits: at most {MAX_WHOLE_BYTES} bytes are read")
        return body

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """All of the body as it comes."""
        while piece := await self._in_time(self._piece):
            yield piece

    async def event(self) -> bytes | None:
        """The data of the next event; None at the end."""
        if not self._events and not self._ended:
            await self._in_time(self._fill)
        return self._events.popleft() if self._events else None

    async def last(self) -> None:
        """Lets what ends the response arrive, so that its connection can be used again."""
        if not self._response.content.at_eof():
            with suppress(TimeoutError, aiohttp.ClientError, OSError, ValueError):
                async with asyncio.timeout(END_SECONDS):
                    await self._response.content.readany()

    def finish(self) -> None:
        """Gives the connection back if all of the response has been read, else ends it."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    async def _in_time(self, read: Callable[[], Awaitable[T]]) -> T:
        """Within the time to the first byte, or that of a silence."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.silence if self._total else self._deadline
        try:
            async with asyncio.timeout_at(deadline):
                return await read()
        except TimeoutError:
            if not self._total:
                raise unavailable(self._host, "has begun to answer, but nothing came in time") from None
            raise unavailable(self._host, f"was silent for more than {self.silence:g} s within its answer") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise unavailable(self._host, "broke off its answer") from None

    async def _piece(self) -> bytes:
        piece = await self._response.content.readany()
        self._total += len(piece)
        if self._total > MAX_STREAM_BYTES:
            raise unavailable(self._host, f"sent a stream of more than {MAX_STREAM_BYTES} bytes")
        return piece

    async def _fill(self) -> None:
        while not self._events and not self._ended:
            piece = await self._piece()
            try:
                self._events.extend(self._parser.feed(piece) if piece else self._parser.end())
            except TooLong:
                raise unavailable(self._host, f"sent an event of more than {MAX_EVENT_BYTES} bytes") from None
            self._ended = not piece
            if not self._hold(self._parser.held + sum(map(len, self._events))):
                raise unavailable(self._host, "sent more than fits beside other answers")


def is_done(data: bytes) -> bool:
    """Whether this is the mark of a stream's end."""
    return data.strip() == DONE


def parsed(data: bytes | bytearray, host: str) -> Mapping[str, Any]:
    """The JSON object in an answer or in an event. Raises ProviderError."""
    value: object = None
    for text in (data, *bytes(data).splitlines()[:1]):  # some repeat their `data:` line, which is no JSON when joined
        try:
            value = orjson.loads(text)
            break
        except orjson.JSONDecodeError:
            continue
    if not isinstance(value, dict):
        raise unavailable(host, "sent what is no answer of an OpenAI-compatible server")
    return value


def whole_of(value: Mapping[str, Any], host: str) -> Chunk:
    """A whole answer as one chunk. Raises ProviderError."""
    choice = _choice(value)
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        raise unavailable(host, "sent an answer without a message")
    finish_reason = _finish_reason(choice, host)
    if finish_reason is None:
        raise unavailable(host, "sent an answer that is not complete")
    return Chunk(_delta(message, host), finish_reason, usage_of(value), _logprobs(choice))


def chunk_of(value: Mapping[str, Any], host: str) -> Chunk | None:
    """A piece of an answer; None if the event says nothing. Raises ProviderError."""
    choice = _choice(value)
    if choice is None:
        return None
    given = choice.get("delta")
    if given is not None and not isinstance(given, dict):
        raise unavailable(host, "sent a piece of an answer that is none")
    chunk = Chunk(_delta(given or {}, host), _finish_reason(choice, host), logprobs=_logprobs(choice))
    # The role is said by us, once: clients that join pieces would join it too.
    if chunk.finish_reason is None and chunk.logprobs is None and not any(chunk.delta.values()):
        return None
    return chunk


def usage_of(value: Mapping[str, Any]) -> Usage | None:
    """The usage in an answer or in an event, if there is a sound one."""
    usage = value.get("usage")
    if not isinstance(usage, dict):
        return None
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(read) is not int or type(written) is not int or read < 0 or written < 0:
        return None
    return Usage(read, written)


def _choice(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first of the choices: only one is ever asked for."""
    choices = value.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("index", 0) == 0:
            return choice
    return None


def _delta(given: Mapping[str, Any], host: str) -> Mapping[str, Any]:
    content, calls = given.get("content"), given.get("tool_calls")
    if not isinstance(content, str | None):
        raise unavailable(host, "sent an answer whose content is no text")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise unavailable(host, "sent an answer whose tool calls are none")
    return {name: field for name, field in given.items() if name != "role"}


def _finish_reason(choice: Mapping[str, Any], host: str) -> str | None:
    reason = choice.get("finish_reason")
    if reason is None or reason == "":
        return None
    if not isinstance(reason, str) or len(reason) > MAX_FINISH_REASON:
        raise unavailable(host, "ended its answer in a way that is not known")
    return reason


def _logprobs(choice: Mapping[str, Any]) -> Mapping[str, Any] | None:
    given = choice.get("logprobs")
    return given if isinstance(given, dict) else None
