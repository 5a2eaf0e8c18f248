"""The stand-in for Ollama pulls, keeps and deletes models as the real one was recorded to."""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.asking_ollama import JSON, LINES, ask, begun, closing, digests, pulled, stand_in_registry, started
from tests.support.ollama_process import Ollama
from tests.support.ollama_registry import Faults, Registry, model_bytes
from tests.support.runtime_process import until

MADE_UP = '{\\"errors\\": [{\\"code\\": \\"TOOMANYREQUESTS\\", \\"message\\": \\"made up\\"}]}'


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with stand_in_registry() as registry:
        yield registry


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Iterator[Ollama]:
    with closing(started(tmp_path_factory.mktemp("ollama"), registry)) as ollama:
        yield ollama


def test_a_small_pull_goes_as_recorded(tmp_path: Path, registry: Registry) -> None:
    names, before = digests(registry, "tiny"), len(registry.asked)
    with Ollama(tmp_path) as ollama:
        # On a busy machine it takes long enough for a line of progress.
        assert [line for line in pulled(ollama, registry, "tiny") if '"completed":' not in line] == [
            '{"status":"pulling manifest"}',
            '{"status":"verifying sha256 digest"}',
            '{"status":"writing manifest"}',
            '{"status":"success"}',
        ]
        asked = [(asked.method, asked.path, asked.range) for asked in registry.asked[before:]]
        assert asked == [
            ("GET", "/v2/library/tiny/manifests/latest", ""),
            *(
                (method, f"/v2/library/tiny/blobs/{digest}", given)
                for digest in names
                for method, given in (
                    ("HEAD", ""),
                    ("GET", ""),
                    ("GET", f"bytes=0-{len(registry.blobs[digest]) - 1}"),
                )
            ),
        ]
        files = {str(path.relative_to(ollama.models)) for path in ollama.models.rglob("*") if path.is_file()}
        assert files == {f"blobs/{digest.replace(':', '-')}" for digest in names} | {
            f"manifests/{registry.host}/library/tiny/latest"
        }
        before = len(registry.asked)
        sizes = {digest: len(registry.blobs[digest]) for digest in names}
        line = '{"status":"pulling %s","digest":"%s","total":%d,"completed":%d}'
        assert pulled(ollama, registry, "tiny") == [
            '{"status":"pulling manifest"}',
            *(line % (digest[7:19], digest, size, size) for digest, size in sizes.items()),
            '{"status":"verifying sha256 digest"}',
            '{"status":"writing manifest"}',
            '{"status":"success"}',
        ]
        assert [asked.path for asked in registry.asked[before:]] == ["/v2/library/tiny/manifests/latest"]
        whole = ask(
            ollama, "POST", "/api/pull", {"model": f"{registry.host}/library/tiny", "insecure": True, "stream": False}
        )
        assert (whole.status, whole.header("content-type"), whole.body) == (200, JSON, b'{"status":"success"}')


@pytest.mark.parametrize(
    ("name", "faults", "said"),
    [
        ("REGISTRY/library/nope:latest", {}, "pull model manifest: file does not exist"),
        ("127.0.0.1:9/library/tiny:latest", {}, 'pull model manifest: Get \\"http://127.0.0.1:9/v2/library/tiny/manifests/'
         'latest\\": dial tcp 127.0.0.1:9: connect: connection refused'),
        ("REGISTRY/library/fresh:latest", {"unauthorized": 1},
         'pull model manifest: realm host \\"\\" does not match original host \\"REGISTRY\\"'),
        *(
            ("REGISTRY/library/fresh:latest", {"manifests": status}, f"pull model manifest: {status}: {MADE_UP}")
            for status in (403, 429, 500, 503)
        ),
        ("REGISTRY/library/fresh:latest", {"blobs": 404}, "file does not exist"),
        ("REGISTRY/library/fresh:latest", {"blobs": 500}, "500: "),
        ("REGISTRY/library/fresh:latest", {"nolocation": 1}, "http: no Location header in response"),
    ],
)  # fmt: skip
def test_a_pull_that_fails_says_so_as_recorded(
    ollama: Ollama, registry: Registry, name: str, faults: dict[str, int], said: str
) -> None:
    registry.add("fresh", "Nobody has this yet.")
    registry.faults = Faults(**faults)
    try:
        body = {"model": name.replace("REGISTRY", registry.host), "insecure": True}
        reply = ask(ollama, "POST", "/api/pull", body)
        whole = ask(ollama, "POST", "/api/pull", {**body, "stream": False})
    finally:
        registry.faults = Faults()
    error = f'{{"error":"{said}"}}'.replace("REGISTRY", registry.host)
    assert (reply.status, reply.header("content-type")) == (200, LINES)
    assert reply.body.decode().splitlines() == ['{"status":"pulling manifest"}', error]
    assert (whole.status, whole.header("content-type"), whole.body.decode()) == (500, JSON, error)


