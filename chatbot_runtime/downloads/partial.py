"""A file on its way: the bytes so far, their digests, and how it becomes the file.

It must not know where bytes come from.

Beside the bytes lies a note of what they shall become, so that they go on only as the beginning of the same content.
Whatever kills the process leaves either nothing, or a beginning, or the whole and verified file under its name.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ValidationError

from chatbot_runtime.downloads.base import DownloadError, StoredFile
from chatbot_runtime.downloads.volume import Volume, human

MAGIC = b"GGUF"
BLOCK_BYTES = 1024 * 1024
STEP_BYTES = 16 * BLOCK_BYTES
"""What is hashed between two looks at whether to go on."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file must be. `sha256` or `git`, the digest of the file as git's object, is known."""

    name: str
    """For people."""
    place: PurePosixPath
    url: str
    commit: str
    size: int
    sha256: str = ""
    git: str = ""


class _Note(BaseModel):
    """What the bytes beside it are the beginning of; the commit is only for people."""

    commit: str
    sha256: str
    git: str
    size: int


class Digests:
    """Of the bytes so far."""

    def __init__(self, wanted: Wanted) -> None:
        self.count = 0
        self._wanted = wanted
        self._sha256 = hashlib.sha256()
        # Not for security: git's own names of small files; the connection vouches for them.
        self._git: Any = hashlib.sha1(b"blob %d\0" % wanted.size, usedforsecurity=False) if wanted.git else None

    def update(self, data: bytes | memoryview) -> None:
        self.count += len(data)
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def right(self) -> bool:
        """Whether these are the bytes that are wanted."""
        wanted = self._wanted
        return (
            self.count == wanted.size
            and (not wanted.sha256 or self.sha256 == wanted.sha256)
            and (self._git is None or self._git.hexdigest() == wanted.git)
        )


class Reading:
    """A file that is hashed step by step."""

    def __init__(self, file: int, digests: Digests) -> None:
        self._file = file
        self._digests = digests
        self._block = memoryview(bytearray(BLOCK_BYTES))

    def step(self) -> bool:
        """Hashes some more; False at the end."""
        end = self._digests.count + STEP_BYTES
        while self._digests.count < end:
            count = os.preadv(self._file, [self._block], self._digests.count)
            if not count:
                return False
            self._digests.update(self._block[:count])
        return True


class Partial:
    """The file under its name for the time being. Its methods block, and raise OSError and DownloadError."""

    def __init__(self, volume: Volume, wanted: Wanted) -> None:
        self._volume = volume
        self._wanted = wanted
        self._path, self._note = leftovers(wanted.place)
        self._file = -1
        self.digests = Digests(wanted)

    def present(self) -> int:
        """Bytes that an earlier try has left of the same content."""
        size = self._volume.size(self._path)
        return size if size is not None and size <= self._wanted.size and self._is_ours() else 0

    def open(self) -> Reading:
        """Opens it with the bytes that are there, which have yet to be hashed."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        if not self.present():
            wanted = self._wanted
            self._volume.remove(self._path)
            note = _Note(commit=wanted.commit, sha256=wanted.sha256, git=wanted.git, size=wanted.size)
            self._volume.write(self._note, note.model_dump_json().encode())
        self._file = self._volume.open(self._path, flags)
        return Reading(self._file, self.digests)

    def write(self, data: bytes) -> None:
        """Takes further bytes; they must also be given to the digests."""
        self._volume.append(self._file, data)

    def restart(self) -> None:
        """Throws away the bytes so far."""
        os.ftruncate(self._file, 0)
        self.digests = Digests(self._wanted)

    def finish(self) -> StoredFile:
        """Verifies it, and gives it its name. If it is wrong it is removed."""
        os.fsync(self._file)
        wanted, digests = self._wanted, self.digests
        magic = os.pread(self._file, len(MAGIC), 0)
        if not digests.right:
            self.discard()
            raise mismatch(wanted, digests.sha256)
        if magic != MAGIC:
            self.discard()
            raise DownloadError(
                "DownloadFailed", f"{wanted.name} is no GGUF file: it begins with {magic!r}; name one that is"
            )
        self.close()
        self._volume.rename(self._path, wanted.place)
        self._volume.remove(self._note)
        return StoredFile(Path(wanted.place), wanted.size, digests.sha256)

    def discard(self) -> None:
        """Removes what is there of it."""
        self.close()
        discard(self._volume, self._wanted.place)

    def close(self) -> None:
        """Keeps what is there."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _is_ours(self) -> bool:
        with contextlib.suppress(FileNotFoundError, ValidationError):
            note = _Note.model_validate_json(self._volume.read(self._note))
            return (note.sha256, note.git, note.size) == (self._wanted.sha256, self._wanted.git, self._wanted.size)
        return False


def leftovers(place: PurePosixPath) -> tuple[PurePosixPath, PurePosixPath]:
    """What lies beside a file that is on its way: its bytes, and the note of them."""
    return place.with_name(place.name + ".partial"), place.with_name(place.name + ".partial.json")


def discard(volume: Volume, place: PurePosixPath) -> None:
    """Removes what tries for a file have left."""
    for path in leftovers(place):
        volume.remove(path)


def mismatch(wanted: Wanted, sha256: str) -> DownloadError:
    """The bytes are others than those that the Hub names."""
    named = f"sha256 {wanted.sha256}" if wanted.sha256 else f"git object {wanted.git}"
    return DownloadError(
        "DigestMismatch",
        f"{wanted.name}: what came is not what the Hub names ({human(wanted.size)}, {named}): its sha256 is {sha256}. "
        "It was removed; if it happens again, something on the way changes it",
    )
