"""Ways to the provider that are closed, guarded by certificates, or lead through a proxy."""

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chatbot_runtime.app import build
from chatbot_runtime.chat_request import ChatRequest
from chatbot_runtime.config import Config
from chatbot_runtime.providers.base import ProviderError
from tests.support.hosted import Hosted, hosted
from tests.support.router import ANSWER, Router
from tests.support.runtime_process import events
from tests.unit.runtime.test_token_reach import HostileNames, Trap

QUESTION = ChatRequest("m", ({"role": "user", "content": "hi"},))


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def asked(base_url: str, ca_file: Path | None = None) -> str:
    """The answer to one question, or what the failure says."""
    config = Config(
        phase="hf",
        models=("m",),
        base_url=base_url,
        allowed_hosts=("model.example",),
        ca_file=ca_file,
        connect_seconds=1,
    )
    runtime = build(config, resolver=HostileNames("127.0.0.1"))
    assert runtime.hosted is not None
    try:
        answer = await runtime.hosted.provider.answer(QUESTION)
        return "".join([chunk.delta["content"] async for chunk in answer.chunks])
    except ProviderError as error:
        return str(error)
    finally:
        await runtime.provider.close()


async def test_a_closed_port_is_named_with_its_cause() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert (
        await asked(f"http://model.example:{port}/v1") == f"model.example:{port} cannot be reached: Connection refused."
    )


async def test_a_name_that_leads_nowhere_is_named() -> None:
    config = Config(phase="hf", models=("m",), base_url="http://x.invalid/v1", allowed_hosts=("x.invalid",))
    runtime = build(config)
    assert runtime.hosted is not None
    with pytest.raises(ProviderError, match=r"x\.invalid cannot be reached: .+"):
        await runtime.hosted.provider.answer(QUESTION)
    await runtime.provider.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority (`ca.crt`) and a server's certificate and key (`server.pem`) for `model.example`."""
    folder = tmp_path_factory.mktemp("certificates")
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = datetime.now(UTC)

    def certificate(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))

    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        certificate(name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "model.example")]), key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("model.example")]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "ca.crt").write_bytes(authority.public_bytes(pem))
    (folder / "server.pem").write_bytes(
        server.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    )
    return folder


@pytest.fixture
def guarded(certificates: Path) -> Iterator[int]:
    """A port with TLS in front of the stand-in of the router."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem")
    with Router() as router:
        router.tokens = {}
        loop = asyncio.new_event_loop()

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            behind_reader, behind = await asyncio.open_connection("127.0.0.1", router.port)

            async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while piece := await source.read(65536):
                    sink.write(piece)
                sink.close()

            await asyncio.gather(copy(reader, behind), copy(behind_reader, writer), return_exceptions=True)

        async def listen() -> asyncio.Server:
            return await asyncio.start_server(carry, "127.0.0.1", 0, ssl=context)

        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
        yield server.sockets[0].getsockname()[1]
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def test_an_authority_of_ones_own_is_trusted_if_it_is_named(certificates: Path, guarded: int) -> None:
    url = f"https://model.example:{guarded}/v1"
    assert await asked(url, certificates / "ca.crt") == ANSWER
    assert await asked(url) == f"model.example:{guarded} cannot be trusted: its certificate is not valid here."


async def test_a_server_without_tls_is_no_answer(certificates: Path) -> None:
    with Router() as router:
        said = await asked(f"https://model.example:{router.port}/v1", certificates / "ca.crt")
    assert said.startswith(f"model.example:{router.port} c")
    assert router.requests == []


async def test_the_way_leads_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Trap()
    monkeypatch.setenv("HTTP_PROXY", f"http://user:proxy-secret@127.0.0.1:{proxy.port}")
    assert "proxy-secret" not in await asked("http://model.example:1/v1")
    assert b"POST http://model.example:1/v1/chat/completions HTTP/1.1" in proxy.seen[1]
    monkeypatch.setenv("NO_PROXY", "model.example")
    seen = len(proxy.seen)
    assert "cannot be reached" in await asked("http://model.example:1/v1")
    assert len(proxy.seen) == seen
    proxy.close()


async def test_a_proxy_that_is_away_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://user:proxy-secret@127.0.0.1:{port}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:proxy-secret@127.0.0.1:{port}")
    for scheme in ("http", "https"):
        said = await asked(f"{scheme}://model.example:1/v1")
        assert said == "model.example:1 cannot be reached: the proxy on the way there refuses."


def test_a_stream_that_has_begun_with_a_comment_is_still_covered_and_says_so(tmp_path: Path) -> None:
    fallback = {"to": "mock", "afterFailures": 9, "retryAfterSeconds": 0}
    with (
        Router() as router,
        hosted(tmp_path, router=router, heartbeat_seconds=0.1, settings={"fallback": fallback}) as hf,
    ):
        hf.ready()
        router.behave("stall")
        reply = hf.process.ask(stream=True)
    assert reply.header("x-chatbot-fallback") is None  # it was not known yet
    found = events(reply.body)
    assert found[0] == ": ping"
    first = next(event for event in found if event != ": ping")
    assert first["chatbot"] == {"phase": "hf", "fallback": "ProviderUnavailable"}
    assert found[-1] == "[DONE]"


def test_the_hubs_library_is_not_loaded_as_long_as_nothing_is_asked_there(hf: Hosted) -> None:
    code = "import sys, chatbot_runtime.serve; print([n for n in ('huggingface_hub', 'httpx2') if n in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "[]\n"
    maps = Path(f"/proc/{hf.process.pid}/maps").read_text()
    assert "huggingface_hub" not in maps
