"""Models of Ollama: an `ollama serve` beside us fetches them onto our volume. It must not know Kubernetes or the list.

Ollama's API says little: a pull has only gone well if it says so, what went wrong is told by words alone, a registry
that falls silent is waited for without end, and nothing takes away what a failed pull leaves behind. All that is done
here. What a pull has left is gone on with by Ollama itself.
"""

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from yarl import URL

from chatbot_runtime.contract import DownloadReason
from chatbot_runtime.downloads.base import DownloadError, Progress, StoredFile, StoredModel
from chatbot_runtime.downloads.ollama_folder import DIGEST, Manifest, ModelsFolder
from chatbot_runtime.network import open_session
from chatbot_runtime.ollama_names import full_name
from chatbot_runtime.providers.failures import scrubbed

AGAIN_SECONDS = 0.2
"""Between two looks whether Ollama listens."""
HASHED_BYTES_PER_SECOND = 10_000_000
"""The least that a volume gives. Ollama compares digests in silence, which takes minutes for a large model."""
_STATUS = re.compile(r"(?:pull model manifest: )?(\d{3}): ")
_NO_TLS = re.compile('Get "https:.*(?:EOF|HTTPS client)$')
_QUERY = re.compile(r"(https?://[^\s\"?]*)\?[^\s\"]*")
"""Addresses of blobs are signed: whoever has the query has the blob."""
_WORDS: tuple[tuple[re.Pattern[str], DownloadReason], ...] = (
    (re.compile("no space left on device|disk quota exceeded"), "StorageFull"),
    (re.compile("^digest mismatch"), "DigestMismatch"),
    (re.compile("^(?:open|write|mkdir|remove|rename) .*(?:read-only|denied|not permitted)"), "DownloadFailed"),
    (re.compile("^pull model manifest: file does not exist|^invalid model name"), "ModelNotFound"),
    (re.compile("realm host|unauthorized"), "TokenRejected"),
    (re.compile("no Location header"), "DownloadFailed"),
)
"""What Ollama says when it is no status of the registry; anything else may pass by itself."""
_DENIED: Mapping[int, DownloadReason] = {401: "TokenRejected", 403: "AccessDenied", 404: "ModelNotFound"}
_MEANING: Mapping[DownloadReason, str] = {
    "ModelNotFound": "the registry has no such model: correct the name, or put the model there",
    "TokenRejected": "the registry wants a login, and Ollama has none: it must let anybody read",
    "AccessDenied": "the registry denies access to it",
    "SourceUnreachable": "it does not come from the registry",
    "DigestMismatch": "the registry sent other bytes than it had announced; they are thrown away",
    "DownloadFailed": "Ollama cannot store it, or cannot use this registry",
}


def reason_of(said: str) -> DownloadReason:
    """What an error of a pull means."""
    if status := _STATUS.match(said):
        code = int(status[1])
        return _DENIED.get(code, "SourceUnreachable" if code >= 500 or code in (408, 429) else "DownloadFailed")
    return next((reason for words, reason in _WORDS if words.search(said)), "SourceUnreachable")


