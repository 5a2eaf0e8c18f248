"""What nginx answers by itself, and what it adds to every answer."""

import gzip
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chatbot_operator.desired.nginx import Page, WebServer, nginx_conf
from tests.support.runtime_process import CHAT, Reply, RuntimeProcess, question, read_all
from tests.web import tools
from tests.web.backend import Backend, Refusal
from tests.web.conftest import Site
from tests.web.nginx_process import Nginx, free_port

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; font-src 'self'; "
    "manifest-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-dns-prefetch-control": "off",
}


def bare(nginx: Nginx, data: bytes) -> Reply:
    """The answer to bytes that no client library sends."""
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=20) as connection:
        connection.sendall(data)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:])]
    return Reply(int(lines[0].split()[1]), headers, body)


def assets() -> list[str]:
    """The addresses of the build's files."""
    return [f"/assets/{path.name}" for path in (tools.page() / "assets").iterdir() if path.suffix in (".js", ".css")]


ANSWERS: dict[str, tuple[int, Callable[[Nginx], Reply]]] = {
    "page": (200, lambda n: n.get("/")),
    "file": (200, lambda n: n.get(assets()[0])),
    "config": (200, lambda n: n.get("/config.json")),
    "health": (200, lambda n: n.get("/healthz")),
    "not modified": (304, lambda n: n.get("/", If_None_Match=n.get("/").header("etag") or "")),
    "missing file": (404, lambda n: n.get("/assets/index-old.js")),
    "missing page": (404, lambda n: n.get("/wp-admin")),
    "inner address": (404, lambda n: n.get("/_errors/404")),
    "inner address of draining": (404, lambda n: n.get("/_draining")),
    "wrong method": (405, lambda n: n.request("POST", "/", b"x")),
    "no HTTP": (400, lambda n: bare(n, b"\x16\x03\x01\x02\r\n\r\n")),
    "no host": (400, lambda n: bare(n, b"GET / HTTP/1.1\r\n\r\n")),
    "long address": (414, lambda n: n.get("/" + "x" * 40_000)),
    "large headers": (431, lambda n: n.get("/", X_Large="x" * 40_000)),
    "large body": (413, lambda n: n.request("POST", CHAT, b"x" * 5_000_000)),
    "models": (200, lambda n: n.get("/v1/models")),
    "answer": (200, lambda n: n.ask()),
    "stream": (200, lambda n: n.ask(stream=True)),
    "runtime's refusal": (400, lambda n: n.request("POST", CHAT, b"{")),
    "runtime's 404": (404, lambda n: n.get("/v1/nothing")),
}


@pytest.fixture(scope="module")
def front(runtime: RuntimeProcess) -> Nginx:
    """nginx before the real runtime."""
    nginx = Nginx(runtime.port)
    nginx.__enter__()
    return nginx


@pytest.fixture(scope="module", autouse=True)
def _stopped(front: Nginx) -> object:
    yield
    front.__exit__(None, None, None)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_has_every_header_once(front: Nginx, name: str) -> None:
    status, ask = ANSWERS[name]
    reply = ask(front)
    assert reply.status == status
    for header, value in HEADERS.items():
        assert reply.header(header) == value, header
    assert reply.header("x-request-id")
    assert reply.header("server") == "nginx"
    if status >= 400:
        assert reply.error["code"]
        assert (reply.header("content-type") or "").startswith("application/json")


@pytest.mark.parametrize(("replaced", "code"), [(False, "backend_unavailable"), (True, "model_switching")])
def test_a_backend_that_is_away_is_503_with_one_retry_after(
    serve: Callable[..., Nginx], replaced: bool, code: str
) -> None:
    nginx = serve(free_port(), backend_is_replaced=replaced)
    for reply in (nginx.ask(), nginx.get("/v1/status"), nginx.ask(stream=True)):
        assert (reply.status, reply.error["code"], reply.header("retry-after")) == (503, code, "5")
        assert reply.header("content-security-policy") == POLICY
    assert nginx.get("/healthz").body == b"ok\n"
    assert nginx.get("/").status == 200


@pytest.mark.parametrize(("given", "answered"), [("17", "17"), (None, "5")])
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_there_is_one_retry_after_and_the_backends_own_wins(
    site: Site, status: int, given: str | None, answered: str
) -> None:
    site.backend.plan.append(Refusal(status, "own_code", headers={"retry-after": given} if given else {}))
    reply = site.nginx.ask()
    assert (reply.status, reply.json["error"]["code"]) == (status, "own_code")
    assert reply.header("retry-after") == answered


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500])
def test_other_answers_have_no_retry_after(site: Site, status: int) -> None:
    site.backend.plan.append(Refusal(status))
    assert site.nginx.ask().header("retry-after") is None


def test_a_backend_that_says_nothing_is_504(serve: Callable[..., Nginx], site: Site) -> None:
    site.backend.hold = threading.Event()
    nginx = serve(site.backend.port, read_seconds=1)
    reply = nginx.get("/v1/models")
    assert (reply.status, reply.error["code"], reply.header("retry-after")) == (504, "backend_timeout", "5")
    site.backend.hold.set()


