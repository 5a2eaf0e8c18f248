"""Models of the Hub, against a stand-in that follows the recorded traces: whole and verified, or not at all."""

import hashlib
import random
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path, PurePosixPath

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chatbot_runtime.contract import DownloadReason
from tests.support.hub import GOOD, Hub
from tests.support.hub_downloads import MODEL, NAME, PLACE, RATE, SIZE, Case

HOUR = timedelta(hours=1)
OTHER = b"GGUF" + random.Random(2).randbytes(SIZE - 4)


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
