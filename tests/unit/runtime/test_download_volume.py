"""What a download of the Hub does on its volume: links, paths, no room, leavings, notes."""

import contextlib
import errno
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from chatbot_runtime.downloads.base import DownloadError
from chatbot_runtime.downloads.huggingface import sweep
from chatbot_runtime.downloads.volume import Volume
from tests.support.fetching import Told
from tests.support.hub_downloads import MODEL, NAME, PLACE, RATE, SIZE, Case


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
    missing = SIZE - case.partial.stat().st_size
    assert 100_000 < missing < SIZE
    await case.fails("StorageFull", f"{missing / 1000:.1f} kB more are needed, 100.0 kB are free")
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