def test_wrong_bytes_and_a_full_disk_are_said_as_recorded(tmp_path: Path, registry: Registry) -> None:
    digest = digests(registry, "slow")[0]
    with Ollama(tmp_path) as ollama:
        registry.faults = Faults(corrupt=1)
        try:
            lines = pulled(ollama, registry, "slow")
        finally:
            registry.faults = Faults()
        said = f"digest mismatch, file must be downloaded again: want {digest}, got sha256:"
        assert re.fullmatch(rf'\{{"error":"{said}[0-9a-f]{{64}}"\}}', lines[-1])
        blob = ollama.models / "blobs" / digest.replace(":", "-")
        assert not blob.exists()
        ollama.tell("/test/room?bytes=100000")
        lines = pulled(ollama, registry, "slow")
        assert lines[-1] == f'{{"error":"write {blob}-partial: no space left on device"}}'
        assert blob.with_name(f"{blob.name}-partial").exists()
        ollama.tell("/test/room?bytes=0")
        lines = pulled(ollama, registry, "tiny")
        part = ollama.models / "blobs" / f"{digests(registry, 'tiny')[0].replace(':', '-')}-partial-0"
        assert lines[-1] == f'{{"error":"write {part}: no space left on device"}}'
        assert part.stat().st_size == 0
        ollama.tell("/test/room")
        assert pulled(ollama, registry, "tiny")[1:] == ['{"error":"EOF"}']
        part.unlink()
        assert pulled(ollama, registry, "tiny")[-1] == '{"status":"success"}'


def test_two_clients_share_one_download_and_it_stops_with_the_last(tmp_path: Path, registry: Registry) -> None:
    digest = registry.add("shared", model_bytes("shared", 2_000_000))
    registry.faults = Faults(rate=1_000_000)
    name = f"{registry.host}/library/shared:latest"
    with Ollama(tmp_path) as ollama:
        try:
            clients = [begun(ollama, "/api/pull", model=name, insecure=True) for _ in range(2)]
            for client in clients:
                received = b""
                while b"completed" not in received:
                    received += client.recv(65536)
                assert f'"digest":"{digest}","total":{len(registry.blobs[digest])}' in received.decode()
            ranges = [asked for asked in registry.asked_for(digest) if asked.range]
            assert len(ranges) == 1
            clients[0].close()
            sent = ranges[0].sent
            until(lambda: ranges[0].sent > sent, "it goes on for the other")
            clients[1].close()
            until(lambda: ranges[0].ended, "it has stopped")
        finally:
            registry.faults = Faults()
        part = ollama.models / "blobs" / f"{digest.replace(':', '-')}-partial-0"
        size = len(registry.blobs[digest])
        until(lambda: part.read_text() and json.loads(part.read_text())["Completed"], "how far it came is written")
        assert json.loads(part.read_text()) == {
            "N": 0, "Offset": 0, "Size": size, "Completed": json.loads(part.read_text())["Completed"]
        }  # fmt: skip
        assert pulled(ollama, registry, "shared")[-1] == '{"status":"success"}'


def test_deleting_takes_what_no_other_model_names(tmp_path: Path, registry: Registry) -> None:
    with closing(started(tmp_path, registry)) as ollama:
        for name in ("tiny", "slow"):
            reply = ask(ollama, "DELETE", "/api/delete", {"model": name})
            assert (reply.status, reply.header("content-length"), reply.header("content-type")) == (200, "0", None)
        assert len(list((ollama.models / "blobs").iterdir())) == 7  # three layers are of both
        ask(ollama, "DELETE", "/api/delete", {"name": f"{registry.host}/library/tiny:latest"})
        assert len(list((ollama.models / "blobs").iterdir())) == 5
        ask(ollama, "DELETE", "/api/delete", {"model": f"{registry.host}/library/slow:latest"})
        assert sorted(path.name for path in ollama.models.rglob("*")) == ["blobs", "manifests"]


@pytest.mark.parametrize(("keep", "there"), [("1", 2), ("", 1)])
def test_a_start_removes_old_leavings_unless_told_not_to(tmp_path: Path, keep: str, there: int) -> None:
    blobs = tmp_path / "models" / "blobs"
    blobs.mkdir(parents=True)
    for name, age in (("sha256-0-partial-0", 7200), ("sha256-1-partial-0", 10)):
        (blobs / name).write_text("{}")
        os.utime(blobs / name, (time.time() - age,) * 2)
    with Ollama(tmp_path, environ={"OLLAMA_NOPRUNE": keep}):
        assert len(list(blobs.iterdir())) == there
