"""Models of the Hub, against a stand-in that follows the recorded traces: whole and verified, or not at all."""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import json
import os
import random
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path, PurePosixPath

import huggingface_hub
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from huggingface_hub.utils._http import default_client_factory
from yarl import URL

from chatbot_runtime.contract import DownloadReason
from chatbot_runtime.downloads.base import DownloadError, StoredModel
from chatbot_runtime.downloads.hub_files import HubFiles
from chatbot_runtime.downloads.huggingface import HuggingFaceSource, sweep
from chatbot_runtime.downloads.pump import Pump
from chatbot_runtime.downloads.volume import Volume
from chatbot_runtime.downloads.wire import Wire
from chatbot_runtime.network import trust
from chatbot_runtime.token_file import TokenFile
from tests.support.hub import GOOD, Hub

NAME = "hf://org/tiny/tiny.gguf"
PLACE = "hf/org/tiny/main/tiny.gguf"
SIZE = 400_000
HOUR = timedelta(hours=1)
RATE = 5_000_000
"""Bytes a second, so that nothing is on its way unread when a connection breaks."""
MODEL = b"GGUF" + random.Random(1).randbytes(SIZE - 4)
OTHER = b"GGUF" + random.Random(2).randbytes(SIZE - 4)


@pytest.fixture(autouse=True)
def _library_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a source tells the Hub's client library counts for a whole process, which here is that of other tests."""
    with monkeypatch.context() as patched:
        for name in (
            "ENDPOINT",
            "HUB_DISABLE_XET",
            "HUB_DISABLE_PROGRESS_BARS",
            "HUB_DISABLE_TELEMETRY",
            "HUB_OFFLINE",
        ):
            patched.setenv(f"HF_{name}", "")
        yield
    huggingface_hub.set_client_factory(default_client_factory)


class Told:
    """What a fetch tells of its progress."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.completed: list[int] = []
        self.verified = 0

    def expect(self, total_bytes: int) -> None:
        self.totals.append(total_bytes)

    def have(self, completed_bytes: int) -> None:
        self.completed.append(completed_bytes)

    def verifying(self) -> None:
        self.verified += 1


class Case:
    """A volume, the Hub, and the token; times are short."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.models = folder / "models"
        self.models.mkdir()
        self.token = folder / "token"
        self.volume = Volume(self.models)
        self.url = hub.url
        self.ca_file: Path | None = None
        self.resolver: AbstractResolver | None = None
        self.has_token_file = True
        self.space_seconds = 0.0
        self.told = Told()

    @property
    def place(self) -> Path:
        return self.models / PLACE

    @property
    def partial(self) -> Path:
        return self.models / f"{PLACE}.partial"

    def files(self) -> list[str]:
        """All files of the volume."""
        return sorted(path.relative_to(self.models).as_posix() for path in self.models.rglob("*") if path.is_file())

    @asynccontextmanager
    async def source(self) -> AsyncIterator[HuggingFaceSource]:
        context, endpoint = trust(self.ca_file), URL(self.url)
        token = TokenFile(self.token if self.has_token_file else None)
        hub = HubFiles(endpoint, token, self.has_token_file, context, connect_seconds=2, stall_seconds=0.4)
        wire = Wire(endpoint, context, connect_seconds=2, stall_seconds=0.4, resolver=self.resolver)
        source = HuggingFaceSource(hub, wire, self.volume, self.space_seconds)
        try:
            yield source
        finally:
            await source.close()

    async def fetch(self, name: str = NAME) -> StoredModel:
        """One try."""
        self.told = Told()
        async with self.source() as source:
            return await source.fetch(name, self.told)

    async def fails(self, reason: DownloadReason, *words: str, name: str = NAME) -> DownloadError:
        """One try that must fail so."""
        with pytest.raises(DownloadError) as caught:
            await self.fetch(name)
        assert caught.value.reason == reason, caught.value
        for word in words:
            assert word in str(caught.value)
        assert "hf_" not in str(caught.value)
        assert not self.place.exists()
        return caught.value


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.put("org/tiny", {"tiny.gguf": MODEL, "README.md": b"hello"})
        yield hub


