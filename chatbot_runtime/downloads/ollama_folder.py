"""The folder of Ollama's models on our volume: manifests, blobs, parts of unfinished downloads. It must not know HTTP.

All of it blocks. It raises OSError, or ValueError where a manifest is none.
"""

import hashlib
import re
import shutil
import stat
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from chatbot_runtime.downloads.base import StoredFile
from chatbot_runtime.ollama_names import manifest_path

CHUNK = 1024 * 1024
DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})", re.ASCII)
_PART = re.compile(r"sha256-([0-9a-f]{64})-partial(-\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model on the volume. `blobs`: size by hex digits of the digest."""

    file: StoredFile
    blobs: Mapping[str, int]

    @property
    def size_bytes(self) -> int:
        return sum(self.blobs.values())


class ModelsFolder:
    """The folder of all models, as Ollama lays it out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"

    def manifest(self, full: str) -> Manifest | None:
        """What a model consists of; None: it is not there."""
        path = manifest_path(full)
        try:
            content = (self.root / path).read_bytes()
        except FileNotFoundError:
            return None
        blobs = dict(map(_layer, _layers(orjson.loads(content))))
        return Manifest(StoredFile(Path(path), len(content), hashlib.sha256(content).hexdigest()), blobs)

    def known(self, full: str) -> Manifest | None:
        """The same before a pull, which also mends what is no manifest."""
        with suppress(ValueError):
            return self.manifest(full)
        return None

    def verified(self, digest: str, size: int, stop: threading.Event) -> StoredFile | None:
        """A blob whose bytes are right; None: they are not, and it is removed, since Ollama takes any for whole."""
        path = self._blobs / f"sha256-{digest}"
        with suppress(FileNotFoundError):
            about = path.lstat()
            if stat.S_ISREG(about.st_mode) and about.st_size == size and _sha256(path, stop) == digest:
                return StoredFile(path.relative_to(self.root), size, digest)
            path.unlink()
        return None

    def parts(self) -> dict[str, list[Path]]:
        """What unfinished downloads have left, by digest: first the bytes, then the files that say which are there."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self._blobs.iterdir()) if self._blobs.is_dir() else ():
            if name := _PART.fullmatch(path.name):
                found.setdefault(name[1], []).append(path)
        return found

    def remove_parts(self, digests: Collection[str]) -> None:
        """Throws away what there is of unfinished downloads."""
        for digest, paths in self.parts().items():
            for path in paths if digest in digests else ():
                path.unlink(missing_ok=True)

    def remove_broken_parts(self) -> None:
        """Those that Ollama could never bring to a good end: it says EOF for ever, or leaves out what is missing."""
        self.remove_parts({digest for digest, paths in self.parts().items() if not _can_go_on(paths)})

    def remove_unnamed_parts(self) -> None:
        """Those of blobs that no model has."""
        files = [path for path in (self.root / "manifests").rglob("*") if path.is_file()]
        named = {digest for path in files for digest in DIGEST.findall(path.read_text(errors="replace"))}
        self.remove_parts(self.parts().keys() - named)

    def lacks_room(self, digest: str, size: int) -> bool:
        """Whether a blob that has begun to come will not fit."""
        free = self.free_bytes()  # first: what is written meanwhile must not count as missing twice
        there = 0
        with suppress(FileNotFoundError):
            there = (self._blobs / f"sha256-{digest}-partial").stat().st_blocks * 512
        return size - there > free

    def free_bytes(self) -> int:
        """Room on the volume."""
        return shutil.disk_usage(self.root).free


def _layers(manifest: Any) -> list[Any]:
    match manifest:
        case {"layers": [*layers], "config": {"digest": str(digest)} as config} if digest:
            return [*layers, config]
        case {"layers": [*layers]}:
            return layers
    raise ValueError("there is a manifest that is none")


def _layer(layer: Any) -> tuple[str, int]:
    match layer:
        case {"digest": str(digest), "size": int(size)} if found := DIGEST.fullmatch(digest):
            return found[1], size
    raise ValueError("there is a manifest with a layer that is none")


def _can_go_on(paths: list[Path]) -> bool:
    """Whether the files of a download belong together: one that is empty or missing is what a killed server left."""
    with suppress(FileNotFoundError, ValueError, TypeError, KeyError):
        data, *parts = paths
        sizes = sum(orjson.loads(part.read_bytes())["Size"] for part in parts)
        return data.name.endswith("-partial") and bool(sizes >= data.stat().st_size)
    return False


def _sha256(path: Path, stop: threading.Event) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            if stop.is_set():
                raise InterruptedError
            digest.update(chunk)
    return digest.hexdigest()
