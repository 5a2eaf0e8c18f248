"""The order of things in a download: lock, look, clear away, fetch, mark. It must not know signals, ports or sources.

What is on the volume is whole at every instant, whenever the process ends: a marker is written last and deleted first.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from chatbot_runtime.contract import BY_TOKEN
from chatbot_runtime.downloads.base import DownloadError, Source, StoredModel
from chatbot_runtime.downloads.config import DownloadConfig
from chatbot_runtime.downloads.huggingface import in_thread, sweep
from chatbot_runtime.downloads.marker import MarkedModel, Marker, Markers
from chatbot_runtime.downloads.report import ProgressMeter
from chatbot_runtime.downloads.retry import Patience
from chatbot_runtime.downloads.volume import Volume, human, storage_failure
from chatbot_runtime.ollama_names import full_name, manifest_path
from chatbot_runtime.references import is_hf, stored_path
from chatbot_runtime.token_file import TokenFile

log = logging.getLogger(__name__)

SourceOf = Callable[[str], Source]
"""The source of a model, by its name."""


@dataclass(frozen=True, slots=True)
class Run:
    """Brings one list of models onto the volume."""

    config: DownloadConfig
    volume: Volume
    token: TokenFile
    source_of: SourceOf
    meter: ProgressMeter

    async def run(self) -> tuple[StoredModel, ...]:
        """The models, all of them whole, and the marker written. Raises DownloadError."""
        try:
            async with self._locked():
                models = await self._brought()
        except OSError as error:
            raise storage_failure(error, self.volume.root) from None
        self.meter.done()
        return models

    async def _brought(self) -> tuple[StoredModel, ...]:
        markers, config = Markers(self.volume), self.config
        marker = await in_thread(markers.read, config.list_hash)
        if marker is not None and marker.names == config.models and await in_thread(markers.whole, marker.models):
            log.info("nothing to do: the list is on the volume since %s", marker.finished_at.isoformat())
            return tuple(self._told(model.stored(model.name)) for model in marker.models)
        known = await in_thread(self._known, markers)
        await self._clear(markers)
        await in_thread(markers.begin, config.list_hash, config.models)
        models = []
        for name in config.models:
            there = known.get(self._place(name))
            models.append(self._told(there.stored(name)) if there else await self._fetched(name))
        marked = tuple(map(MarkedModel.of, models))
        new = Marker(list_hash=config.list_hash, models=marked, finished_at=datetime.now(UTC))
        await in_thread(markers.finish, new)
        return tuple(models)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        while (lock := await in_thread(self.volume.lock)) is None:
            if self.meter.status().state != "waiting":
                message = f"another download is writing to {self.volume.root}: waiting until it ends"
                self.meter.waits(message)
                log.info(message)
            await asyncio.sleep(self.config.poll_seconds)
        try:
            yield
        finally:
            os.close(lock)

    def _known(self, markers: Markers) -> dict[PurePosixPath, MarkedModel]:
        """The models that a marker vouches for, by the file that an engine opens; blocks."""
        found = {}
        for list_hash in markers.lists():
            marker = markers.read(list_hash)
            for model in marker.models if marker is not None else ():
                place = self._place(model.name)
                if place.as_posix() in (file.path for file in model.files) and markers.whole([model]):
                    found[place] = model
        return found

    async def _clear(self, markers: Markers) -> None:
        """Removes what neither this list nor one that is still served has."""
        config = self.config
        await in_thread(markers.take_back, config.list_hash)
        lists = await in_thread(markers.lists)
        names = {name: await in_thread(markers.names, name) for name in {*lists, *config.keep_lists}}
        if unknown := [name for name in config.keep_lists if name != config.list_hash and names[name] is None]:
            log.warning("nothing is cleared away: what these lists need is not known: %s", ", ".join(unknown))
            return
        needed = {name for kept in config.keep_lists for name in names[kept] or ()} | set(config.models)
        dropped = {name: names[name] or () for name in lists if name not in (config.list_hash, *config.keep_lists)}
        left = {name for models in (*dropped.values(), names.get(config.list_hash) or ()) for name in models}
        for name in dropped:
            await in_thread(markers.take_back, name)
        if gone := await in_thread(sweep, self.volume, filter(is_hf, needed)):
            log.info("removed: %s", ", ".join(map(str, gone)))
        places = set(map(self._place, needed))
        if await self._removed([n for n in sorted(left) if not is_hf(n) and self._place(n) not in places]):
            for name in dropped:
                await in_thread(markers.forget, name)

    async def _removed(self, names: Sequence[str]) -> bool:
        """Removes models of Ollama; False: not all of them, and a later download must do it."""
        if names and all(map(is_hf, self.config.models)):  # Ollama runs beside us only if it has something to fetch
            log.warning("on the volume until the next download by Ollama: %s", ", ".join(names))
            return False
        for name in names:
            try:
                await self.source_of(name).remove(name)
            except DownloadError as error:
                log.warning("%s stays on the volume for now: %s", name, error)
                return False
            log.info("removed: %s", name)
        return True

    async def _fetched(self, name: str) -> StoredModel:
        """One model; tried again as long as that may help."""
        source, patience = self.source_of(name), Patience(self.config.retries)
        while True:
            self.token.poll()
            used = self.token.value
            try:
                model = await source.fetch(name, self.meter.of(name))
            except DownloadError as error:
                await self._wait(error, patience, used)
            else:
                log.info("whole: %s, %s, %s", name, human(model.size_bytes), model.digest)
                return self._told(model)

    async def _wait(self, error: DownloadError, patience: Patience, used: str) -> None:
        """Comes back when another try may help. Raises the error if none does."""
        by_token = error.reason in BY_TOKEN
        pause = self.config.refused_seconds if by_token else patience.pause(error, self.meter.completed)
        if pause is None:
            raise error
        self.meter.waits(str(error), error.reason)
        until = "until the token changes, or for" if by_token else "for"
        log.warning("%s: %s: waiting %s %.0f s", error.reason, error, until, pause)
        try:
            async with asyncio.timeout(pause):
                while not by_token or self.token.value == used:
                    await asyncio.sleep(self.config.poll_seconds)
                    self.token.poll()
        except TimeoutError:
            pass

    def _told(self, model: StoredModel) -> StoredModel:
        progress = self.meter.of(model.name)
        progress.expect(model.size_bytes)
        progress.have(model.size_bytes)
        return model

    def _place(self, name: str) -> PurePosixPath:
        """The file by which an engine finds a model: the same for all names that mean the same."""
        try:
            return stored_path(name) if is_hf(name) else manifest_path(full_name(name, self.config.registry))
        except ValueError:
            return PurePosixPath(name)