@pytest.fixture
def case(hub: Hub, tmp_path: Path) -> Case:
    return Case(hub, tmp_path)


async def test_a_file_comes_whole_to_its_place_and_nothing_else_stays(case: Case) -> None:
    model = await case.fetch()
    digest = hashlib.sha256(MODEL).hexdigest()
    assert (model.name, model.digest, model.size_bytes) == (NAME, f"sha256:{digest}", SIZE)
    assert [(file.path, file.size_bytes, file.sha256) for file in model.files] == [(Path(PLACE), SIZE, digest)]
    assert case.place.read_bytes() == MODEL
    assert case.files() == [PLACE]
    assert (case.told.totals, case.told.completed[0], case.told.completed[-1]) == ([SIZE], 0, SIZE)
    assert case.told.verified == 1


async def test_what_is_there_whole_is_verified_and_not_fetched_again(case: Case) -> None:
    first = await case.fetch()
    case.hub.requests.clear()
    assert await case.fetch() == first
    assert case.hub.bytes_asked() == []
    assert case.told.completed[0] == SIZE


@pytest.mark.parametrize("damaged", [MODEL[:-1] + b"x", MODEL[:1000], b""])
async def test_a_damaged_file_is_fetched_again(case: Case, damaged: bytes) -> None:
    await case.fetch()
    case.place.write_bytes(damaged)
    await case.fetch()
    assert case.place.read_bytes() == MODEL


async def test_a_small_file_is_verified_by_its_name_in_git(case: Case) -> None:
    small = b"GGUF" + b"x" * 1000
    case.hub.put("org/small", {"small.gguf": small})
    model = await case.fetch("hf://org/small/small.gguf")
    assert model.digest == f"sha256:{hashlib.sha256(small).hexdigest()}"
    case.hub.behave(corrupt=500)
    async with case.source() as source:
        await source.remove("hf://org/small/small.gguf")
    await case.fails("DigestMismatch", "git object", name="hf://org/small/small.gguf")
    assert case.files() == []


async def test_a_split_model_comes_with_all_its_parts_of_one_commit(case: Case) -> None:
    parts = {f"q/big-0000{n}-of-00003.gguf": b"GGUF" + random.Random(n).randbytes(60_000 + n) for n in (1, 2, 3)}
    commit = case.hub.put("org/big", dict(parts))
    model = await case.fetch("hf://org/big/q/big-00001-of-00003.gguf")
    assert [file.path.name for file in model.files] == [PurePosixPath(path).name for path in parts]
    assert [(case.models / file.path).read_bytes() for file in model.files] == list(parts.values())
    assert model.size_bytes == sum(map(len, parts.values())) == case.told.totals[0] == case.told.completed[-1]
    asked = [seen["path"] for seen in case.hub.requests if "/resolve/" in seen["path"]]
    assert sum("/resolve/main/" in path for path in asked) == 1
    assert sum(f"/resolve/{commit}/" in path for path in asked) == len(asked) - 1


async def test_a_revision_has_a_place_of_its_own(case: Case) -> None:
    case.hub.put("org/tiny", {"tiny.gguf": OTHER}, revision="refs/pr/1")
    await case.fetch()
    await case.fetch(f"{NAME}@refs/pr/1")
    assert case.place.read_bytes() == MODEL
    assert (case.models / "hf/org/tiny/refs%2Fpr%2F1/tiny.gguf").read_bytes() == OTHER


async def test_a_broken_download_goes_on_where_it_broke_off(case: Case) -> None:
    case.hub.behave(cut=150_000, rate=RATE)
    await case.fails("SourceUnreachable", "127.0.0.1")
    assert case.partial.read_bytes() == MODEL[:150_000]
    case.hub.requests.clear()
    await case.fails("SourceUnreachable")
    await case.fetch()
    assert case.place.read_bytes() == MODEL
    assert [seen["headers"]["Range"] for seen in case.hub.bytes_asked()] == ["bytes=150000-", "bytes=300000-"]
    assert case.told.completed[0] == 300_000
    assert case.files() == [PLACE]


