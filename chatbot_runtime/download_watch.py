"""How far the download of the next model is, for the chat page. It must not know who asks.

The downloader says it by itself, on the internal port of its pod.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from pydantic import ValidationError

from chatbot_runtime.contract import DownloadStatus
from chatbot_runtime.network import open_session

KEEP_SECONDS = 1.0
"""However many ask: the downloader is asked once in this time."""
WAIT_SECONDS = 1.0
MAX_BYTES = 65_536
SHOWN = {"percent", "completed_bytes", "total_bytes", "bytes_per_second", "seconds_left"}


class DownloadWatch:
    """Asks the downloader at `address()`, `host:port`; empty: none runs."""

    def __init__(self, address: Callable[[], str], resolver: AbstractResolver | None = None) -> None:
        self._address = address
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._known: tuple[str, float, Mapping[str, Any] | None] = ("", 0.0, None)

    async def current(self) -> Mapping[str, Any] | None:
        """The progress as a page shows it; None if nothing is downloaded, or nobody says how far it is."""
        address = self._address()
        if not address:
            return None
        asked, when, known = self._known
        if asked != address or time.monotonic() - when >= KEEP_SECONDS:
            # Those who ask meanwhile get what was known before.
            self._known = (address, time.monotonic(), known if asked == address else None)
            known = await self._ask(address)
            self._known = (address, time.monotonic(), known)
        return known

    async def close(self) -> None:
        """Frees what it holds."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, address: str) -> Mapping[str, Any] | None:
        if self._session is None:
            self._session = open_session(context=None, resolver=self._resolver, connect_seconds=WAIT_SECONDS)
        timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS)
        with suppress(aiohttp.ClientError, OSError, TimeoutError, ValidationError, ValueError):
            url = f"http://{address}/status"
            async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
                body = bytearray()
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > MAX_BYTES:
                        return None
            status = DownloadStatus.model_validate_json(body)
            if status.state not in ("done", "failed"):
                return status.model_dump(by_alias=True, include=SHOWN)
        return None
