"""Streams through nginx: at once, to the end, and over when the client is gone; and the connections behind it."""

import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.runtime_process import RuntimeProcess, chat_bytes, question, read_all, read_until, until
from tests.web.backend import Backend, Stream
from tests.web.conftest import Site
from tests.web.nginx_process import Nginx


@pytest.mark.parametrize("asked_not_to", ["no", ""])
def test_each_event_goes_out_at_once(site: Site, asked_not_to: str) -> None:
    """Also where the backend does not ask for it."""
    stream = site.backend.next(Stream())
    stream.headers["x-accel-buffering"] = asked_not_to
    with site.nginx.send("hello") as connection:
        for word in ("one", "two", "three"):
            # The next is only said when this one has arrived.
            stream.say(word)
            assert word.encode() in read_until(connection, b"}\n\n")
        stream.end()
        read_until(connection, b"[DONE]")


def test_a_proxy_in_front_is_told_not_to_collect(serve: Callable[..., Nginx], runtime: RuntimeProcess) -> None:
    assert serve(runtime.port).ask(stream=True).header("x-accel-buffering") == "no"


def test_a_second_nginx_in_front_does_not_collect(site: Site, serve: Callable[..., Nginx]) -> None:
    outer = serve(site.nginx.port)
    conf = outer.config / "nginx.conf"
    conf.write_text(conf.read_text().replace("proxy_buffering off;", "proxy_buffering on;"))
    outer.signal(signal.SIGHUP)
    stream = site.backend.next(Stream())

    with outer.send("hello") as connection:
        stream.say("one")
        assert b"one" in read_until(connection, b"}\n\n")
        stream.say("two").end()
        read_until(connection, b"[DONE]")


def test_heartbeats_go_through(serve: Callable[..., Nginx], scripted: RuntimeProcess) -> None:
    with serve(scripted.port).send("wait 1; say x") as connection:
        assert b"HTTP/1.1 200" in read_until(connection, b": ping\n\n")


def test_a_client_that_goes_away_reaches_the_runtime(serve: Callable[..., Nginx], scripted: RuntimeProcess) -> None:
    nginx = serve(scripted.port)
    for script, mark in (("say half; wait 60; say never", b"half"), ("wait 60; say never", b": ping")):
        before = len(scripted.logged("aborted"))
        connection = nginx.send(script)
        read_until(connection, mark)
        connection.close()
        until(partial(aborted_after, scripted, before), "the provider is stopped", 2)


def aborted_after(scripted: RuntimeProcess, before: int) -> bool:
    """Whether the provider was stopped once more."""
    return len(scripted.logged("aborted")) > before


def test_a_stream_that_breaks_off_is_not_made_to_look_whole(site: Site) -> None:
    site.backend.next(Stream()).say("half").close()
    with site.nginx.connect() as connection:
        connection.sendall(chat_bytes(question("hello", stream=True), "Connection: close"))
        body = read_all(connection)
    assert b"half" in body
    assert b"[DONE]" not in body


@pytest.mark.parametrize("streams", [1, 20])
def test_sigquit_lets_streams_finish(site: Site, streams: int) -> None:
    answers = [site.backend.next(Stream()) for _ in range(streams)]
    connections = [site.nginx.send("hello") for _ in range(streams)]
    for answer in answers:
        answer.say("one")
    for connection in connections:
        read_until(connection, b"one")
    site.nginx.signal(signal.SIGQUIT)
    until(lambda: not listens(site.nginx), "no new connections")
    for answer in answers:
        answer.say("two").end()
    for connection in connections:
        rest = read_all(connection)
        assert b"two" in rest
        assert b"[DONE]" in rest
        connection.close()
    assert site.nginx.wait() == 0