class OllamaSource:
    """Asks the server at `url`, whose OLLAMA_MODELS is `models_dir`.

    `registry`: the host of names that have none; `insecure`: it is spoken to in plain HTTP. `stall_seconds`: how long
    nothing may come forward.
    """

    def __init__(
        self, url: str, registry: str, insecure: bool, models_dir: Path, stall_seconds: float, connect_seconds: float
    ) -> None:
        self._url = URL(url)
        self._registry = registry
        self._insecure = insecure
        self._folder = ModelsFolder(models_dir)
        self._stall_seconds = stall_seconds
        self._connect_seconds = connect_seconds
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, name: str, progress: Progress) -> StoredModel:
        full = self._full(name)
        await self._listening()
        await _on_volume(self._folder.remove_broken_parts)
        await self._pull(name, full, progress)
        progress.verifying()
        manifest: Manifest | None = await _on_volume(self._folder.manifest, full)
        if manifest is None:
            where = self._folder.root
            raise _failed(f"{name}: Ollama has stored it, but not in {where}: its OLLAMA_MODELS must be this folder")
        progress.expect(manifest.size_bytes)
        progress.have(manifest.size_bytes)
        files = [await self._verified(name, digest, size) for digest, size in manifest.blobs.items()]
        return StoredModel(name, f"sha256:{manifest.file.sha256}", (manifest.file, *files))

    async def remove(self, name: str) -> None:
        full = self._full(name)
        await self._listening()
        try:
            async with (
                asyncio.timeout(self._stall_seconds),
                self._opened().delete(self._url / "api/delete", json={"model": full}) as response,
            ):
                status, said = response.status, await _error_in(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._broken_off(error) from None
        if status not in (200, 404):
            raise DownloadError(
                reason_of(said), f"{name} is not removed: Ollama failed (HTTP {status}): {_shown(said)}"
            )
        await _on_volume(self._folder.remove_unnamed_parts)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _full(self, name: str) -> str:
        try:
            return full_name(name, self._registry)
        except ValueError as error:
            raise DownloadError("ModelNotFound", f"{error}.") from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(context=None, resolver=None, connect_seconds=self._connect_seconds)
        return self._session

    async def _listening(self) -> None:
        """Comes back as soon as the server listens: it may still be starting."""
        try:
            async with asyncio.timeout(self._stall_seconds):
                while not await self._answers():  # noqa: ASYNC110 - another process knows no event of ours
                    await asyncio.sleep(AGAIN_SECONDS)
        except TimeoutError:
            text = f"Ollama does not answer at {self._url}: it does not run, or has not started in time."
            raise DownloadError("SourceUnreachable", text) from None

    async def _answers(self) -> bool:
        try:
            async with self._opened().get(self._url) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    async def _pull(self, name: str, full: str, progress: Progress) -> None:
        """Comes back when Ollama says that it has the model."""
        before: Collection[str] = await _on_volume(self._folder.parts)
        tally = _Tally(await _on_volume(self._folder.known, full), progress)
        try:
            async with (
                asyncio.timeout(self._stall_seconds) as patience,
                aclosing(self._lines({"model": full, "insecure": self._insecure})) as lines,
            ):
                async for line in lines:
                    if line.get("status") == "success":
                        return
                    if "error" in line:
                        raise await self._refused(name, str(line["error"]), tally, before)
                    if tally.moved(line):
                        now = asyncio.get_running_loop().time()
                        patience.reschedule(now + self._stall_seconds + tally.silent_seconds)
                    if tally.begun is not None:
                        await self._have_room(name, *tally.begun)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if patience.expired():
                text = f"nothing of {name} has come for {self._stall_seconds:g} s: the registry has fallen silent."
                raise DownloadError("SourceUnreachable", text) from None
            raise self._broken_off(error) from None
        raise self._broken_off(EOFError())

    async def _lines(self, body: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any], None]:
        """What Ollama says of a pull. When this is closed, Ollama stops it and keeps what has come."""
        response = await self._opened().post(self._url / "api/pull", json=body)
        try:
            if response.status != 200:
                yield {"error": await _error_in(response)}
                return
            async for text in response.content:
                line = orjson.loads(text)
                if isinstance(line, dict):
                    yield line
        finally:
            response.close()

    async def _refused(self, name: str, said: str, tally: "_Tally", before: Collection[str]) -> DownloadError:
        reason = reason_of(said)
        if reason == "StorageFull":
            # Ollama leaves them, and they would keep the volume full for all others.
            new = set(await _on_volume(self._folder.parts)) - set(before)
            await _on_volume(self._folder.remove_parts, new | set(tally.blobs) | set(DIGEST.findall(said)))
            return await self._no_room(name, tally.total)
        hint = " (one that speaks plain HTTP needs `insecure`)" if _NO_TLS.search(said) else ""
        return DownloadError(reason, f"{name}: {_MEANING[reason]}{hint}. Ollama says: {_shown(said)}")

    async def _have_room(self, name: str, digest: str, size: int) -> None:
        """Fails before the volume is full, so that what has come can be gone on with once there is more room."""
        if await _on_volume(self._folder.lacks_room, digest, size):
            raise await self._no_room(name, size)

    async def _no_room(self, name: str, size: int) -> DownloadError:
        free = await _on_volume(self._folder.free_bytes)
        needs = f"it needs {size} bytes in all" if size else "it needs more"
        text = f"{name} does not fit on the volume: {needs}, and {free} are free. Make the volume larger."
        return DownloadError("StorageFull", text)

    async def _verified(self, name: str, digest: str, size: int) -> StoredFile:
        stop = threading.Event()
        try:
            file: StoredFile | None = await _on_volume(self._folder.verified, digest, size, stop)
        finally:
            stop.set()  # a thread cannot be cancelled, and the process would wait for it
        if file is None:
            text = f"{name}: its file sha256:{digest[:12]} was damaged or missing; it must be fetched again."
            raise DownloadError("DigestMismatch", text)
        return file

    def _broken_off(self, error: Exception) -> DownloadError:
        kind = type(error).__name__
        return DownloadError("SourceUnreachable", f"Ollama at {self._url} broke off its answer ({kind}).")


