"""Models of Ollama on a volume: every end that a download can have, and what the next one finds.

On the stand-in for Ollama and, where there is one, on the real program.
"""

import asyncio
import hashlib
import json
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatbot_runtime.contract import DownloadReason
from chatbot_runtime.downloads.base import StoredModel
from chatbot_runtime.downloads.ollama import OllamaSource
from tests.support.fetching import Told, is_so, refusal
from tests.support.ollama_process import STAND_IN, Ollama
from tests.support.ollama_registry import Faults, Registry, model_bytes

PROGRAMS = {"stand-in": STAND_IN} | ({"real": (real,)} if (real := shutil.which("ollama")) else {})
SENTENCE = "Hello there."
BIG = 3_000_000
"""Bytes of the model whose download takes a while, if the registry is slow."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry({"tiny": SENTENCE, "big": model_bytes(SENTENCE, BIG)}) as registry:
        yield registry


@pytest.fixture(params=sorted(PROGRAMS))
def ollama(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ollama]:
    with Ollama(tmp_path, PROGRAMS[request.param]) as ollama:
        yield ollama


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Ollama]:
    """Where a fault is asked for that only the stand-in can be told to have."""
    with Ollama(tmp_path, STAND_IN) as ollama:
        yield ollama


@asynccontextmanager
async def source(
    ollama: Ollama, registry: Registry | str, stall: float = 20, insecure: bool = True
) -> AsyncIterator[OllamaSource]:
    host = registry if isinstance(registry, str) else registry.host
    found = OllamaSource(ollama.url, host, insecure, ollama.models, stall, 5)
    try:
        yield found
    finally:
        await found.close()


async def fetched(ollama: Ollama, registry: Registry, name: str, stall: float = 20) -> StoredModel:
    async with source(ollama, registry, stall) as ours:
        return await ours.fetch(name, Told())


def blobs(ollama: Ollama) -> set[str]:
    folder = ollama.models / "blobs"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def parts(ollama: Ollama) -> set[str]:
    return {name for name in blobs(ollama) if "-partial" in name}


def blob(ollama: Ollama, digest: str) -> Path:
    return ollama.models / "blobs" / digest.replace(":", "-")


def weights(registry: Registry, name: str) -> str:
    manifest = json.loads(registry.manifests[f"library/{name}:latest"])
    digest: str = manifest["layers"][0]["digest"]
    return digest


async def test_a_model_is_fetched_and_described(ollama: Ollama, registry: Registry) -> None:
    seen = Told()
    async with source(ollama, registry) as ours:
        stored = await ours.fetch("tiny", seen)
    manifest = registry.manifests["library/tiny:latest"]
    assert stored.name == "tiny"
    assert stored.digest == f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    assert str(stored.files[0].path) == f"manifests/{registry.host}/library/tiny/latest"
    assert len(stored.files) == 6
    for file in stored.files:
        content = (ollama.models / file.path).read_bytes()
        assert len(content) == file.size_bytes
        assert hashlib.sha256(content).hexdigest() == file.sha256
    assert seen.verified
    assert seen.total == seen.completed[-1] == stored.size_bytes - len(manifest)
    assert not parts(ollama)


async def test_a_second_fetch_asks_for_no_blob(ollama: Ollama, registry: Registry) -> None:
    first = await fetched(ollama, registry, "tiny")
    asked = len(registry.asked_for("/blobs/"))
    seen = Told()
    async with source(ollama, registry) as ours:
        assert await ours.fetch("tiny", seen) == first
    assert len(registry.asked_for("/blobs/")) == asked
    assert len(registry.asked_for("/manifests/")) == 2
    assert seen.completed[-1] == seen.total


async def test_the_progress_of_a_download_grows_to_its_total(ollama: Ollama, registry: Registry) -> None:
    registry.faults = Faults(rate=8_000_000)
    seen = Told()
    async with source(ollama, registry) as ours:
        await ours.fetch("big", seen)
    assert len(seen.completed) > 3
    assert seen.completed == sorted(seen.completed)
    assert BIG < seen.total == seen.completed[-1]


async def test_a_model_that_has_changed_is_fetched_anew(ollama: Ollama, registry: Registry) -> None:
    old = await fetched(ollama, registry, "tiny")
    registry.add("tiny", model_bytes("Something else.", 200_000))
    registry.faults = Faults(rate=1_000_000)
    seen = Told()
    async with source(ollama, registry) as ours:
        new = await ours.fetch("tiny", seen)
    assert new.digest != old.digest
    assert seen.total == seen.completed[-1] == new.size_bytes - new.files[0].size_bytes


@pytest.mark.parametrize(
    ("faults", "reason", "words"),
    [
        (Faults(manifests=403), "AccessDenied", "denies access"),
        (Faults(manifests=429), "SourceUnreachable", "429"),
        (Faults(manifests=500), "SourceUnreachable", "500"),
        (Faults(manifests=503), "SourceUnreachable", "503"),
        (Faults(blobs=404), "SourceUnreachable", "file does not exist"),
        (Faults(blobs=500), "SourceUnreachable", "500"),
        (Faults(unauthorized=1), "TokenRejected", "login"),
        (Faults(nolocation=1), "DownloadFailed", "Location"),
        (Faults(corrupt=1), "DigestMismatch", "other bytes"),
    ],
)
async def test_what_the_registry_answers_has_a_reason(
    ollama: Ollama, registry: Registry, faults: Faults, reason: DownloadReason, words: str
) -> None:
    registry.faults = faults
    async with source(ollama, registry) as ours:
        error = await refusal(ours.fetch("tiny", Told()))
        assert error.reason == reason
        assert words in str(error)
        registry.faults = Faults()
        await ours.fetch("tiny", Told())  # nothing that was left behind is in the way


@pytest.mark.parametrize("name", ["nope", "tiny:nope", "a b/../c", "team/tiny"])
async def test_a_model_that_the_registry_does_not_have_is_not_found(
    ollama: Ollama, registry: Registry, name: str
) -> None:
    async with source(ollama, registry) as ours:
        error = await refusal(ours.fetch(name, Told()))
    assert error.reason == "ModelNotFound"
    assert name in str(error)


async def test_a_registry_that_cannot_be_reached_may_come_back(ollama: Ollama, registry: Registry) -> None:
    for host in ("127.0.0.1:9", "registry.invalid"):
        async with source(ollama, host) as ours:
            assert (await refusal(ours.fetch("tiny", Told()))).reason == "SourceUnreachable"
    async with source(ollama, registry, insecure=False) as ours:
        error = await refusal(ours.fetch("tiny", Told()))
    assert error.reason == "SourceUnreachable"
    assert "insecure" in str(error)


async def test_a_registry_that_falls_silent_ends_the_try_and_keeps_what_has_come(
    ollama: Ollama, registry: Registry
) -> None:
    registry.faults = Faults(stall=2_000_000)
    async with source(ollama, registry, stall=1) as ours:
        error = await refusal(ours.fetch("big", Told()))
        assert error.reason == "SourceUnreachable"
        assert "silent" in str(error)
        await is_so(lambda: all(asked.ended for asked in registry.asked), "Ollama has stopped")
        registry.faults = Faults()
        seen, before = Told(), len(registry.asked)
        await ours.fetch("big", seen)
    ranges = [asked.range for asked in registry.asked[before:] if weights(registry, "big") in asked.path]
    assert ranges[-1].startswith("bytes=2000000-")
    assert sum(asked.sent for asked in registry.asked[before:] if asked.range) < BIG / 2


async def test_a_slow_registry_is_not_a_silent_one(ollama: Ollama, registry: Registry) -> None:
    registry.faults = Faults(rate=1_500_000)
    await fetched(ollama, registry, "big", stall=0.7)


async def test_a_connection_that_breaks_is_gone_on_with(ollama: Ollama, registry: Registry) -> None:
    registry.faults = Faults(cut=2_000_000)
    await fetched(ollama, registry, "big")
    ranges = [asked.range for asked in registry.asked if asked.range and weights(registry, "big") in asked.path]
    assert [given.split("-")[0] for given in ranges] == ["bytes=0", "bytes=2000000"]


async def test_a_cancelled_fetch_stops_the_pull_and_can_be_gone_on_with(ollama: Ollama, registry: Registry) -> None:
    registry.faults = Faults(rate=2_000_000)
    seen = Told()
    async with source(ollama, registry) as ours:
        fetch = asyncio.create_task(ours.fetch("big", seen))
        await is_so(lambda: seen.completed and seen.completed[-1] > 500_000, "it has begun to come")
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        await is_so(lambda: all(asked.ended for asked in registry.asked), "Ollama has stopped")
        assert not any(asked.whole for asked in registry.asked_for(weights(registry, "big")))
        registry.faults = Faults()
        await ours.fetch("big", Told())
    assert not registry.asked_for(weights(registry, "big"))[-1].range.startswith("bytes=0-")


async def test_a_server_that_is_killed_in_the_middle_can_be_gone_on_with(ollama: Ollama, registry: Registry) -> None:
    registry.faults = Faults(rate=2_000_000)
    seen = Told()
    async with source(ollama, registry) as ours:
        fetch = asyncio.create_task(refusal(ours.fetch("big", seen)))
        await is_so(lambda: seen.completed and seen.completed[-1] > 500_000, "it has begun to come")
        ollama.end(signal.SIGKILL)
        assert (await fetch).reason == "SourceUnreachable"
        assert parts(ollama)
        registry.faults = Faults()
        ollama.start(wait=False)  # it is waited for
        assert (await ours.fetch("big", Told())).size_bytes > BIG
    assert not parts(ollama)


async def test_a_server_that_never_comes_is_the_sources_fault(tmp_path: Path, registry: Registry) -> None:
    async with source(Ollama(tmp_path), registry, stall=0.5) as ours:
        for work in (ours.fetch("tiny", Told()), ours.remove("tiny")):
            error = await refusal(work)
            assert error.reason == "SourceUnreachable"
            assert "does not answer" in str(error)


async def test_a_full_disk_leaves_no_part_files(stand_in: Ollama, registry: Registry) -> None:
    other = stand_in.models / "blobs" / f"sha256-{'0' * 64}-partial"
    for room in (1_000_000, 10):  # the second fills up before a line of progress has come
        stand_in.tell(f"/test/room?bytes={room}")
        async with source(stand_in, registry) as ours:
            await is_so(other.parent.is_dir, "the folder is there")
            error = await refusal(ours.fetch("big", Told()))
        assert error.reason == "StorageFull"
        assert str(shutil.disk_usage(stand_in.models).free)[:3] in str(error)
        assert not parts(stand_in)
    stand_in.tell("/test/room")
    assert (await fetched(stand_in, registry, "big")).name == "big"


async def test_a_full_disk_leaves_nothing_of_earlier_tries(stand_in: Ollama, registry: Registry) -> None:
    registry.faults = Faults(stall=500_000)
    async with source(stand_in, registry, stall=0.5) as ours:
        await refusal(ours.fetch("big", Told()))
        await is_so(lambda: all(asked.ended for asked in registry.asked), "Ollama has stopped")
        registry.faults = Faults()
        stand_in.tell("/test/room?bytes=1000000")
        assert (await refusal(ours.fetch("big", Told()))).reason == "StorageFull"
    assert not parts(stand_in)


async def test_a_full_disk_takes_no_other_models_part_files(stand_in: Ollama, registry: Registry) -> None:
    registry.faults = Faults(stall=500_000)
    async with source(stand_in, registry, stall=0.5) as ours:
        await refusal(ours.fetch("big", Told()))
        await is_so(lambda: all(asked.ended for asked in registry.asked), "Ollama has stopped")
        await is_so(lambda: len(parts(stand_in)) == 2, "how far it came is written")
        left = parts(stand_in)
        stand_in.tell("/test/room?bytes=10")
        assert (await refusal(ours.fetch("tiny", Told()))).reason == "StorageFull"
    assert parts(stand_in) == left


async def test_what_cannot_fit_is_not_begun(ollama: Ollama, registry: Registry) -> None:
    needs = shutil.disk_usage(ollama.home).total * 2
    registry.claims[weights(registry, "big")] = needs
    registry.faults = Faults(rate=10_000)
    async with source(ollama, registry) as ours, asyncio.timeout(10):
        error = await refusal(ours.fetch("big", Told()))
    assert error.reason == "StorageFull"
    assert str(needs) in str(error)


@pytest.mark.parametrize(
    "left",
    [{"0": ""}, {"0": "", "1": ""}, {"0": "sound", "1": ""}, {"0": "", "1": "sound"}, {"1": "sound"}, {}, {"0": "{"}],
    ids=str,
)
async def test_part_files_of_which_one_is_empty_or_lost_are_thrown_away(
    ollama: Ollama, registry: Registry, left: dict[str, str]
) -> None:
    digest = weights(registry, "big")
    data = blob(ollama, f"{digest}-partial")
    data.parent.mkdir(parents=True, exist_ok=True)
    size = len(registry.blobs[digest])
    data.write_bytes(bytes(size))
    half = size // 2
    sound = {
        "0": {"N": 0, "Offset": 0, "Size": half, "Completed": 0},
        "1": {"N": 1, "Offset": half, "Size": size - half, "Completed": 0},
    }
    for number, text in left.items():
        data.with_name(f"{data.name}-{number}").write_text(json.dumps(sound[number]) if text == "sound" else text)
    assert (await fetched(ollama, registry, "big")).size_bytes > size
    assert not parts(ollama)
    assert len([asked for asked in registry.asked_for(digest) if asked.range]) == 1


async def test_sound_part_files_are_kept(ollama: Ollama, registry: Registry) -> None:
    digest = weights(registry, "big")
    content, name = registry.blobs[digest], blob(ollama, digest).name
    folder = ollama.models / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-partial").write_bytes(content[:1_000_000] + bytes(len(content) - 1_000_000))
    for number, (offset, done) in enumerate([(0, 1_000_000), (1_000_000, 0)]):
        size = 1_000_000 if done else len(content) - offset
        part = {"N": number, "Offset": offset, "Size": size, "Completed": done}
        (folder / f"{name}-partial-{number}").write_text(json.dumps(part))
    await fetched(ollama, registry, "big")
    assert [a.range.split("-")[0] for a in registry.asked_for(digest) if a.range] == ["bytes=1000000"]


@pytest.mark.parametrize("damage", ["bytes", "shorter", "gone", "link"])
async def test_a_damaged_file_is_removed_and_fetched_with_the_next_try(
    ollama: Ollama, registry: Registry, damage: str, tmp_path: Path
) -> None:
    registry.add("tiny", SENTENCE * 20)
    await fetched(ollama, registry, "tiny")
    path, digest = blob(ollama, weights(registry, "tiny")), weights(registry, "tiny")
    content = path.read_bytes()
    path.unlink()
    if damage == "link":
        elsewhere = tmp_path / ("x" * (len(content) - len(f"{tmp_path}/")))  # the size of a link is that of its target
        elsewhere.write_bytes(content)
        path.symlink_to(elsewhere)
        assert path.lstat().st_size == len(content)
    elif damage != "gone":
        path.write_bytes(content[:-1] + (b"!" if damage == "bytes" else b""))
    async with source(ollama, registry) as ours:
        if damage != "gone":  # that much Ollama sees by itself
            error = await refusal(ours.fetch("tiny", Told()))
            assert error.reason == "DigestMismatch"
            assert digest[:19] in str(error)
            assert path.name not in blobs(ollama)
        await ours.fetch("tiny", Told())
    assert path.read_bytes() == content
    assert not path.is_symlink()


async def test_a_server_with_another_folder_is_told_apart(ollama: Ollama, registry: Registry, tmp_path: Path) -> None:
    ours = OllamaSource(ollama.url, registry.host, True, tmp_path / "another", 20, 5)
    (tmp_path / "another").mkdir()
    error = await refusal(ours.fetch("tiny", Told()))
    await ours.close()
    assert error.reason == "DownloadFailed"
    assert "OLLAMA_MODELS" in str(error)


async def test_a_removed_model_leaves_nothing_that_no_other_has(ollama: Ollama, registry: Registry) -> None:
    async with source(ollama, registry) as ours:
        tiny = await ours.fetch("tiny", Told())
        big = await ours.fetch("big", Told())
        abandoned = ollama.models / "blobs" / f"sha256-{'0' * 64}-partial-0"
        retried = blob(ollama, weights(registry, "big") + "-partial-0")
        for path in (abandoned, retried):
            path.write_text("{}")
        await ours.remove("tiny")
        assert {path.name for path in (file.path for file in big.files[1:])} | {retried.name} == blobs(ollama)
        assert not (ollama.models / tiny.files[0].path).exists()
        await ours.remove("tiny")  # what is gone is no error
        await ours.remove("big")
    assert blobs(ollama) == set()


async def test_a_cancelled_check_of_the_bytes_does_not_go_on(
    stand_in: Ollama, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add("huge", model_bytes(SENTENCE, 30_000_000))
    await fetched(stand_in, registry, "huge")
    monkeypatch.setattr("chatbot_runtime.downloads.ollama_folder.CHUNK", 1)  # it takes several seconds
    async with source(stand_in, registry) as ours:
        seen = Told()
        fetch = asyncio.create_task(ours.fetch("huge", seen))
        await is_so(lambda: seen.verified == 2, "it is being verified, by Ollama and by us")
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
    before = time.monotonic()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert time.monotonic() - before < 1
    assert blob(stand_in, weights(registry, "huge")).exists()