async def test_a_partial_file_of_other_content_is_not_gone_on_with(case: Case) -> None:
    case.hub.behave(cut=150_000, rate=RATE)
    await case.fails("SourceUnreachable")
    case.hub.behave()
    case.hub.put("org/tiny", {"tiny.gguf": OTHER})
    case.hub.requests.clear()
    await case.fetch()
    assert case.place.read_bytes() == OTHER
    assert [seen["headers"].get("Range") for seen in case.hub.bytes_asked()] == [None]


@pytest.mark.parametrize("note", [b"", b"{", b'{"size": 3}', None])
async def test_a_partial_file_without_a_good_note_is_not_gone_on_with(case: Case, note: bytes | None) -> None:
    case.hub.behave(cut=150_000, rate=RATE)
    await case.fails("SourceUnreachable")
    case.hub.behave()
    path = case.partial.with_name(case.partial.name + ".json")
    path.unlink()
    if note is not None:
        path.write_bytes(note)
    await case.fetch()
    assert case.place.read_bytes() == MODEL


async def test_a_damaged_partial_file_ends_as_wrong_digest_and_then_anew(case: Case) -> None:
    case.hub.behave(cut=150_000, rate=RATE)
    await case.fails("SourceUnreachable")
    case.hub.behave()
    case.partial.write_bytes(b"x" * 150_000)
    await case.fails("DigestMismatch")
    await case.fetch()
    assert case.place.read_bytes() == MODEL


@pytest.mark.parametrize("size", [SIZE, SIZE + 5])
async def test_a_partial_file_as_long_as_the_file_needs_no_bytes_or_all(case: Case, size: int) -> None:
    case.hub.behave(cut=150_000, rate=RATE)
    await case.fails("SourceUnreachable")
    case.hub.behave()
    case.partial.write_bytes((MODEL + b"xxxxx")[:size])
    case.hub.requests.clear()
    await case.fetch()
    assert case.place.read_bytes() == MODEL
    assert len(case.hub.bytes_asked()) == (0 if size == SIZE else 1)


async def test_a_server_that_ignores_range_makes_it_begin_anew(case: Case) -> None:
    case.hub.behave(cut=150_000, rate=RATE)
    await case.fails("SourceUnreachable")
    case.hub.behave(ignore_range=True)
    await case.fetch()
    assert case.place.read_bytes() == MODEL


async def test_an_answer_with_other_bytes_than_asked_for_is_not_taken(case: Case) -> None:
    case.hub.behave(cut=150_000, rate=RATE)
    await case.fails("SourceUnreachable")
    case.hub.behave(wrong_range=True)
    await case.fails("SourceUnreachable", "other bytes than it was asked for")
    assert case.partial.stat().st_size == 150_000


@pytest.mark.parametrize("at", [0, 200_000, SIZE - 1])
async def test_wrong_bytes_are_a_wrong_digest_and_are_removed(case: Case, at: int) -> None:
    case.hub.behave(corrupt=at)
    error = await case.fails("DigestMismatch", hashlib.sha256(MODEL).hexdigest(), "It was removed")
    assert "400.0 kB" in str(error)
    assert case.files() == []


async def test_a_body_without_length_is_taken_if_it_is_right(case: Case) -> None:
    case.hub.behave(chunked=True)
    await case.fetch()
    assert case.place.read_bytes() == MODEL


async def test_of_a_body_without_length_no_more_is_taken_than_the_file_has(case: Case) -> None:
    case.hub.behave(chunked=True, cut=100_000, rate=RATE)
    await case.fails("SourceUnreachable")
    case.hub.put("org/tiny", {"tiny.gguf": MODEL + OTHER})
    case.hub.behave(chunked=True, longer=b"x" * 100)
    await case.fetch()
    assert case.place.read_bytes() == MODEL + OTHER


async def test_a_page_in_place_of_the_file_is_not_taken(case: Case) -> None:
    case.hub.behave(page="<html>log in</html>")
    await case.fails("SourceUnreachable", "in place of 400000")
    assert case.files() in ([], [f"{PLACE}.partial", f"{PLACE}.partial.json"])


