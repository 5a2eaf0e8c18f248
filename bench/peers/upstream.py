"""The provider of phase hf for load: answers whole at once, streams on its clock, and checks nothing: it must be fast.

`python upstream.py ANSWER_FILE TOKENS_PER_SECOND TOKENS`; prints its port.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

import uvloop

ANSWER = json.loads(Path(sys.argv[1]).read_bytes())
PER_SECOND, TOKENS = float(sys.argv[2]), int(sys.argv[3])
CLOSE = b"connection: close"


def head(kind: bytes, *, more: bytes) -> bytes:
    """The head of an answer."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n" + more + b"\r\n\r\n"


def dump(value: object) -> bytes:
    """Compact JSON, as real servers write it."""
    return json.dumps(value, separators=(",", ":")).encode()


def event(choices: list[object], **more: object) -> bytes:
    """One event of a stream, as one piece of a chunked body."""
    same = {key: ANSWER[key] for key in ("id", "created", "model")}
    data = b"data: " + dump(same | {"object": "chat.completion.chunk", "choices": choices} | more) + b"\n\n"
    return piece(data)


def piece(data: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def choice(delta: dict[str, str], reason: str | None = None) -> list[object]:
    """The one choice of an event."""
    return [{"index": 0, "delta": delta, "finish_reason": reason}]


BODY = dump({key: value for key, value in ANSWER.items() if key != "chatbot"})
WHOLE = head(b"application/json", more=b"Content-Length: %d" % len(BODY)) + BODY
ROLE = event(choice({"role": "assistant", "content": ""}))
TOKEN = event(choice({"content": " word"}))
BEGIN = head(b"text/event-stream", more=b"Transfer-Encoding: chunked") + ROLE + TOKEN
END = event(choice({}, "stop")) + event([], usage=ANSWER["usage"]) + piece(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing has come yet."""
        self._transport, self._loop = cast("asyncio.Transport", transport), asyncio.get_running_loop()
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answers as soon as a request is complete."""
        self._buffer += data
        top, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        top = top.lower() + b"\r\n"
        _, _, length = top.partition(b"content-length: ")
        if len(body) < int(length.partition(b"\r\n")[0] or 0):
            return
        self._buffer, self._closes = b"", CLOSE in top
        if b'"stream":true' in body or b'"stream": true' in body:
            self._begun, self._said = self._loop.time(), 1
            self._transport.write(BEGIN)
            self._later()
        else:
            self._end(WHOLE)

    def _later(self) -> None:
        self._loop.call_at(self._begun + self._said / PER_SECOND, self._next)

    def _next(self) -> None:
        if self._transport.is_closing():
            return
        if self._said == TOKENS:
            self._end(END)
            return
        self._said += 1
        self._transport.write(TOKEN)
        self._later()

    def _end(self, last: bytes) -> None:
        self._transport.write(last)
        if self._closes:
            self._transport.close()


async def serve() -> None:
    """Until it is killed."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
