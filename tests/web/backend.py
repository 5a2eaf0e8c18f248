"""A backend that does what a test tells it, step by step. It must not decide anything by time."""

import json
import queue
import socket
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.support.runtime_process import until

READY = {"chatbot": "demo", "phase": "hf", "fallback": None, "download": None}


@dataclass
class Refusal:
    """An answer that is no stream."""

    status: int
    code: str = "error"
    message: str = "It cannot be answered."
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Instead of an error of OpenAI's shape."""

    def content(self) -> bytes:
        """The body."""
        if self.body is not None:
            return self.body
        error = {"message": self.message, "type": "server_error", "code": self.code, "param": None}
        return json.dumps({"error": error}).encode()


class Stream:
    """An answer that goes on when the test says something."""

    def __init__(self, model: str = "tiny", fallback: str | None = None, *, header: bool = False) -> None:
        self.model, self.fallback = model, fallback
        self.headers = {"x-chatbot-fallback": fallback} if fallback and header else {}
        self.in_chunk = not header
        self.begun = threading.Event()
        self.gone = threading.Event()
        """The client went away."""
        self._steps: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def say(self, *texts: str) -> Self:
        """Sends a piece of the answer."""
        for text in texts:
            self._chunk({"content": text})
        return self

    def say_until_gone(self, text: str) -> None:
        """Speaks on until the client is seen to have gone: only a write after its end tells that."""

        def gone() -> bool:
            self.say(text)
            return self.gone.is_set()

        until(gone, "the backend learns that its client has gone")

    def raw(self, data: bytes) -> Self:
        """Sends bytes as they are."""
        self._steps.put(data)
        return self

    def end(self, reason: str = "stop") -> Self:
        """A proper end."""
        self._chunk({}, reason)
        return self.raw(b"data: [DONE]\n\n").close()

    def fail(self, message: str, code: str) -> Self:
        """An error in the middle."""
        self.raw(b"data: " + Refusal(503, code, message).content() + b"\n\n")
        return self.close()

    def close(self) -> Self:
        """The end of the bytes; by itself, an answer that is cut."""
        self._steps.put(None)
        return self

    def _chunk(self, delta: dict[str, str], reason: str | None = None) -> None:
        chunk = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
        if self.in_chunk:
            chunk["chatbot"] = {"phase": "hf", "fallback": self.fallback}
        self._steps.put(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def write(self, handler: BaseHTTPRequestHandler) -> None:
        """Runs in the server's thread."""
        self.begun.set()
        try:
            while (step := self._steps.get()) is not None:
                handler.wfile.write(step)
                handler.wfile.flush()
        except OSError:
            self.gone.set()


def whole(text: str, **fields: Any) -> Stream:
    """A complete answer."""
    return Stream(**fields).say(text).end()


@dataclass
class Asked:
    """A chat request as it arrived."""

    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def last(self) -> str:
        """The newest message."""
        text: str = self.body["messages"][-1]["content"]
        return text


class Backend:
    """A context manager. `plan` holds the next answers; without one, the question is echoed."""

    def __init__(self, port: int = 0) -> None:
        self.plan: deque[Refusal | Stream] = deque()
        self.models: list[str] = ["tiny"]
        self.status: dict[str, Any] | Refusal = dict(READY)
        self.key: str | None = None
        self.asked: list[Asked] = []
        self.lines: list[str] = []
        """Method and path of every request."""
        self.connections: list[socket.socket] = []
        self.hold: threading.Event | None = None
        """While it is there and not set, models and status are not answered."""
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def next(self, answer: Stream) -> Stream:
        """Plans a stream, and gives it to be driven."""
        self.plan.append(answer)
        return answer

    def wait_asked(self, count: int) -> Asked:
        """The `count`-th chat request, as soon as it is there."""
        until(lambda: len(self.asked) >= count, f"{count} questions arrived")
        return self.asked[count - 1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


def _handler(backend: Backend) -> type[BaseHTTPRequestHandler]:
    """The handler of one backend."""
    return type("Handler", (_Handler,), {"backend": backend})


class _Handler(BaseHTTPRequestHandler):
    backend: Backend
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.backend.connections.append(self.connection)

    def log_request(self, *_: Any) -> None:
        self.backend.lines.append(f"{self.command} {self.path}")

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.backend.lines.append("the client was gone")

    def do_GET(self) -> None:
        if self.backend.hold is not None:
            self.backend.hold.wait(60)
        if self.path == "/v1/status":
            self._refuse_or_send(self.backend.status)
        elif not self._allowed():
            return
        elif self.path == "/v1/models":
            data = [{"id": model, "object": "model"} for model in self.backend.models]
            self._refuse_or_send({"object": "list", "data": data})
        else:
            self._refuse_or_send(Refusal(404, "not_found"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._allowed():
            return
        asked = Asked(body, {name.lower(): value for name, value in self.headers.items()})
        answer = self.backend.plan.popleft() if self.backend.plan else whole(f"You said: {asked.last}")
        self.backend.asked.append(asked)
        if isinstance(answer, Refusal):
            self._refuse_or_send(answer)
            return
        self.close_connection = True
        self.send_response(200)
        headers = {"content-type": "text/event-stream", "connection": "close", "x-accel-buffering": "no"}
        for name, value in (headers | answer.headers).items():
            if value:
                self.send_header(name, value)
        self.send_header("x-request-id", self.headers["x-request-id"])
        self.end_headers()
        answer.write(self)

    def _allowed(self) -> bool:
        if self.backend.key is None or self.headers["authorization"] == f"Bearer {self.backend.key}":
            return True
        self._refuse_or_send(Refusal(401, "invalid_api_key", "The API key is missing or wrong."))
        return False

    def _refuse_or_send(self, value: Refusal | dict[str, Any]) -> None:
        answer = value if isinstance(value, Refusal) else Refusal(200, body=json.dumps(value).encode())
        content = answer.content()
        self.send_response(answer.status)
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        headers["x-request-id"] = self.headers["x-request-id"] or "none"
        for name, text in (headers | answer.headers).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)