def listens(nginx: Nginx) -> bool:
    """Whether a connection comes about."""
    try:
        nginx.connect().close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_pod_that_is_about_to_stop_closes_its_connections_after_an_answer(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.nginx.port, timeout=10)

    def answered() -> str | None:
        connection.request("GET", "/v1/models%2Fx?q=a%20b")
        response = connection.getresponse()
        response.read()
        return response.getheader("connection")

    assert answered() == "keep-alive"
    (site.nginx.scratch / "draining").touch()
    assert answered() == "close"
    assert site.backend.lines[-2:] == ["GET /v1/models%2Fx?q=a%20b"] * 2, "the address was changed"
    assert site.nginx.get("/_draining").status == 404
    stream = site.backend.next(Stream()).say("one").end()
    with site.nginx.send("hello") as streaming:
        assert b"[DONE]" in read_all(streaming)
    assert stream.begun.is_set()


def test_addresses_go_through_as_they_are(site: Site) -> None:
    for path in ("/v1/models/Qwen%2FQwen3-4B", "/v1/models/a%20b?x=%2F&y", "/v1/x//y", "/v1/%C3%A9"):
        site.nginx.get(path)
        assert site.backend.lines[-1] == f"GET {path}"


def test_the_clients_address_is_appended(site: Site) -> None:
    for given, sent in ((None, "127.0.0.1"), ("10.1.2.3", "10.1.2.3, 127.0.0.1"), ("a, b", "a, b, 127.0.0.1")):
        site.nginx.ask(headers={"x-forwarded-for": given} if given else {})
        assert site.backend.asked[-1].headers["x-forwarded-for"] == sent


def test_what_a_client_sends_along_reaches_the_backend(site: Site) -> None:
    sent = {"authorization": "Bearer sk", "x-chatbot-fallback": "none", "origin": "http://x", "x-request-id": "my-id"}
    site.nginx.ask(headers=sent)
    got = site.backend.asked[-1].headers
    assert {name: got[name] for name in sent} == sent


def test_connections_to_the_backend_are_used_again_and_not_kept_for_long(
    serve: Callable[..., Nginx], site: Site
) -> None:
    nginx = serve(site.backend.port, reuse_seconds=1, workers=1)
    for _ in range(20):
        assert nginx.get("/v1/models").status == 200
    assert len(site.backend.connections) == 1
    idle = time.monotonic()
    until(lambda: connections_to(site.backend.port) == 0, "the connection is closed by nginx", 4)
    assert time.monotonic() - idle > 0.5
    assert nginx.get("/v1/models").status == 200
    assert len(site.backend.connections) == 2


def connections_to(port: int) -> int:
    """Established TCP connections of this machine to a port on loopback."""
    with open("/proc/net/tcp") as table:  # noqa: PTH123 - the kernel's
        rows = [line.split() for line in table][1:]
    return sum(1 for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "01")


def test_a_stream_ends_when_its_backend_falls_silent_for_too_long(serve: Callable[..., Nginx], site: Site) -> None:
    nginx = serve(site.backend.port, read_seconds=1)
    site.backend.next(Stream()).say("half")
    with nginx.send("hello") as connection:
        body = read_all(connection)
    assert b"half" in body
    assert b"[DONE]" not in body


def test_a_backend_that_ends_between_two_requests_costs_none(serve: Callable[..., Nginx], site: Site) -> None:
    nginx = serve(site.backend.port)
    port = site.backend.port
    assert nginx.get("/v1/models").status == 200
    site.backend.__exit__(None, None, None)
    with Backend(port):
        assert nginx.get("/v1/models").status == 200


def test_a_body_goes_through_while_it_arrives(site: Site, serve: Callable[..., Nginx]) -> None:
    """Collected first, a body that drips would never reach the runtime's deadline."""
    arrived = threading.Event()
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            connection, _ = server.accept()
            with connection:
                while not received or b"first" not in b"".join(received):
                    received.append(connection.recv(65536))
                arrived.set()
                connection.sendall(b"HTTP/1.1 408 X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        nginx = serve(server.getsockname()[1])
        with nginx.connect() as client:
            whole = chat_bytes(question("first" + "x" * 50_000))
            client.sendall(whole[:2000])
            assert arrived.wait(10), "the body was held back"
            assert b"HTTP/1.1 408" in read_until(client, b"{}")
        thread.join(5)
