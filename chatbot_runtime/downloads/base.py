"""What every source of models looks like to a download, and how one fails. It must not know HTTP or Kubernetes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chatbot_runtime.contract import DownloadReason

TRY_AGAIN_EXIT = 1
"""Exit code for a failure that may pass: the Job tries again."""


class DownloadError(Exception):
    """A model does not come. The message is for people and holds no secret.

    `retry_after`: seconds, if the source said when to come back.
    """

    def __init__(self, reason: DownloadReason, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a model, verified. `path`: below the folder of all models."""

    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model whose files are all there. `digest`: `sha256:` and 64 hex digits that name its content."""

    name: str
    digest: str
    files: tuple[StoredFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class Progress(Protocol):
    """Is told how far one model is. Bytes may go down again: some sources throw away what was broken."""

    def expect(self, total_bytes: int) -> None:
        """How many bytes the model has in all, as soon as it is known."""
        ...

    def have(self, completed_bytes: int) -> None:
        """How many of them are on the volume."""
        ...

    def verifying(self) -> None:
        """The bytes are there and are being compared with their digests."""
        ...


class Source(Protocol):
    """Where models come from. All paths are below the one folder that holds all models."""

    async def fetch(self, name: str, progress: Progress) -> StoredModel:
        """Brings one model onto the volume, going on with what an earlier try has left there; verified and renamed to
        its final place last. What is there whole already is verified by size and, if it is not known from a marker, by
        digest, and not fetched again. Raises DownloadError. Being cancelled leaves a state that can be resumed.
        """
        ...

    async def remove(self, name: str) -> None:
        """Takes a model off the volume, with what only it uses and what tries for it have left there."""
        ...

    async def close(self) -> None:
        """Frees what it holds."""
        ...
