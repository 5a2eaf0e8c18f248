"""Models in the memory of the stand-in for Ollama: how they come there, are waited for and die. It must not know chats.

Beside `ollama_server.py`, which runs as a plain file in a pod.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from tests.support.ollama_pull import Folder, Model, Name
    from tests.support.ollama_settings import Settings
    from tests.support.ollama_wire import ApiError
else:  # in a pod
    from ollama_pull import Folder, Model, Name
    from ollama_settings import Settings
    from ollama_wire import ApiError

MAGIC = b"CHATBOT-TEST-MODEL\n"
BUSY = "server busy, please try again.  maximum pending requests exceeded"
CONTEXT = 4096


@dataclass
class Runner:
    """A model in memory."""

    model: Model
    sentence: str
    pace: float
    context: int
    keep: float
    slots: asyncio.Semaphore
    users: int = 0
    expires: float = 0
    dead: asyncio.Event = field(default_factory=asyncio.Event)


class Runners:
    """What is in memory, and who waits for it."""

    def __init__(self, settings: Settings, folder: Folder) -> None:
        self._settings = settings
        self._folder = folder
        self._loading: dict[str, asyncio.Lock] = {}
        self._waiting = 0
        self._running: dict[str, Runner] = {}

    def running(self) -> dict[str, Runner]:
        """By full name."""
        self._running = {name: one for name, one in self._running.items() if one.users or one.expires > time.time()}
        return self._running

    @asynccontextmanager
    async def use(self, asked: str, model: Model, keep: float | None) -> AsyncIterator[Runner]:
        """A slot of a model that is in memory. While it comes there, nothing is said."""
        name = model.name.full
        loading = self._loading.setdefault(name, asyncio.Lock())
        waits = loading.locked() or (name in self.running() and self._running[name].slots.locked())
        if waits and self._waiting >= self._settings.max_queue:
            raise ApiError(503, BUSY)
        self._waiting += waits
        try:
            async with loading:
                runner = await self._loaded(asked, model, keep)
            await runner.slots.acquire()
        finally:
            self._waiting -= waits
        runner.users += 1
        try:
            yield runner
        finally:
            runner.users -= 1
            runner.slots.release()
            runner.expires = time.time() + runner.keep

    async def _loaded(self, asked: str, model: Model, keep: float | None) -> Runner:
        runner = self.running().get(model.name.full)
        if runner is None:
            about = self._about(model)
            if about is None:
                raise ApiError(400, f'"{asked}" does not support chat')
            await asyncio.sleep(about.get("load_seconds", 0))
            runner = Runner(
                model,
                about["sentence"],
                about.get("tokens_per_second", 1000),
                about.get("num_ctx") or self._settings.context or CONTEXT,
                self._settings.keep_alive,
                asyncio.Semaphore(self._settings.parallel),
            )
            self._running[model.name.full] = runner
        runner.keep = runner.keep if keep is None else keep
        runner.expires = time.time() + max(runner.keep, 1)
        return runner

    def _about(self, model: Model) -> dict[str, Any] | None:
        """What a model's file says, with its parameters; None: it is damaged or gone."""
        weights = next((layer for layer in model.layers if layer["mediaType"].endswith("image.model")), None)
        try:
            path = self._folder.blob(weights["digest"]) if weights else Path()
            with path.open("rb") as file:
                if not weights or path.stat().st_size != weights["size"] or file.readline() != MAGIC:
                    return None
                about: dict[str, Any] = json.loads(file.readline())
            for digest in model.digests("image.params"):
                about = json.loads(self._folder.blob(digest).read_bytes()) | about
        except (OSError, ValueError):
            return None
        return about

    def unload(self, name: Name) -> None:
        """Takes it out of memory."""
        self._running.pop(name.full, None)

    def kill(self) -> None:
        """All of them die."""
        for runner in self._running.values():
            runner.dead.set()
        self._running.clear()
