"""The token reaches no host that the administrator has not allowed: hostile settings, redirects and DNS answers.

Every name leads to a trap that notes what it is sent, so that a guard that fails is seen by what arrives.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from chatbot_runtime.app import build
from chatbot_runtime.chat_request import ChatRequest
from chatbot_runtime.check import check, hub_endpoint
from chatbot_runtime.config import Config, ConfigError
from chatbot_runtime.errors import ApiError
from chatbot_runtime.hub import Hub, HubError
from chatbot_runtime.providers.base import ProviderError
from chatbot_runtime.providers.servers import route_of
from chatbot_runtime.token_file import TokenFile
from tests.support.router import Router
from tests.support.runtime_process import until

CANARY = "hf_canary7f3e1d"
QUESTION = ChatRequest("org/tiny", ({"role": "user", "content": "hi"},))


class Trap:
    """A listener that takes everything and notes it."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(2)
                self.seen.append(b"connected")
                self.seen.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class HostileNames(AbstractResolver):
    """Every name leads to the addresses that are given."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - aiohttp's signature
    ) -> list[ResolveResult]:
        kinds = [(a, socket.AF_INET6 if ":" in a else socket.AF_INET) for a in self._addresses]
        return [ResolveResult(hostname=host, host=a, port=port, family=k, proto=0, flags=0) for a, k in kinds]

    async def close(self) -> None:
        """Holds nothing."""


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    trap = Trap()
    yield trap
    trap.close()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(CANARY)
    return path


def config_of(base_url: str, token: Path, **others: str) -> Config:
    """Settings as a process reads them."""
    environ = {"PHASE": "hf", "MODELS": "org/tiny", "BASE_URL": base_url, "TOKEN_FILE": str(token)}
    environ |= {"ALLOWED_HOSTS": "allowed.example"} | others
    return Config.from_env({f"CHATBOT_{name}": value for name, value in environ.items()})


async def asked(config: Config, resolver: AbstractResolver) -> Exception | None:
    """What comes of one question; the check of `GET /models` is tried as well."""
    runtime = build(config, resolver=resolver)
    assert runtime.hosted is not None
    error: Exception | None = None
    try:
        await runtime.hosted.provider.answer(QUESTION)
    except (ProviderError, ApiError) as caught:
        error = caught
    with suppress(ProviderError, ApiError):
        await runtime.hosted.provider.forward("embeddings", {"model": "org/tiny"})
    await runtime.provider.close()
    await asyncio.to_thread(check, config, route_of(config, resolver), runtime.hosted.token)
    return error


HOSTILE_URLS = [
    "http://evil.example:{port}/v1",
    "http://allowed.example.evil.example:{port}/v1",
    "http://evil-allowed.example:{port}/v1",
    "http://evilallowed.example:{port}/v1",
    "http://sub.allowed.example:{port}/v1",
    "http://allowed.example@evil.example:{port}/v1",
    "http://allowed.example:pw@evil.example:{port}/v1",
    "http://allowed.example%40evil.example:{port}/v1",
    "http://evil.example:{port}/allowed.example",
    "http://evil.example:{port}/v1?allowed.example",
    "http://evil.example:{port}/v1#@allowed.example",
    "http://evil.example:{port}#@allowed.example/v1",
    "http://evil.example:{port}\\@allowed.example/v1",
    "http://evil.example:{port}/@allowed.example/v1",
    "http://allowed.example\\.evil.example:{port}/v1",
    "http://allowed.example\t.evil.example:{port}/v1",
    "http://allowed.example\n.evil.example:{port}/v1",
    "http://allowed.example\r\nHost: evil.example:{port}/v1",
    "http://allowed.example%2eevil.example:{port}/v1",
    "http://allowed.example%00.evil.example:{port}/v1",
    "http://allowed.example;evil.example:{port}/v1",
    "http://allowed.example,evil.example:{port}/v1",
    "http://allowed.example evil.example:{port}/v1",
    "http://аllowed.example:{port}/v1",
    "http://allowed.exampl℮:{port}/v1",
    "http://allowed。example.evil.example:{port}/v1",
    "http://127.0.0.1:{port}/v1",
    "http://127.1:{port}/v1",
    "http://2130706433:{port}/v1",
    "http://0x7f000001:{port}/v1",
    "http://017700000001:{port}/v1",
    "http://0:{port}/v1",
    "http://[::1]:{port}/v1",
    "http://[::ffff:127.0.0.1]:{port}/v1",
    "http://localhost:{port}/v1",
    "//evil.example:{port}/v1",
    "http:evil.example:{port}/v1",
    "http:/evil.example:{port}/v1",
    "http:///evil.example:{port}/v1",
    "HTTP://EVIL.EXAMPLE:{port}/v1",
    "ftp://allowed.example:{port}/v1",
    "file:///etc/passwd",
    "javascript:allowed.example:{port}",
    "unix:///var/run/docker.sock",
    "evil.example:{port}/v1",
]

ODD_LISTS = [
    *("", "*", "*.", "*.*", "allowed", ".example", "*.allowed.example", "allowed.example:1", "allowed.example/"),
    *("http://allowed.example", "[]", "::"),
]


@pytest.mark.parametrize("url", HOSTILE_URLS)
async def test_a_hostile_base_url_gets_nothing(trap: Trap, token: Path, url: str) -> None:
    reasons = set()
    with suppress(ConfigError):  # most are no address at all
        config = config_of(url.format(port=trap.port), token)
        error = await asked(config, HostileNames("127.0.0.1"))
        assert isinstance(error, ProviderError)
        reasons.add(error.reason)
    assert reasons <= {"AccessDenied"}
    assert trap.seen == []


async def test_the_trap_is_reached_if_the_host_is_allowed(trap: Trap, token: Path) -> None:
    await asked(config_of(f"http://allowed.example:{trap.port}/v1", token), HostileNames("127.0.0.1"))
    assert CANARY.encode() in b"".join(trap.seen)


@pytest.mark.parametrize("allowed", ODD_LISTS)
async def test_an_odd_list_of_allowed_hosts_opens_nothing(trap: Trap, token: Path, allowed: str) -> None:
    config = config_of(f"http://allowed.example:{trap.port}/v1", token).model_copy(
        update={"allowed_hosts": tuple(allowed.split(","))}
    )
    assert isinstance(await asked(config, HostileNames("127.0.0.1")), ProviderError)
    assert trap.seen == []


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "place", ["http://evil.example:{port}/", "//evil.example:{port}/", "http://allowed.example@127.0.0.1:{port}/"]
)
async def test_no_redirect_is_followed(trap: Trap, token: Path, status: int, place: str) -> None:
    with Router() as router:
        router.tokens = {}
        headers = {"Location": place.format(port=trap.port)}
        router.behave("status", status=status, headers=headers)
        error = await asked(config_of(f"http://allowed.example:{router.port}/v1", token), HostileNames("127.0.0.1"))
        assert isinstance(error, ProviderError)
        assert "redirects, which is not followed" in str(error)
        assert router.requests
    assert trap.seen == []


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "169.254.170.2", "0.0.0.0", "224.0.0.1", "100.100.100.200", "fe80::1", "ff02::1", "::"),
        *("::ffff:169.254.169.254", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"),
    ],
)
async def test_a_name_that_leads_to_a_place_of_no_model_gets_nothing(
    trap: Trap, token: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    connect = asyncio.get_running_loop().sock_connect

    async def note(connection: socket.socket, to: tuple[str, int]) -> None:
        tried.append(to)
        await connect(connection, to)

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", note)
    for host in ("allowed.example", f"[{address}]" if ":" in address else address):
        config = config_of(f"http://{host}:{trap.port}/v1", token, ALLOWED_HOSTS=f"allowed.example,{address}")
        error = await asked(config, HostileNames(address))
        assert isinstance(error, ProviderError)
    assert tried == []
    assert trap.seen == []


@pytest.mark.parametrize(
    "url", ["http://evil.example:{port}", "http://allowed.example.evil.example:{port}", "http://localhost:{port}"]
)
def test_the_hub_is_asked_only_where_it_is_allowed(
    trap: Trap, token: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", url.format(port=trap.port))
    leads_to(monkeypatch, "127.0.0.1")
    config = config_of("http://allowed.example:1/v1", token, SERVER="router")
    report = check(config, route_of(config), TokenFile(token))
    assert report.exit_code == 3
    assert "not among the allowed hosts" in report.text()
    assert trap.seen == []


def test_every_request_to_the_hub_is_looked_at_by_itself(trap: Trap) -> None:
    hub = Hub(URL(f"http://localhost:{trap.port}"), CANARY, ("127.0.0.1",), None)
    with pytest.raises(HubError, match="localhost may not be asked"):
        hub.account()
    assert trap.seen == []


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0"])
def test_the_hub_is_not_asked_at_a_place_of_no_hub(token: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leads_to(monkeypatch, address)
    hub = Hub(URL("http://allowed.example:1"), CANARY, ("allowed.example",), None)
    with pytest.raises(HubError, match="never connected to"):
        hub.account()


def test_the_hubs_redirects_are_not_followed(trap: Trap, token: Path) -> None:
    with Router() as router:
        router.tokens = {CANARY: {"role": "read", "permissions": []}}
        for place in (f"http://127.0.0.1:{trap.port}/", f"http://localhost:{trap.port}/", f"//127.0.0.1:{trap.port}/"):
            router.hub_redirect = place
            hub = Hub(URL(router.hub), CANARY, ("127.0.0.1",), None)
            with pytest.raises(HubError, match="redirects"):
                hub.account()
            with pytest.raises(HubError, match="redirects"):
                hub.model("org/tiny")
        assert router.requests
    assert trap.seen == []


async def test_a_netrc_file_is_not_read(trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine allowed.example login user password other-secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    config = config_of(f"http://allowed.example:{trap.port}/v1", tmp_path / "none", SERVER="openai")
    await asked(config, HostileNames("127.0.0.1"))
    until(lambda: b"POST /v1/chat/completions" in b"".join(trap.seen), "the question arrives")
    assert b"authorization" not in b"".join(trap.seen).lower()


@pytest.mark.parametrize("url", ["ftp://huggingface.co", "http://u:p@huggingface.co", "huggingface.co", "http://[::"])
def test_an_odd_address_of_the_hub_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", url)
    with pytest.raises(ConfigError, match="HF_ENDPOINT: it must be a URL"):
        hub_endpoint()


def leads_to(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A hostile name server for what asks the system."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def answer(host: object, port: object, *_: object, **__: object) -> list[object]:
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
