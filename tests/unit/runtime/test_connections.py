"""Malformed, huge, slow, half-sent, unread and aborted requests, on bare connections."""

import gzip
import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chatbot_runtime.connections import BUFFER_BYTES
from chatbot_runtime.internal_api import MAX_CONNECTIONS
from tests.support.runtime_process import (
    CHAT,
    FAST,
    RuntimeProcess,
    chat_bytes,
    events,
    question,
    read_all,
    read_until,
    until,
)

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


def answer_to(process: RuntimeProcess, data: bytes) -> bytes:
    """What comes back until the server closes; the test fails if it does not."""
    with process.connect() as connection:
        connection.sendall(data)
        return read_all(connection)


def abort(connection: socket.socket) -> None:
    """Closes with a reset, as a killed client's kernel does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer private\x00key\r\n\r\n",
        HEAD + b"Content-Length: -5\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_a_400_and_the_connection_is_closed(mock: RuntimeProcess, data: bytes) -> None:
    answer = answer_to(mock, data)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
    assert b"private" not in answer
    assert "private" not in "\n".join(mock.lines)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b"Content-Encoding: gzip\r\nContent-Length: 9", b"not gzip!"),
        (b"Transfer-Encoding: chunked", b"zz\r\n"),
        (b"Transfer-Encoding: chunked", b"2\r\n{}\r\nzz\r\n"),
    ],
)
def test_a_body_that_does_not_fit_its_headers_is_refused(mock: RuntimeProcess, header: bytes, body: bytes) -> None:
    with mock.connect() as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\n" + header + b"\r\n\r\n")
        read_until(connection, b"100 Continue\r\n\r\n")  # so the handler waits for the body already
        connection.sendall(body)
        answer = read_until(connection, b"}}")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_body"
    assert not [line for line in mock.lines if "Traceback" in line]


def test_a_body_over_the_limit_gets_a_413_before_it_is_sent_or_while_it_is(mock: RuntimeProcess) -> None:
    def refusal(data: bytes) -> bytes:
        with mock.connect() as connection:
            connection.sendall(data)
            return read_until(connection, b"}}")

    declared = refusal(HEAD + b"Content-Length: 9000000\r\n\r\n{")
    assert declared.startswith(b"HTTP/1.1 413 ")
    assert json.loads(declared.partition(b"\r\n\r\n")[2])["error"]["param"] == "body"
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    undeclared = refusal(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 5)
    assert undeclared.startswith(b"HTTP/1.1 413 ")


def test_a_compressed_body_is_measured_as_it_is_read(mock: RuntimeProcess) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 60_000
    reply = mock.request("POST", CHAT, bomb, {"Content-Encoding": "gzip"})
    assert reply.status == 413
    fine = gzip.compress(json.dumps(question()).encode())
    assert mock.request("POST", CHAT, fine, {"Content-Encoding": "gzip"}).status == 200


def test_a_body_at_the_limit_is_answered(mock: RuntimeProcess) -> None:
    room = 65_536 - len(json.dumps(question("")))
    assert mock.ask("x" * room).status == 200
    assert mock.ask("x" * (room + 1)).status == 413


def test_a_broken_request_behind_a_good_one_does_not_harm_it(scripted: RuntimeProcess) -> None:
    with scripted.send("say a; wait 0.2; say b") as connection:
        read_until(connection, b'"a"')
        connection.sendall(b"zz\r\n\r\n")
        rest = read_all(connection)
    assert b'"b"' in rest.partition(b"data: [DONE]")[0]
    assert rest.partition(b"data: [DONE]")[2].count(b"HTTP/1.0 400 ") == 1


def test_connections_that_are_ended_are_counted_by_cause(mock: RuntimeProcess) -> None:
    def count(cause: str) -> float:
        lines = mock.internal("/metrics").body.decode().splitlines()
        name = f'chatbot_runtime_connections_ended_total{{cause="{cause}"}} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    broken, late = count("invalid_http"), count("header_timeout")
    answer_to(mock, b"hello\r\n\r\n")
    answer_to(mock, b"GET / HT")
    assert (count("invalid_http"), count("header_timeout")) == (broken + 1, late + 1)


def test_the_internal_port_ends_slow_connections_and_bounds_their_number(mock: RuntimeProcess) -> None:
    with ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection(("127.0.0.1", mock.internal_port), timeout=20))
            for _ in range(MAX_CONNECTIONS)
        ]
        held[0].sendall(b"GET /livez HT")
        with socket.create_connection(("127.0.0.1", mock.internal_port), timeout=20) as extra:
            assert read_all(extra).startswith(b"HTTP/1.1 503 ")
        assert mock.ask().status == 200
        assert [read_all(connection) for connection in held] == [b""] * MAX_CONNECTIONS
    assert mock.internal("/livez").status == 200


def drip(connection: socket.socket, data: bytes) -> float:
    """Sends a byte at a time until the server has had enough; returns how long that took, in seconds."""
    connection.settimeout(0.05)
    begin = time.monotonic()
    for byte in data * 100:
        try:
            connection.sendall(bytes([byte]))
            if not connection.recv(65536):
                break
        except TimeoutError:
            continue
        except OSError:
            break
        assert time.monotonic() - begin < 15, "still open"
    return time.monotonic() - begin


def test_a_dripping_head_is_ended(mock: RuntimeProcess) -> None:
    with mock.connect() as connection:
        assert 0.8 < drip(connection, b"GET / HTTP/1.1\r\nX-Slow: " + b"y" * 50) < 4


def test_a_dripping_body_gets_a_408_and_is_ended(mock: RuntimeProcess) -> None:
    with mock.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\n")
        connection.settimeout(5)
        for _ in range(8):
            connection.sendall(b" ")
            time.sleep(0.05)  # the pace of the attack, not a wait
        answer = read_until(connection, b"}}")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"request_timeout"' in answer
        assert drip(connection, b" " * 50) < 5


@pytest.mark.parametrize("data", [b"", b"GET", HEAD, HEAD + b"Content-Length: 50\r\n\r\n{"])
def test_a_client_that_stops_half_way_is_ended(mock: RuntimeProcess, data: bytes) -> None:
    begin = time.monotonic()
    answer_to(mock, data)
    assert 0.8 < time.monotonic() - begin < 5


def test_an_idle_connection_is_closed_after_a_while_and_used_again_before(mock: RuntimeProcess) -> None:
    with mock.connect() as connection:
        for _ in range(3):
            connection.sendall(chat_bytes(question()))
            read_until(connection, b'"fallback":null}}')
        begin = time.monotonic()
        assert connection.recv(10) == b""
        assert 1.5 < time.monotonic() - begin < 5


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """Room for two answers, two waiting requests and eight connections; long, slow replies."""
    settings = tmp_path_factory.mktemp("small") / "settings.json"
    slow = {"mock": {"replies": ["word " * 5000], "tokensPerSecond": 20}}
    settings.write_text(json.dumps(FAST | slow))
    with RuntimeProcess(
        settings_file=settings, max_running=2, max_queue=2, queue_seconds=1.5, max_connections=8, header_seconds=1
    ) as process:
        yield process


def test_a_dripping_head_after_a_first_request_is_ended_as_soon(small: RuntimeProcess) -> None:
    with small.connect() as connection:
        connection.sendall(chat_bytes(question()))
        read_until(connection, b'"fallback":null}}')
        assert 0.8 < drip(connection, b"GET / HTTP/1.1\r\nX-Slow: " + b"y" * 50) < 4


def idle(process: RuntimeProcess) -> None:
    """Waits until nothing runs, waits or is connected."""
    names = ("running_requests", "queued_requests", "connections")
    until(lambda: not any(process.metric(f"chatbot_runtime_{name}") for name in names), "nothing is left", 5)


@pytest.mark.parametrize("leave", [socket.socket.close, abort], ids=["close", "reset"])
def test_a_client_that_leaves_frees_its_slot(small: RuntimeProcess, leave: object) -> None:
    streaming = [small.send("a") for _ in range(2)]
    for connection in streaming:
        read_until(connection, b"word")
    waiting = small.send("b")
    until(lambda: small.metric("chatbot_runtime_queued_requests") == 1, "one waits")
    assert callable(leave)
    leave(waiting)
    until(lambda: small.metric("chatbot_runtime_queued_requests") == 0, "the waiting one is gone", 1)
    for connection in streaming:
        leave(connection)
    until(lambda: small.metric("chatbot_runtime_running_requests") == 0, "the streaming ones are gone", 2)
    idle(small)


def test_a_client_that_leaves_while_a_whole_answer_is_made_frees_its_slot(scripted: RuntimeProcess) -> None:
    before = len(scripted.logged("aborted"))
    connection = scripted.connect()
    connection.sendall(chat_bytes(question("wait 1.8; say a")))
    until(lambda: scripted.metric("chatbot_runtime_running_requests") == 1, "it runs")
    connection.close()
    until(lambda: len(scripted.logged("aborted")) == before + 1, "the work is ended", 1)
    assert until(lambda: [line for line in scripted.logged("request") if line["status"] == 499], "it is in the log")


def test_over_the_limit_requests_wait_and_over_the_queue_they_are_refused_at_once(small: RuntimeProcess) -> None:
    idle(small)
    with ExitStack() as stack:
        running = [stack.enter_context(small.send("a")) for _ in range(2)]
        for connection in running:
            read_until(connection, b"word")
        queued = [stack.enter_context(small.send("b")) for _ in range(2)]
        until(lambda: small.metric("chatbot_runtime_queued_requests") == 2, "two wait")
        begin = time.monotonic()
        refused = small.ask("c")
        assert time.monotonic() - begin < 0.5
        assert (refused.status, refused.error["code"]) == (503, "overloaded")
        running[0].close()
        assert b" 200 " in read_until(queued[0], b"word").split(b"\r\n")[0]
        late = read_until(queued[1], b"}}")
        assert late.startswith(b"HTTP/1.1 503 ")
        assert late.count(b"Retry-After:") == 1
    idle(small)


def test_connections_over_the_limit_are_refused_and_the_others_go_on(small: RuntimeProcess) -> None:
    idle(small)
    with ExitStack() as stack:
        speaker = stack.enter_context(small.send("a"))
        read_until(speaker, b"word")
        held = [stack.enter_context(small.connect()) for _ in range(7)]
        until(lambda: small.metric("chatbot_runtime_connections") == 8, "all are open")
        with small.connect() as extra:
            refusal = read_all(extra)
        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert json.loads(refusal.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_many_connections"
        read_until(speaker, b"word")
        held[0].close()
        until(lambda: small.metric("chatbot_runtime_connections") == 7, "one has left")
        assert small.request("GET", "/v1/status").status == 200
    idle(small)


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """Answers of 200 kB for one who asks for all of it, as fast as they are taken."""
    settings = tmp_path_factory.mktemp("chatty") / "settings.json"
    settings.write_text(json.dumps(FAST | {"mock": {"replies": ["word " * 40_000], "tokensPerSecond": 1_000_000}}))
    with RuntimeProcess(settings_file=settings, write_seconds=1) as process:
        yield process


def with_little_room(process: RuntimeProcess) -> socket.socket:
    """A connection whose client takes only a few kilobytes before it has read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", process.port))
    return connection