class _Tally:
    """Adds up what is said of one pull. `known`: the model as it lies on the volume, perhaps an older one."""

    def __init__(self, known: Manifest | None, progress: Progress) -> None:
        self._known = known
        self._progress = progress
        self._status = ""
        self._told = (0, 0)
        self.blobs: dict[str, tuple[int, int]] = {}
        """Size, and bytes that are there."""
        self.begun: tuple[str, int] | None = None
        """Digest and size of a blob that the last line was the first to name, if it is not there whole."""

    @property
    def total(self) -> int:
        """Bytes of the model, as far as known."""
        if self._known is not None and self.blobs.keys() <= self._known.blobs.keys():
            return self._known.size_bytes
        return sum(size for size, _ in self.blobs.values())

    @property
    def silent_seconds(self) -> float:
        """How much longer than usual nothing may be heard."""
        return self.total / HASHED_BYTES_PER_SECOND if self._status.startswith("verifying") else 0.0

    def moved(self, line: Mapping[str, Any]) -> bool:
        """Takes one line; whether the pull has come forward with it. Lines come all the time, whatever happens."""
        status, digest = str(line.get("status", "")), DIGEST.fullmatch(str(line.get("digest", "")))
        size, there = _number(line.get("total")), _number(line.get("completed"))
        forward, self._status, self.begun = status != self._status, status, None
        if forward and status.startswith("verifying"):
            self._progress.verifying()
        if digest and size:
            had = self.blobs.get(digest[1])
            if had is None and there < size:
                self.begun = digest[1], size
            forward = forward or had is None or there > had[1]
            self.blobs[digest[1]] = size, there
            self._tell()
        return forward

    def _tell(self) -> None:
        now = self.total, sum(there for _, there in self.blobs.values())
        if now[0] != self._told[0]:
            self._progress.expect(now[0])
        if now[1] != self._told[1]:
            self._progress.have(now[1])
        self._told = now


async def _on_volume(work: Any, *arguments: Any) -> Any:
    """In a thread: the volume may be slow."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _failed(f"the volume of the models cannot be used: {why or type(error).__name__}") from None


def _failed(message: str) -> DownloadError:
    return DownloadError("DownloadFailed", f"{message}.")


def _number(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def _shown(said: str) -> str:
    """For people: a sentence on one line, without what would let them in elsewhere."""
    return scrubbed(_QUERY.sub(r"\1", said), "").rstrip(".") + "."


async def _error_in(response: aiohttp.ClientResponse) -> str:
    text = (await response.content.read(65_536)).decode(errors="replace")
    with suppress(ValueError):
        value = orjson.loads(text)
        if isinstance(value, dict) and isinstance(value.get("error"), str):
            return str(value["error"])
    return text or f"HTTP {response.status}, and no words"
