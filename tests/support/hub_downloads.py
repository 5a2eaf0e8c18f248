"""A download from the Hub's stand-in into a volume, tried as often as a test likes. No test logic here."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver
from yarl import URL

from chatbot_runtime.contract import DownloadReason
from chatbot_runtime.downloads.base import DownloadError, StoredModel
from chatbot_runtime.downloads.hub_files import HubFiles
from chatbot_runtime.downloads.huggingface import HuggingFaceSource
from chatbot_runtime.downloads.volume import Volume
from chatbot_runtime.downloads.wire import Wire
from chatbot_runtime.network import trust
from chatbot_runtime.token_file import TokenFile
from tests.support.fetching import Told
from tests.support.hub import Hub

NAME = "hf://org/tiny/tiny.gguf"
PLACE = "hf/org/tiny/main/tiny.gguf"
SIZE = 400_000
RATE = 5_000_000
"""Bytes a second, so that nothing is on its way unread when a connection breaks."""
MODEL = b"GGUF" + random.Random(1).randbytes(SIZE - 4)


class Case:
    """A volume, the Hub, and the token; times are short."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.models = folder / "models"
        self.models.mkdir()
        self.token = folder / "token"
        self.volume = Volume(self.models)
        self.url = hub.url
        self.ca_file: Path | None = None
        self.resolver: AbstractResolver | None = None
        self.has_token_file = True
        self.space_seconds = 0.0
        self.told = Told()

    @property
    def place(self) -> Path:
        return self.models / PLACE

    @property
    def partial(self) -> Path:
        return self.models / f"{PLACE}.partial"

    def files(self) -> list[str]:
        """All files of the volume."""
        return sorted(path.relative_to(self.models).as_posix() for path in self.models.rglob("*") if path.is_file())

    @asynccontextmanager
    async def source(self) -> AsyncIterator[HuggingFaceSource]:
        context, endpoint = trust(self.ca_file), URL(self.url)
        token = TokenFile(self.token if self.has_token_file else None)
        hub = HubFiles(endpoint, token, self.has_token_file, context, connect_seconds=2, stall_seconds=0.4)
        wire = Wire(endpoint, context, connect_seconds=2, stall_seconds=0.4, resolver=self.resolver)
        source = HuggingFaceSource(hub, wire, self.volume, self.space_seconds)
        try:
            yield source
        finally:
            await source.close()

    async def fetch(self, name: str = NAME) -> StoredModel:
        """One try."""
        self.told = Told()
        async with self.source() as source:
            return await source.fetch(name, self.told)

    async def fails(self, reason: DownloadReason, *words: str, name: str = NAME) -> DownloadError:
        """One try that must fail so."""
        with pytest.raises(DownloadError) as caught:
            await self.fetch(name)
        assert caught.value.reason == reason, caught.value
        for word in words:
            assert word in str(caught.value)
        assert "hf_" not in str(caught.value)
        assert not self.place.exists()
        return caught.value