async def test_a_file_that_is_no_gguf_is_refused_and_removed(case: Case) -> None:
    case.hub.put("org/tiny", {"tiny.gguf": b"PK\x03\x04" + MODEL})
    await case.fails("DownloadFailed", "tiny.gguf", "is no GGUF file: it begins with b'PK")
    assert case.files() == []


async def test_a_missing_file_is_told_with_those_that_there_are(case: Case) -> None:
    files: dict[str, bytes | Path] = {f"m{n:02}.gguf": MODEL[:100] for n in range(13)}
    case.hub.put("org/many", files | {"m.bin": b"x"})
    error = await case.fails("ModelNotFound", "org/many has no file x.gguf at main", name="hf://org/many/x.gguf")
    assert "m00.gguf, m01.gguf" in str(error)
    assert "m09.gguf and 3 more" in str(error)
    assert "m.bin" not in str(error)
    case.hub.put("org/none", {"m.bin": b"x"})
    await case.fails("ModelNotFound", "no other .gguf file", name="hf://org/none/x.gguf")


async def test_a_missing_revision_and_a_missing_repository_are_told(case: Case) -> None:
    await case.fails("ModelNotFound", "org/tiny has no revision v9", name=f"{NAME}@v9")
    case.token.write_text(GOOD)
    await case.fails("ModelNotFound", "org/nothing does not exist", name="hf://org/nothing/x.gguf")


async def test_without_a_token_a_repository_that_is_not_seen_may_be_private(case: Case) -> None:
    case.hub.repository("org/tiny").private = True
    await case.fails("AccessDenied", "or is private", "create the Secret")
    case.has_token_file = False
    await case.fails("ModelNotFound", "or is private", "give a token")
    case.has_token_file = True
    case.token.write_text(GOOD)
    await case.fetch()
    assert case.place.read_bytes() == MODEL


async def test_a_gated_repository_needs_access(case: Case) -> None:
    case.hub.repository("org/tiny").gated = True
    await case.fails("AccessDenied", "org/tiny is gated", "without a token")
    case.token.write_text("hf_other")
    await case.fails("AccessDenied", "org/tiny is gated", "the token's account has no access")
    case.token.write_text(GOOD)
    await case.fetch()
    assert case.place.read_bytes() == MODEL


async def test_an_unknown_token_is_rejected(case: Case) -> None:
    case.token.write_text("hf_bad_and_secret")
    error = await case.fails("TokenRejected", "expired")
    assert "secret" not in str(error)


@pytest.mark.parametrize("kind", ["resolve", "get", "cdn"])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "TokenRejected"),
        (403, "AccessDenied"),
        (408, "SourceUnreachable"),
        (429, "SourceUnreachable"),
        (500, "SourceUnreachable"),
        (503, "SourceUnreachable"),
    ],
)
async def test_a_refusal_has_a_reason_wherever_it_comes_from(
    case: Case, kind: str, status: int, reason: DownloadReason
) -> None:
    case.hub.behave(status={kind: status})
    if (kind, status) == ("cdn", 401):
        reason = "AccessDenied"  # the store gets no token, and so rejects none
    error = await case.fails(reason)
    assert error.retry_after == (7 if status == 429 else None)
    case.hub.behave(status={kind: status}, retry_after="12")
    error = await case.fails(reason)
    if reason == "SourceUnreachable":
        assert error.retry_after == 12


async def test_a_hub_that_says_no_digest_cannot_be_trusted(case: Case) -> None:
    case.hub.behave(no_digest=True)
    await case.fails("DownloadFailed", "cannot be verified", "is it a Hugging Face Hub?")


async def test_a_hub_that_is_not_there_or_has_no_address_is_unreachable(case: Case) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    case.url = f"http://127.0.0.1:{port}"
    await case.fails("SourceUnreachable", "does not answer")
    case.url = "http://hub.invalid"
    await case.fails("SourceUnreachable", "hub.invalid")


