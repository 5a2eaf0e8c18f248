"""Models of the Hugging Face Hub: whole and verified, or not at all. It must not know lists, markers or the process."""

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from chatbot_runtime.downloads.base import DownloadError, Progress, StoredFile, StoredModel
from chatbot_runtime.downloads.hub_files import HubFiles
from chatbot_runtime.downloads.partial import Digests, Partial, Reading, Wanted, discard, leftovers
from chatbot_runtime.downloads.pump import Pump
from chatbot_runtime.downloads.volume import Volume, full, storage_failure
from chatbot_runtime.downloads.wire import Wire
from chatbot_runtime.references import FOLDER, parse_hf

log = logging.getLogger(__name__)

SPACE_SECONDS = 3.0
"""How often free space is looked at while bytes come."""
T = TypeVar("T")


class HuggingFaceSource:
    """Fetches `hf://owner/repo/path/file.gguf[@revision]`."""

    def __init__(self, hub: HubFiles, wire: Wire, volume: Volume, space_seconds: float = SPACE_SECONDS) -> None:
        self._hub = hub
        self._wire = wire
        self._volume = volume
        self._space_seconds = space_seconds

    async def fetch(self, name: str, progress: Progress) -> StoredModel:
        reference = parse_hf(name)
        files = await asyncio.to_thread(self._hub.find, reference)
        fetch = _Fetch(self._wire, self._volume, self._hub.token.value, files, progress, self._space_seconds)
        return await fetch.run(name)

    async def remove(self, name: str) -> None:
        try:
            for place in parse_hf(name).places:
                await in_thread(self._volume.remove, place)
                await in_thread(discard, self._volume, place)
        except OSError as error:
            raise storage_failure(error, self._volume.root) from None

    async def close(self) -> None:
        await self._wire.close()


def sweep(volume: Volume, names: Iterable[str]) -> list[PurePosixPath]:
    """Removes all files of the Hub that none of these models has. Blocks, and raises OSError."""
    places = [place for name in names for place in parse_hf(name).places]
    return volume.sweep(PurePosixPath(FOLDER), frozenset(places).union(*map(leftovers, places)))


class _Fetch:
    """One try for one model."""

    def __init__(
        self,
        wire: Wire,
        volume: Volume,
        token: str,
        files: Sequence[Wanted],
        progress: Progress,
        space_seconds: float,
    ) -> None:
        self._wire = wire
        self._volume = volume
        self._token = token
        self._files = files
        self._progress = progress
        self._space_seconds = space_seconds
        self._have = dict.fromkeys((wanted.place for wanted in files), 0)
        """Bytes of each file that are on the volume."""

    async def run(self, name: str) -> StoredModel:
        """The model, all files of it whole."""
        try:
            files = await self._fetched()
        except (OSError, DownloadError) as error:
            failure = await self._of_volume(error) if isinstance(error, OSError) else error
            if failure.reason == "StorageFull":
                await self._make_room()
            raise failure from None
        return StoredModel(name, _digest(files), files)

    async def _fetched(self) -> tuple[StoredFile, ...]:
        self._progress.expect(sum(wanted.size for wanted in self._files))
        for wanted in self._files:
            self._have[wanted.place] = await in_thread(self._present, wanted)
        self._tell()
        whole = {wanted: file for wanted in self._files if (file := await self._verified(wanted)) is not None}
        await in_thread(self._need_room)
        for wanted in self._files:
            if wanted not in whole:
                whole[wanted] = await self._brought(wanted)
        return tuple(whole[wanted] for wanted in self._files)

    def _present(self, wanted: Wanted) -> int:
        size = self._volume.size(wanted.place)
        return wanted.size if size == wanted.size else Partial(self._volume, wanted).present()

    async def _verified(self, wanted: Wanted) -> StoredFile | None:
        """A file that is there under its name; None if it is not, or is another one: then it is removed."""
        size = await in_thread(self._volume.size, wanted.place)
        if size is None:
            return None
        if size == wanted.size:
            self._progress.verifying()
            digests = Digests(wanted)
            file = await in_thread(self._volume.open, wanted.place, os.O_RDONLY)
            try:
                await self._read(Reading(file, digests))
            finally:
                os.close(file)
            if digests.right:
                await in_thread(discard, self._volume, wanted.place)
                return StoredFile(Path(wanted.place), size, digests.sha256)
        log.warning("%s: the file that is there is damaged, or is an older one: it is fetched again", wanted.name)
        await in_thread(self._volume.remove, wanted.place)
        self._have[wanted.place] = await in_thread(self._present, wanted)
        self._tell()
        return None

    async def _brought(self, wanted: Wanted) -> StoredFile:
        part = Partial(self._volume, wanted)
        try:
            reading = await in_thread(part.open)
            if self._have[wanted.place]:
                self._progress.verifying()
                await self._read(reading)
            if part.digests.count < wanted.size:
                await self._received(part, wanted)
            self._progress.verifying()
            return await in_thread(part.finish)
        finally:
            part.close()

    async def _received(self, part: Partial, wanted: Wanted) -> None:
        clock = asyncio.get_running_loop().time
        looked = clock()
        async with self._wire.opened(wanted.url, part.digests.count, wanted.size, self._token) as body:
            if body.begins != part.digests.count:
                log.info("%s: %s does not go on where it was broken off: it begins anew", wanted.name, body.host)
                await in_thread(part.restart)
            async with Pump(part.write, part.digests.update) as pump:
                given = body.begins
                while given < wanted.size:
                    piece = await body.read()
                    if not piece:
                        text = f"{body.host} has ended after {given} of {wanted.size} bytes"
                        raise DownloadError("SourceUnreachable", text)
                    await pump.put(piece[: wanted.size - given])
                    given += len(piece)
                    self._have[wanted.place] = body.begins + pump.taken
                    self._tell()
                    if clock() - looked >= self._space_seconds:
                        await in_thread(self._need_room)
                        looked = clock()
        self._have[wanted.place] = part.digests.count
        self._tell()

    async def _read(self, reading: Reading) -> None:
        while await in_thread(reading.step):
            pass

    def _tell(self) -> None:
        self._progress.have(sum(self._have.values()))

    @property
    def _needed(self) -> int:
        return sum(wanted.size - self._have[wanted.place] for wanted in self._files)

    def _need_room(self) -> None:
        free = self._volume.free_bytes()
        if self._needed > free:
            raise full(self._volume.root, self._needed, free)

    async def _of_volume(self, error: OSError) -> DownloadError:
        free = None
        with contextlib.suppress(OSError):
            free = await in_thread(self._volume.free_bytes)
        return storage_failure(error, self._volume.root, self._needed, free)

    async def _make_room(self) -> None:
        """A full volume harms all that write to it: what cannot be finished goes."""
        with contextlib.suppress(OSError):
            for wanted in self._files:
                await in_thread(discard, self._volume, wanted.place)


def _digest(files: Sequence[StoredFile]) -> str:
    """Names a model's content: a file's own digest, or that of all parts' digests."""
    if len(files) == 1:
        return f"sha256:{files[0].sha256}"
    lines = "".join(f"{file.sha256}  {PurePosixPath(file.path).name}\n" for file in files)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Runs what blocks; who is cancelled waits for its end: no file is closed while it is written to."""
    running = asyncio.get_running_loop().run_in_executor(None, partial(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await running
        raise