def sip(connection: socket.socket) -> float:
    """Reads a little now and then until the server resets the connection; returns how long that took, in seconds."""
    begin = time.monotonic()
    try:
        while connection.recv(512):
            time.sleep(0.02)  # the pace of the attack, not a wait
            assert time.monotonic() - begin < 15, "still served"
    except ConnectionResetError:
        return time.monotonic() - begin
    raise AssertionError("closed in an orderly way, with all that was waiting to be read")


def test_a_client_that_reads_almost_nothing_is_ended(chatty: RuntimeProcess) -> None:
    with with_little_room(chatty) as connection:
        connection.sendall(chat_bytes(question(stream=True)))
        assert 0.8 < sip(connection) < 8
    until(lambda: chatty.metric("chatbot_runtime_running_requests") == 0, "its request is ended", 1)


def unsent(process: RuntimeProcess) -> int:
    """Bytes that the kernel holds of what the process has sent (proc_net_tcp of Linux's documentation)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[0], 16) for row in rows if row[1].endswith(f":{process.port:04X}"))


def test_what_nobody_reads_does_not_pile_up_in_the_kernel(chatty: RuntimeProcess) -> None:
    """On the pod's memory, and where the runtime does not see that its client takes nothing."""
    idle(chatty)
    seen = [0]

    def over() -> bool:
        seen.append(unsent(chatty))
        return bool(chatty.metric("chatbot_runtime_connections") == 0 and max(seen))

    with with_little_room(chatty) as connection:
        connection.sendall(chat_bytes(question(stream=True, max_tokens=40_000)))
        until(over, "the connection is ended")
    assert BUFFER_BYTES / 2 < max(seen) < 4 * BUFFER_BYTES