async def test_a_store_that_is_not_there_or_has_no_address_is_unreachable(case: Case) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    case.hub.behave(store=f"http://127.0.0.1:{port}")
    await case.fails("SourceUnreachable", "cannot be connected to")
    case.hub.behave(store="http://store.invalid")
    await case.fails("SourceUnreachable", "store.invalid cannot be found")


async def test_a_store_that_falls_silent_is_given_up_and_gone_on_with(case: Case) -> None:
    case.hub.behave(stall=150_000, rate=RATE)
    await case.fails("SourceUnreachable", "has stopped sending")
    case.hub.behave()
    await case.fetch()
    assert case.place.read_bytes() == MODEL
    assert case.told.completed[0] == 150_000


async def test_the_token_goes_to_the_hub_and_to_nobody_else(case: Case) -> None:
    case.token.write_text(GOOD)
    case.hub.behave(hops=4)
    await case.fetch()
    told = {
        (seen["port"], seen["path"].split("/")[1]): seen["headers"].get("Authorization") for seen in case.hub.requests
    }
    store = case.hub.store_port
    assert told[(case.hub.port, "org")] == f"Bearer {GOOD}"
    assert told[(store, "cdn")] is None
    assert told[(store, "hop")] is None
    assert all(seen["headers"].get("Accept-Encoding") == "identity" for seen in case.hub.bytes_asked())


async def test_a_signed_address_is_asked_as_it_was_given(case: Case) -> None:
    await case.fetch()
    assert case.hub.bytes_asked()[0]["path"].endswith("?signed=a%2Fb%3D")


async def test_a_hub_that_says_nothing_is_given_up(case: Case) -> None:
    case.hub.behave(silent=True)
    await case.fails("SourceUnreachable", "127.0.0.1 does not answer")


async def test_redirects_end(case: Case) -> None:
    case.hub.behave(hops=5)
    await case.fails("SourceUnreachable", "without end")


@pytest.mark.parametrize("store", ["ftp://store.example", "http://user:word@store.example", "http://[", "file:///etc"])
async def test_a_redirect_to_what_is_no_address_of_a_store_is_not_followed(case: Case, store: str) -> None:
    case.hub.behave(store=store)
    error = await case.fails("SourceUnreachable")
    assert "word" not in str(error)


