"""Too much, too many, too slow: each is ended or refused, and the others notice nothing."""

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.runtime_process import CHAT, FAST, RuntimeProcess, chat_bytes, question, read_all, read_until, until
from tests.web.backend import Stream
from tests.web.conftest import Site
from tests.web.nginx_process import Nginx

HEAD = chat_bytes(question("hello", stream=True))
CHUNKED = HEAD.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
STATIC = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
SLOW: dict[str, tuple[bytes, bytes]] = {
    "silent": (b"", b""),
    "half a head": (HEAD[:40], b""),
    "half a body": (HEAD[:-5], b""),
    "dripping head": (b"", b"GET / HTTP/1.1\r\n"),
    "dripping header": (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"x"),
    "dripping body": (CHUNKED, b"1\r\n \r\n"),
    "dripping body for a file": (STATIC, b"x"),
    "no TLS here": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""),
}
ENDED_WITHIN = 8.0


@pytest.fixture
def strict(serve: Callable[..., Nginx], site: Site) -> Nginx:
    """nginx that waits for nobody, before a runtime that does not either."""
    return serve(site.backend.port, header_seconds=1, body_seconds=1, send_seconds=1)


def ended(nginx: Nginx, first: bytes, drip: bytes) -> float:
    """Seconds until a slow connection is closed."""
    began = time.monotonic()
    with nginx.connect() as connection:
        connection.sendall(first)
        connection.settimeout(0.2)
        while time.monotonic() < began + ENDED_WITHIN * 2:
            try:
                if connection.recv(65536) == b"":
                    break
            except TimeoutError:
                with suppress(OSError):
                    connection.sendall(drip[:1])
                    drip = drip[1:] + drip[:1]
            except OSError:
                break
    return time.monotonic() - began


def test_slow_clients_are_ended(serve: Callable[..., Nginx], tmp_path: Path) -> None:
    (settings := tmp_path / "settings.json").write_text(json.dumps(FAST))
    with RuntimeProcess(settings_file=settings, body_seconds=1) as runtime, ThreadPoolExecutor(32) as pool:
        nginx = serve(runtime.port, header_seconds=1, body_seconds=1, send_seconds=1)
        waits = {name: pool.submit(ended, nginx, *bad) for name, bad in SLOW.items() for _ in range(4)}
        good = [nginx.ask("hello").status for _ in range(20)]
        took = {name: wait.result() for name, wait in waits.items()}
    assert good == [200] * 20
    assert {name: seconds for name, seconds in took.items() if seconds > ENDED_WITHIN} == {}


def test_a_client_that_does_not_read_is_ended_and_the_backend_learns_of_it(site: Site, strict: Nginx) -> None:
    stream = site.backend.next(Stream())
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", strict.port))
        connection.sendall(HEAD)

        def gone() -> bool:
            stream.say("x" * 1_000_000)
            return stream.gone.wait(0.1)

        until(gone, "the backend's stream is ended")


def test_a_client_that_reads_slowly_gets_everything(site: Site, strict: Nginx) -> None:
    stream = site.backend.next(Stream())
    for _ in range(10):
        stream.say("x" * 10_000)
    stream.end()
    received = b""
    with strict.send("hello") as connection:
        while b"[DONE]" not in received:
            piece = connection.recv(4096)
            assert piece, "it was cut"
            received += piece
            threading.Event().wait(0.02)
    assert received.count(b"x") >= 100_000


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_413_in_the_apis_shape(
    serve: Callable[..., Nginx], site: Site, chunked: bool
) -> None:
    nginx = serve(site.backend.port, max_body_bytes=2000)
    body = b'{"messages":[{"role":"user","content":"%s"}]}' % (b"x" * 4000)
    if not chunked:
        reply = nginx.request("POST", CHAT, body)
        assert (reply.status, reply.error["code"]) == (413, "request_too_large")
        assert "2000 bytes" in reply.error["message"]
    else:
        with nginx.connect() as connection:
            connection.sendall(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            assert b" 413 " in read_until(connection, b"\r\n")
    assert site.backend.asked == []


def test_more_requests_than_allowed_are_refused_with_a_time(serve: Callable[..., Nginx], site: Site) -> None:
    nginx = serve(site.backend.port, max_requests=3)
    streams = [site.backend.next(Stream()) for _ in range(3)]
    connections = [nginx.send("hello") for _ in streams]
    for stream in streams:
        stream.say("one")
    for connection in connections:
        read_until(connection, b"one")
    reply = nginx.ask("one more")
    assert (reply.status, reply.error["code"], reply.header("retry-after")) == (503, "overloaded", "5")
    assert nginx.get("/").status == 200, "the page is not an answer"
    assert nginx.get("/healthz").status == 200
    for stream in streams:
        stream.end()
    for connection in connections:
        read_until(connection, b"[DONE]")
        connection.close()
    until(lambda: nginx.ask("now").status == 200, "there is room again")


def test_one_address_cannot_take_all_where_addresses_are_the_clients(serve: Callable[..., Nginx], site: Site) -> None:
    nginx = serve(site.backend.port, max_requests_per_address=1)
    stream = site.backend.next(Stream())
    with nginx.send("hello") as connection:
        stream.say("one")
        read_until(connection, b"one")
        assert nginx.ask("a second").status == 503
        with socket.create_connection(("127.0.0.1", nginx.port), 10, source_address=("127.0.0.2", 0)) as other:
            other.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert read_all(other).startswith(b"HTTP/1.1 200")
        stream.end()
        read_until(connection, b"[DONE]")


def test_many_streams_at_once_all_come_to_their_end(site: Site) -> None:
    count = 100
    answers = [site.backend.next(Stream()).say("one") for _ in range(count)]
    connections = [site.nginx.send("hello") for _ in range(count)]
    for connection in connections:
        read_until(connection, b"one")
    for answer in answers:
        answer.say("two").end()
    for connection in connections:
        assert b"two" in read_until(connection, b"[DONE]")
        connection.close()