def test_files_are_kept_for_ever_and_the_page_is_asked_for_again(front: Nginx) -> None:
    for asset in assets():
        assert front.get(asset).header("cache-control") == "public, max-age=31536000, immutable"
    for path in ("/", "/config.json", "/assets/index-old.js", "/nothing"):
        assert front.get(path).header("cache-control") == "no-cache"


def test_a_file_of_an_older_version_is_404_and_not_the_page(front: Nginx) -> None:
    reply = front.get("/assets/index-old.js")
    assert reply.status == 404
    assert b"<html" not in reply.body


def test_files_are_sent_compressed_as_they_were_built(front: Nginx) -> None:
    for path in ("/", *assets()):
        plain, packed = front.get(path), front.get(path, Accept_Encoding="gzip")
        assert packed.header("content-encoding") == "gzip"
        assert packed.header("vary") == "Accept-Encoding"
        assert gzip.decompress(packed.body) == plain.body
        assert len(packed.body) < len(plain.body)


def test_types_are_right(front: Nginx) -> None:
    types = {front.get(path).header("content-type") for path in ("/", *assets(), "/icon.svg", "/config.json")}
    assert types == {
        "text/html; charset=utf-8",
        "text/javascript; charset=utf-8",
        "text/css; charset=utf-8",
        "image/svg+xml",
        "application/json",
    }


def test_streams_are_never_compressed(front: Nginx) -> None:
    reply = front.ask(stream=True, headers={"accept-encoding": "gzip"})
    assert reply.header("content-encoding") is None
    assert reply.body.endswith(b"data: [DONE]\n\n")


def test_a_changed_config_shows_without_a_restart(site: Site) -> None:
    site.nginx.tell(Page(chatbot="demo", title="Changed"))
    assert site.nginx.get("/config.json").json["title"] == "Changed"


def test_what_the_runtime_says_comes_through(front: Nginx, runtime: RuntimeProcess) -> None:
    direct, through = runtime.ask("hello"), front.ask("hello")
    for name in ("x-chatbot-phase", "content-type"):
        assert through.header(name) == direct.header(name)
    assert through.json["choices"] == direct.json["choices"]


@pytest.mark.parametrize(("given", "kept"), [("my-id_1.x", True), ("a b", False), ("x" * 129, False), ("é", False)])
@pytest.mark.parametrize("path", ["/", "/v1/models", "/nothing"])
def test_a_clients_id_is_kept_if_it_is_one(front: Nginx, path: str, given: str, kept: bool) -> None:
    reply = front.get(path, X_Request_Id=given.encode().decode("latin-1"))
    identity = reply.header("x-request-id")
    assert (identity == given) is kept
    assert identity
    assert identity.isascii()


def test_the_log_has_no_query_no_key_and_nothing_that_was_said(front: Nginx) -> None:
    front.request("GET", "/v1/models?api_key=sk-in-a-query", headers={"authorization": "Bearer sk-in-a-header"})
    front.ask("a secret question")
    front.get("/?chat=secret")
    text = front.log.read_text()
    for secret in ("sk-in-a-query", "sk-in-a-header", "secret"):
        assert secret not in text
    assert {"time", "id", "method", "path", "status", "seconds", "bytes", "upstream"} == set(front.requests()[-1])


def test_a_backend_cannot_make_nginx_answer_with_its_own_files(site: Site) -> None:
    site.backend.plan.append(Refusal(200, body=b"own", headers={"x-accel-redirect": "/config.json"}))
    assert site.nginx.ask().body == b"own"


@pytest.mark.parametrize("path", ["/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/assets/../../nginx.conf", "/.git"])
def test_nothing_outside_of_the_page_is_handed_out(front: Nginx, path: str) -> None:
    reply = bare(front, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert reply.status in (400, 404)


@pytest.mark.parametrize("address", ["192.0.2.1", "localhost", "[2001:db8::1]"])
def test_as_it_ships_nginx_finds_nothing_to_say_about_it(tmp_path: Path, address: str) -> None:
    if address.startswith("[") and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    conf = tmp_path / "nginx.conf"
    conf.write_text(nginx_conf(WebServer(backend_host=address, scratch_dir=str(tmp_path))))
    command = (tools.program("nginx"), "-t", "-e", "stderr", "-c", str(conf))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "[" in line] == []


def test_nginx_starts_as_another_user_than_root_without_a_complaint(site: Site) -> None:
    assert site.nginx.get("/").status == 200
    assert [line for line in site.nginx.log.read_text().splitlines() if "[" in line.split("{")[0]] == []


def test_a_body_as_large_as_allowed_goes_through(front: Nginx, runtime: RuntimeProcess) -> None:
    body = question("hello", user="x" * 4_100_000)
    assert front.request("POST", CHAT, body).status == runtime.request("POST", CHAT, body).status == 200


def test_a_backend_that_comes_back_is_used_at_once(serve: Callable[..., Nginx]) -> None:
    port = free_port()
    nginx = serve(port)
    assert nginx.get("/v1/models").status == 503
    for _ in range(3):
        with Backend(port):
            assert nginx.get("/v1/models").status == 200
        assert nginx.get("/v1/models").status == 503