class Lying(AbstractResolver):
    """Says of each name that it lies at a cloud's metadata service."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [{"hostname": host, "host": "169.254.169.254", "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


async def test_a_redirect_to_a_metadata_service_is_not_followed(case: Case) -> None:
    case.hub.behave(store="http://169.254.169.254")
    await case.fails("SourceUnreachable", "169.254.169.254 is an address that is never connected to")
    case.resolver = Lying()
    case.hub.behave(store="http://store.example")
    await case.fails("SourceUnreachable", "store.example")


async def test_a_hub_at_a_metadata_service_is_not_asked(case: Case) -> None:
    case.url = "http://169.254.169.254"
    await case.fails("SourceUnreachable", "never connected to")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a key and a certificate for 127.0.0.1 that vouches for itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - HOUR, now + HOUR)
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = tmp_path / "hub.pem"
    path.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, private, serialization.NoEncryption()))
    return path


async def test_tls_needs_an_authority_that_is_trusted_and_is_not_left_again(
    case: Case, certificate: Path, hub: Hub
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with Hub(context) as guarded:
        guarded.put("org/tiny", {"tiny.gguf": MODEL})
        case.url = guarded.url
        await case.fails("SourceUnreachable")
        case.ca_file = certificate
        guarded.behave(store=hub.url)
        await case.fails("SourceUnreachable", "without TLS, which is refused")
        guarded.behave()
        await case.fetch()
    assert case.place.read_bytes() == MODEL
    assert hub.requests == []


@pytest.mark.parametrize("link", ["hf", "hf/org", "hf/org/tiny/main", PLACE, f"{PLACE}.partial"])
async def test_a_symbolic_link_in_the_way_is_refused_and_nothing_is_written_there(
    case: Case, tmp_path: Path, link: str
) -> None:
    outside = tmp_path / "outside"
    is_file = "gguf" in link
    if is_file:
        outside.write_bytes(b"precious")
    else:
        outside.mkdir()
    (case.models / link).parent.mkdir(parents=True, exist_ok=True)
    (case.models / link).symlink_to(outside)
    with pytest.raises(DownloadError, match="a symbolic link, or something else that is not ours, is in the way") as no:
        await case.fetch()
    assert no.value.reason == "DownloadFailed"
    assert outside.read_bytes() == b"precious" if is_file else not list(outside.iterdir())


async def test_a_link_in_the_place_of_a_note_is_replaced_and_not_followed(case: Case, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    case.partial.parent.mkdir(parents=True)
    for name in (".json", ".json.new"):
        case.partial.with_name(case.partial.name + name).symlink_to(outside)
    with pytest.raises(DownloadError, match="is in the way"):
        await case.fetch()
    case.partial.with_name(case.partial.name + ".json.new").unlink()
    await case.fetch()
    assert outside.read_bytes() == b"precious"
    assert case.files() == [PLACE]


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd"])
def test_no_path_leads_out_of_the_volume(case: Case, path: str) -> None:
    with pytest.raises(OSError, match="leads out"):
        case.volume.open(PurePosixPath(path), os.O_RDONLY)


class Small(Volume):
    """A volume that takes so many bytes and no more."""

    def __init__(self, root: Path, room: int, code: int = errno.ENOSPC) -> None:
        super().__init__(root)
        self.room = room
        self.code = code

    def append(self, file: int, data: bytes) -> None:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(self.code, os.strerror(self.code))
        super().append(file, data)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_volume_that_is_full_is_told_and_left_empty(case: Case, code: int) -> None:
    case.volume = Small(case.models, 0, code)
    await case.fails("StorageFull", "is full: 400.0 kB more are needed", "are free", "give it more room")
    assert case.files() == []


async def test_a_volume_without_room_is_told_before_a_byte_is_asked_for(case: Case) -> None:
    class Full(Volume):
        def free_bytes(self) -> int:
            return 100_000

    case.hub.behave(cut=150_000, rate=RATE)
    await case.fails("SourceUnreachable")
    case.hub.requests.clear()
    case.volume = Full(case.models)
    await case.fails("StorageFull", "250.0 kB more are needed, 100.0 kB are free")
    assert case.hub.bytes_asked() == []
    assert case.files() == []


async def test_a_volume_that_others_fill_is_noticed_while_bytes_come(case: Case) -> None:
    class Shrinking(Volume):
        looks = 0

        def free_bytes(self) -> int:
            self.looks += 1
            return 10_000_000 if self.looks < 4 else 1000

    case.volume = Shrinking(case.models)
    case.hub.behave(rate=1_000_000)
    await case.fails("StorageFull", "1.0 kB are free")
    assert case.files() == []
    assert case.told.completed[-1] < SIZE


@pytest.fixture
def tiny_volume(case: Case) -> Iterator[Callable[[], None]]:
    """A real file system of 1 MB; what is called fills it. Where none can be mounted, a volume that acts like it."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", case.models], check=False)
    small = Small(case.models, 1_000_000)
    if mounted.returncode:
        case.volume = small

    def fill() -> None:
        if mounted.returncode:
            small.room = 0
            return
        with (case.models / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    yield fill
    if not mounted.returncode:
        subprocess.run(["umount", case.models], check=True)


async def test_a_real_volume_that_becomes_full_is_told_and_recovers(
    case: Case, tiny_volume: Callable[[], None]
) -> None:
    case.space_seconds = 60
    case.hub.behave(cut=150_000, rate=RATE)
    await case.fails("SourceUnreachable")
    case.hub.behave(rate=500_000)

    class Filling(Told):
        def have(self, completed_bytes: int) -> None:
            super().have(completed_bytes)
            if len(self.completed) == 3:
                tiny_volume()

    with pytest.raises(DownloadError) as caught:
        async with case.source() as source:
            await source.fetch(NAME, Filling())
    assert caught.value.reason == "StorageFull"
    assert [path for path in case.files() if path != "filler"] == []
    (case.models / "filler").unlink(missing_ok=True)
    case.volume = Volume(case.models)
    case.hub.behave()
    await case.fetch()
    assert case.place.read_bytes() == MODEL


@pytest.mark.parametrize(("code", "words"), [(errno.EROFS, "read-only"), (errno.EACCES, "must be writable for user")])
async def test_a_volume_that_cannot_be_written_to_is_told(case: Case, code: int, words: str) -> None:
    class Closed(Volume):
        def open(self, path: PurePosixPath, flags: int) -> int:
            if flags & os.O_CREAT:
                raise OSError(code, os.strerror(code), str(path))
            return super().open(path, flags)

    case.volume = Closed(case.models)
    await case.fails("DownloadFailed", words)


async def test_removing_takes_the_file_and_what_tries_have_left(case: Case) -> None:
    case.hub.behave(cut=150_000, rate=RATE)
    await case.fails("SourceUnreachable")
    async with case.source() as source:
        await source.remove(NAME)
        assert case.files() == []
        await source.remove(NAME)
    case.hub.behave()
    await case.fetch()
    async with case.source() as source:
        await source.remove(NAME)
    assert case.files() == []


async def test_sweeping_leaves_only_what_is_kept_and_follows_no_link(case: Case, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.gguf").write_bytes(b"x")
    kept = [PLACE, f"{PLACE}.partial", f"{PLACE}.partial.json", "blobs/sha256-1", ".complete/a.json"]
    for path in (*kept, "hf/org/tiny/main/old.gguf", "hf/a/b/c/x.gguf.partial", "hf/org/tiny/v1/tiny.gguf"):
        (case.models / path).parent.mkdir(parents=True, exist_ok=True)
        (case.models / path).write_bytes(b"x")
    (case.models / "hf/link").symlink_to(outside)
    gone = sweep(case.volume, [NAME])
    assert sorted(map(str, gone)) == [
        "hf/a/b/c/x.gguf.partial", "hf/link", "hf/org/tiny/main/old.gguf", "hf/org/tiny/v1/tiny.gguf",
    ]  # fmt: skip
    assert case.files() == sorted(kept)
    assert not (case.models / "hf/a").exists()
    assert (outside / "precious.gguf").exists()
    assert sweep(case.volume, []) != []
    assert not (case.models / "hf").exists()


async def test_the_note_beside_a_partial_file_says_what_it_is(case: Case) -> None:
    case.hub.behave(cut=1000, rate=RATE)
    await case.fails("SourceUnreachable")
    note = json.loads(case.partial.with_name(case.partial.name + ".json").read_text())
    commit = next(iter(case.hub.repository("org/tiny").commits))
    assert note == {"commit": commit, "sha256": hashlib.sha256(MODEL).hexdigest(), "git": "", "size": SIZE}


async def put_all(pump: Pump, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        await pump.put(piece)


async def test_what_blocks_gets_all_bytes_in_order_and_holds_up_who_brings_them() -> None:
    taken: list[list[bytes]] = [[], []]
    go = threading.Event()

    def slow(piece: bytes) -> None:
        go.wait(10)
        taken[1].append(piece)

    pieces = [bytes([number]) * 100 for number in range(50)]
    given = iter(pieces)
    async with Pump(taken[0].append, slow, backlog_bytes=1000) as pump:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(put_all(pump, given), 0.2)
        assert pump.taken == 0
        go.set()
        left = list(given)
        await put_all(pump, left)
    assert len(left) == 50 - 11
    assert taken == [pieces, pieces]
    assert pump.taken == 5000


async def pumped(pieces: Iterable[bytes], *takers: Callable[[bytes], object]) -> None:
    async with Pump(*takers, backlog_bytes=1000) as pump:
        await put_all(pump, pieces)


async def test_what_fails_to_take_bytes_ends_who_brings_them_at_the_latest_at_the_end() -> None:
    taken: list[bytes] = []
    for pieces in (itertools.repeat(b"x" * 100), [b"1", b"2", b"x"]):
        with pytest.raises(ValueError, match="invalid literal"):
            await asyncio.wait_for(pumped(pieces, taken.append, int), 10)
        assert taken
