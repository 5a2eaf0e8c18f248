"""The real runtime as a process of its own on free ports, and plain ways to talk to it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

START_SECONDS = 30.0
CHAT = "/v1/chat/completions"
FAST = {"mock": {"tokensPerSecond": 5000}, "access": {"requestsPerMinute": 1_000_000, "concurrentRequests": 1000}}
"""Settings under which a test is neither paced nor limited."""


def until(find: Callable[[], T], what: str, seconds: float = 10.0) -> T:
    """What `find` returns as soon as it is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
    return found


def question(text: str = "hello", **fields: Any) -> dict[str, Any]:
    """A chat request's body."""
    return {"messages": [{"role": "user", "content": text}], **fields}


@dataclass(frozen=True)
class Reply:
    """A complete HTTP answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The one value of a header; fails if it comes twice."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error in a body, which must have OpenAI's shape."""
        assert set(self.json) == {"error"}
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "code", "param"}
        assert error["message"]
        assert "Traceback" not in error["message"]
        if self.status in (429, 503):
            assert int(self.header("retry-after") or 0) >= 1
        return error


def events(body: bytes) -> list[Any]:
    """The events of a stream: parsed JSON, or the text of others; comments as `: …`."""
    found: list[Any] = []
    for block in body.decode().split("\n\n")[:-1]:
        if block.startswith("data: {"):
            found.append(json.loads(block[6:]))
        else:
            found.append(block.removeprefix("data: "))
    return found


class RuntimeProcess:
    """`python -m chatbot_runtime serve` (or `module`) with `settings` in the environment; a context manager.

    A setting whose name is in capitals is a variable of that very name: one that is not ours.
    """

    def __init__(self, module: str = "chatbot_runtime", **settings: object) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CHATBOT_")}
        environ |= {"CHATBOT_HOST": "127.0.0.1", "CHATBOT_PORT": "0", "CHATBOT_INTERNAL_PORT": "0"}
        environ |= {"CHATBOT_PRE_STOP_SECONDS": "0"}
        for name, value in settings.items():
            environ[name if name.isupper() else f"CHATBOT_{name.upper()}"] = str(value)
        command = [sys.executable, "-m", module, "serve"]
        self._process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line.rstrip("\n"))

    def __enter__(self) -> Self:
        try:
            until(lambda: self.logged("listening") or not self.alive, "the process listens", START_SECONDS)
            assert self.alive, "\n".join(self.lines)
            listening = self.logged("listening")[0]
            self.port, self.internal_port = listening["port"], listening["internal_port"]
            self.url = f"http://127.0.0.1:{self.port}"
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.alive:
            self.signal(signal.SIGINT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise
        self._reader.join(5)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float = 15) -> int:
        """The exit code; fails if it does not end."""
        code = self._process.wait(seconds)
        self._reader.join(5)
        return code

    def logged(self, message: str) -> list[dict[str, Any]]:
        """The log records with this message, so far."""
        records = [json.loads(line) for line in tuple(self.lines) if line.startswith("{")]
        return [record for record in records if record["msg"] == message]

    def request_log(self, identity: str) -> dict[str, Any]:
        """The request log's record of one request, as soon as it is there."""

        def found() -> list[dict[str, Any]]:
            return [record for record in self.logged("request") if record["id"] == identity]

        return until(found, f"the log has request {identity}")[0]

    def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, port: int = 0
    ) -> Reply:
        """One request on a connection of its own; `body` bytes, or a value sent as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=20)
        try:
            connection.request(method, path, data, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def ask(self, text: str = "hello", headers: Mapping[str, str] | None = None, **fields: Any) -> Reply:
        """One chat request."""
        return self.request("POST", CHAT, question(text, **fields), headers)

    def internal(self, path: str) -> Reply:
        """One GET on the internal port."""
        return self.request("GET", path, port=self.internal_port)

    def status(self) -> dict[str, Any]:
        """The body of `/status`."""
        status: dict[str, Any] = self.internal("/status").json
        return status

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = self.internal("/metrics").body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def connect(self) -> socket.socket:
        """A bare connection to the public port."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def send(self, text: str, **fields: Any) -> socket.socket:
        """A bare connection on which a streamed chat request was sent."""
        connection = self.connect()
        connection.sendall(chat_bytes(question(text, stream=True, **fields)))
        return connection


def chat_bytes(body: object, *headers: str) -> bytes:
    """A chat request as it is on the wire; `body` bytes, or a value sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {CHAT} HTTP/1.1", "Host: test", f"Content-Length: {len(data)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    """What arrives up to and including `mark`; fails if the peer closes before."""
    received = b""
    while mark not in received:
        piece = connection.recv(65536)
        assert piece, f"closed before {mark!r}: {received[-500:]!r}"
        received += piece
    return received


def read_all(connection: socket.socket) -> bytes:
    """What arrives until the peer closes the connection."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received