def test_a_client_that_never_reads_a_complete_answer_is_ended(chatty: RuntimeProcess) -> None:
    """The answer is in the kernel's buffers already, where only the kernel can see that nobody takes it."""
    with with_little_room(chatty) as connection:
        connection.sendall(chat_bytes(question(stream=True, max_tokens=300)))
        until(lambda: chatty.metric("chatbot_runtime_connections") == 1, "it is connected")
        until(lambda: chatty.metric("chatbot_runtime_running_requests") == 0, "it is answered", 3)
        until(lambda: chatty.metric("chatbot_runtime_connections") == 0, "the connection is closed", 8)


def test_a_client_that_reads_gets_all_of_a_long_answer(chatty: RuntimeProcess) -> None:
    assert len(events(chatty.ask(stream=True, max_tokens=15_000).body)) > 15_000


def test_pipelined_requests_are_answered_in_order(mock: RuntimeProcess) -> None:
    with mock.connect() as connection:
        connection.sendall(b"".join(chat_bytes(question(), f"x-request-id: pipe-{n}") for n in range(50)))
        received = read_until(connection, b"pipe-49")
    ids = [line.split()[1] for line in received.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert ids == [b"pipe-%d" % n for n in range(50)]


def test_many_aborted_requests_leave_nothing_behind(mock: RuntimeProcess) -> None:
    def files() -> int:
        return len(list(Path(f"/proc/{mock.pid}/fd").iterdir()))

    mock.ask()
    before = files()
    for length in (0, 10, 60, 100, 200):
        for _ in range(20):
            connection = mock.connect()
            connection.sendall(chat_bytes(question(stream=True))[:length])
            abort(connection)
    until(lambda: mock.metric("chatbot_runtime_connections") == 0, "all are gone", 5)
    until(lambda: files() <= before, "no file is left open")
    assert mock.ask().status == 200
