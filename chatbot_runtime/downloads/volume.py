"""The folder of all models. It must not know what models are, nor where they come from.

Every path is taken apart and opened step by step, from the folder down, and no step follows a symbolic link: whoever
writes to the volume can lead nobody out of it. All methods block, and raise OSError.
"""

import contextlib
import errno
import fcntl
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from chatbot_runtime.downloads.base import DownloadError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = PurePosixPath(".lock")
_SMALL = 4 * 1024 * 1024
"""Bytes; what is read whole is never larger."""
_UNITS = ("kB", "MB", "GB", "TB", "PB")


class Volume:
    """Files below `root`; paths are relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def folder(self, path: PurePosixPath, *, create: bool = False) -> Iterator[int]:
        """An open folder."""
        if path.is_absolute() or ".." in path.parts:
            raise OSError(errno.EACCES, "it leads out of the folder of all models", str(path))
        here = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in path.parts:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=here)
                deeper = os.open(name, _FOLDER, dir_fd=here)
                os.close(here)
                here = deeper
            yield here
        except OSError as error:
            raise _named(error, path) from None
        finally:
            os.close(here)

    def open(self, path: PurePosixPath, flags: int) -> int:
        """An open file; folders above it are made if it may be made itself."""
        with self.folder(path.parent, create=bool(flags & os.O_CREAT)) as folder:
            return os.open(path.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)

    def size(self, path: PurePosixPath) -> int | None:
        """The size of a plain file; None if there is nothing."""
        try:
            with self.folder(path.parent) as folder:
                found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.ELOOP, "it is no plain file", str(path))
        return found.st_size

    def remove(self, path: PurePosixPath) -> None:
        """Removes a file, or a link itself; there may be none."""
        with contextlib.suppress(FileNotFoundError), self.folder(path.parent) as folder:
            os.unlink(path.name, dir_fd=folder)

    def rename(self, old: PurePosixPath, new: PurePosixPath) -> None:
        """Gives a file another name in its folder, for good."""
        with self.folder(old.parent) as folder:
            os.rename(old.name, new.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def read(self, path: PurePosixPath) -> bytes:
        """A small file's content."""
        with os.fdopen(self.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe must not stop us
            return file.read(_SMALL)

    def write(self, path: PurePosixPath, content: bytes) -> None:
        """Writes a small file, whole or not at all."""
        new = path.with_name(path.name + ".new")
        with os.fdopen(self.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.rename(new, path)

    def append(self, file: int, data: bytes) -> None:
        """Writes to the end of an open file."""
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]

    def sync_folder(self, path: PurePosixPath) -> None:
        """Makes what was removed from a folder gone for good."""
        with contextlib.suppress(FileNotFoundError), self.folder(path) as folder:
            os.fsync(folder)

    def names(self, path: PurePosixPath) -> list[str]:
        """What is in a folder; nothing if there is none."""
        try:
            with self.folder(path) as folder:
                return sorted(os.listdir(folder))  # noqa: PTH208 - of an open folder
        except FileNotFoundError:
            return []

    def sweep(self, path: PurePosixPath, keep: frozenset[PurePosixPath]) -> list[PurePosixPath]:
        """Removes all below a folder but the files of `keep` and the folders that they are in; says what went."""
        gone = []
        for name in self.names(path):
            inner = path / name
            if inner in keep:
                continue
            if self._is_folder(inner):
                gone += self.sweep(inner, keep)
            else:
                self.remove(inner)
                gone.append(inner)
        with contextlib.suppress(OSError), self.folder(path.parent) as folder:  # one that is not empty stays
            os.rmdir(path.name, dir_fd=folder)
        return gone

    def lock(self) -> int | None:
        """The file that only one process has locked, as long as it is open; None: another one has it."""
        file = self.open(_LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        return file

    def free_bytes(self) -> int:
        """What may still be written."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def _is_folder(self, path: PurePosixPath) -> bool:
        with self.folder(path.parent) as folder:
            return stat.S_ISDIR(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode)


def storage_failure(error: OSError, root: Path, needed: int | None = None, free: int | None = None) -> DownloadError:
    """What a failure of the volume means for a download. `needed`, `free`: bytes, where they are known."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full(root, needed, free)
    where = error.filename or root
    if error.errno == errno.EROFS:
        why = f"{where}: the volume is read-only: mount it writable"
    elif error.errno in (errno.EACCES, errno.EPERM):
        why = f"{where}: {error.strerror}: the volume must be writable for user {os.getuid()}, group {os.getgid()}"
    elif error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
        why = f"{where}: a symbolic link, or something else that is not ours, is in the way: remove it"
    else:
        why = f"{where}: the volume fails: {error.strerror or error}"
    return DownloadError("DownloadFailed", why)


def full(root: Path, needed: int | None, free: int | None) -> DownloadError:
    """There is no room. Says how much is needed and how much is left."""
    need = "" if needed is None else f": {human(needed)} more are needed"
    left = "" if free is None else f", {human(free)} are free"
    return DownloadError("StorageFull", f"the volume at {root} is full{need}{left}: give it more room")


def human(count: float) -> str:
    """A number of bytes for people."""
    if count < 1000:
        return f"{count:.0f} bytes"
    power = min(int(math.log10(count) / 3), len(_UNITS))
    return f"{count / 1000**power:.1f} {_UNITS[power - 1]}"


def _named(error: OSError, path: PurePosixPath) -> OSError:
    """The same with the path as those who look at the volume know it: a step alone says little."""
    if error.filename is None:
        return error
    step = str(error.filename)
    name = path if step in path.parts else path / step
    return type(error)(error.errno, error.strerror, str(name))
