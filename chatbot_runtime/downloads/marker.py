"""What a volume says of the lists of models on it. It must not know how models come there.

A list's marker is written when all its models are whole, and only then. Before that, a note says which models the list
is about to bring, so that what is left of them can be found by name, whenever it was that a download was broken off.
"""

import contextlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from chatbot_runtime.downloads.base import StoredFile, StoredModel
from chatbot_runtime.downloads.volume import Volume
from chatbot_runtime.references import is_hf, parse_hf

FOLDER = PurePosixPath(".complete")
_MARKER = ".json"
_NOTE = ".unfinished"


def _below(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts:
        raise ValueError("it must lie below the folder of all models")
    return path


def _usable(name: str) -> str:
    if is_hf(name):
        parse_hf(name)
    return name


Name = Annotated[str, AfterValidator(_usable)]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class MarkedFile(_Part):
    """A file of a model. `path`: below the folder of all models."""

    path: Annotated[str, AfterValidator(_below)]
    size_bytes: int = Field(ge=0)
    sha256: str


class MarkedModel(_Part):
    """A model that is whole."""

    name: Name
    digest: str
    size_bytes: int = Field(ge=0)
    files: tuple[MarkedFile, ...]

    @classmethod
    def of(cls, model: StoredModel) -> "MarkedModel":
        """A model as its source stored it."""
        files = tuple(
            MarkedFile(path=file.path.as_posix(), size_bytes=file.size_bytes, sha256=file.sha256)
            for file in model.files
        )
        return cls(name=model.name, digest=model.digest, size_bytes=model.size_bytes, files=files)

    def stored(self, name: str) -> StoredModel:
        """The same as its source would tell it, under the name by which it is asked for now."""
        files = tuple(StoredFile(Path(file.path), file.size_bytes, file.sha256) for file in self.files)
        return StoredModel(name, self.digest, files)


class Marker(_Part):
    """A list of models that was whole at `finished_at`."""

    list_hash: str
    models: tuple[MarkedModel, ...]
    finished_at: datetime

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(model.name for model in self.models)


class _Note(_Part):
    models: tuple[Name, ...]


T = TypeVar("T", bound=_Part)


class Markers:
    """The markers and notes of one volume. Its methods block, and raise OSError."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    def lists(self) -> list[str]:
        """All lists that something is known of, in order."""
        names = map(PurePosixPath, self._volume.names(FOLDER))
        return sorted({name.stem for name in names if name.suffix in (_MARKER, _NOTE)})

    def read(self, list_hash: str) -> Marker | None:
        """A list's marker; None if there is none, or none that can be used."""
        found = self._read(list_hash + _MARKER, Marker)
        return found if found is not None and found.list_hash == list_hash else None

    def names(self, list_hash: str) -> tuple[str, ...] | None:
        """The models of a list; None if they are not known."""
        if (marker := self.read(list_hash)) is not None:
            return marker.names
        note = self._read(list_hash + _NOTE, _Note)
        return None if note is None else note.models

    def whole(self, models: Iterable[MarkedModel]) -> bool:
        """Whether all files are there with their sizes."""
        try:
            return all(
                self._volume.size(PurePosixPath(file.path)) == file.size_bytes
                for model in models
                for file in model.files
            )
        except OSError:
            return False

    def begin(self, list_hash: str, names: tuple[str, ...]) -> None:
        """Notes which models a list has, before the first byte of them comes."""
        self._volume.write(FOLDER / (list_hash + _NOTE), _Note(models=names).model_dump_json().encode())

    def finish(self, marker: Marker) -> None:
        """Says that a list is whole."""
        self._volume.write(FOLDER / (marker.list_hash + _MARKER), marker.model_dump_json(by_alias=True).encode())
        self._volume.remove(FOLDER / (marker.list_hash + _NOTE))

    def take_back(self, list_hash: str) -> None:
        """Says that a list is not whole any more, for good; a note of its models stays."""
        if (names := self.names(list_hash)) is not None:
            self.begin(list_hash, names)
        self._volume.remove(FOLDER / (list_hash + _MARKER))
        self._volume.sync_folder(FOLDER)

    def forget(self, list_hash: str) -> None:
        """Nothing of a list is left."""
        self._volume.remove(FOLDER / (list_hash + _NOTE))

    def _read(self, name: str, kind: type[T]) -> T | None:
        with contextlib.suppress(OSError, ValidationError):
            return kind.model_validate_json(self._volume.read(FOLDER / name))
        return None
