"""The folder of models of the stand-in for Ollama, and how models get there. It must not know chats.

Beside `ollama_server.py`, which runs as a plain file in a pod. Needs only aiohttp.
What is written down in the recorded traces is done as there: files, requests, lines and words of errors.
"""

import asyncio
import errno
import hashlib
import json
import os
import re
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

VERSION = "0.32.15"
AGENT = {"User-Agent": f"ollama/{VERSION} (amd64 linux) Go/go1.26.8", "Accept-Encoding": "identity"}
DIRECT = {"User-Agent": "Go-http-client/1.1", "Accept-Encoding": "identity"}
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
REGISTRY = "registry.ollama.ai"
PART_BYTES, MOST_PART_BYTES, PARTS = 100_000_000, 1_000_000_000, 16
TICK = 0.06
TRIES = 6
STALLED_SECONDS = 30.0
CHUNK = 64 * 1024
PRUNED_AFTER = 3600.0
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_NAME = re.compile(
    rf"(?:(?:(?P<host>{_PART}(?::\d+)?)/)?(?P<space>[A-Za-z0-9_-]+)/)?(?P<model>{_PART})(?::(?P<tag>{_PART}))?"
)


class PullError(Exception):
    """A pull has failed; the message is what the real one says."""


@dataclass(frozen=True)
class Name:
    """A model's name in its four parts."""

    host: str
    space: str
    model: str
    tag: str

    @staticmethod
    def of(text: object) -> "Name | None":
        """None: it is not valid."""
        if not isinstance(text, str) or not (found := _NAME.fullmatch(text)):
            return None
        return Name(found["host"] or REGISTRY, found["space"] or "library", found["model"], found["tag"] or "latest")

    @property
    def full(self) -> str:
        return f"{self.host}/{self.space}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """As lists show it."""
        return self.full.removeprefix(f"{REGISTRY}/").removeprefix("library/") if self.host == REGISTRY else self.full


@dataclass(frozen=True)
class Model:
    """A model that has a manifest."""

    name: Name
    digest: str
    modified: float
    layers: list[dict[str, Any]]

    @property
    def size(self) -> int:
        return sum(layer["size"] for layer in self.layers)

    def digests(self, kind: str) -> list[str]:
        """Of the layers of one kind."""
        return [layer["digest"] for layer in self.layers if layer["mediaType"].endswith(kind)]


class Folder:
    """OLLAMA_MODELS. `room`: bytes of blobs that may still be written before the disk is full; None: as many as fit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.room: int | None = None
        self.blobs = root / "blobs"
        self.manifests = root / "manifests"

    def blob(self, digest: str) -> Path:
        return self.blobs / digest.replace(":", "-")

    def manifest(self, name: Name) -> Path:
        return self.manifests / name.host / name.space / name.model / name.tag

    def model(self, name: Name) -> Model | None:
        path = self.manifest(name)
        try:
            content = path.read_bytes()
            value = json.loads(content)
            layers = [*value["layers"], value["config"]]
        except (OSError, ValueError, KeyError):
            return None
        return Model(name, hashlib.sha256(content).hexdigest(), path.stat().st_mtime, layers)

    def models(self) -> list[Model]:
        """All, those of the newest second first."""
        names = [Name(*path.relative_to(self.manifests).parts) for path in self.manifests.glob("*/*/*/*")]
        found = [model for name in sorted(names, key=lambda name: name.full) if (model := self.model(name))]
        return sorted(found, key=lambda model: -int(model.modified))

    def delete(self, model: Model) -> None:
        """With the blobs that no other model names."""
        path = self.manifest(model.name)
        path.unlink()
        for folder in path.relative_to(self.manifests).parents[:-1]:
            with suppress(OSError):
                (self.manifests / folder).rmdir()
        named = self._named()
        for layer in model.layers:
            if layer["digest"] not in named:
                self.blob(layer["digest"]).unlink(missing_ok=True)

    def prune(self) -> None:
        """What a server does when it starts: blobs and part files of no model go, unless they are new."""
        named = {self.blob(digest).name for digest in self._named()}
        for path in self.blobs.iterdir():
            if path.name not in named and time.time() - path.stat().st_mtime > PRUNED_AFTER:
                path.unlink()

    def _named(self) -> set[str]:
        return {layer["digest"] for model in self.models() for layer in model.layers}

    def take(self, count: int) -> None:
        """Room for so many bytes more. Raises OSError."""
        if self.room is not None:
            if count > self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.room -= count


@dataclass
class Part:
    """A range of a blob, as its file says it."""

    N: int
    Offset: int
    Size: int
    Completed: int = 0


@dataclass(eq=False)
class Download:
    """One blob on its way, for all clients that want it."""

    folder: Folder
    session: aiohttp.ClientSession
    url: str
    digest: str
    parts: list[Part] = field(default_factory=list)
    completed: int = 0
    clients: int = 0
    task: "asyncio.Task[None] | None" = None

    @property
    def path(self) -> Path:
        return self.folder.blob(self.digest)

    @property
    def total(self) -> int:
        return sum(part.Size for part in self.parts)

    async def prepare(self) -> None:
        """Goes on with the part files that are there, else makes them."""
        found = sorted(self.path.parent.glob(f"{self.path.name}-partial-*"))
        for file in found:
            if not (text := file.read_text()):
                raise PullError("EOF")
            self.parts.append(Part(**json.loads(text)))
        if not found:
            async with self.session.head(self.url, headers=AGENT, allow_redirects=True) as response:
                await raise_for(response, "")
                total = int(response.headers.get("Content-Length", 0))
            size = min(max(total // PARTS, PART_BYTES), MOST_PART_BYTES)
            for offset in range(0, total, size):
                self.parts.append(Part(len(self.parts), offset, min(size, total - offset)))
                self.save(self.parts[-1])
        self.completed = sum(part.Completed for part in self.parts)

    def save(self, part: Part) -> None:
        """Writes a part's file; a full disk leaves it empty."""
        file = self.path.with_name(f"{self.path.name}-partial-{part.N}")
        text = json.dumps(asdict(part), separators=(",", ":")) + "\n"
        try:
            with file.open("w") as out:
                self.folder.take(len(text))
                out.write(text)
        except OSError as error:
            raise PullError(go_error("write" if error.errno == errno.ENOSPC else "open", file, error)) from None

    async def run(self) -> None:
        """All parts at once; then the blob gets its name."""
        data = self.path.with_name(f"{self.path.name}-partial")
        with data.open("r+b" if data.exists() else "w+b") as file:
            file.truncate(self.total)
            direct = await self._location()
            tasks = [asyncio.create_task(self._part(part, direct, file.fileno())) for part in self.parts]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        for number in range(len(self.parts)):
            data.with_name(f"{data.name}-{number}").unlink()
        data.rename(self.path)

    async def _location(self) -> str:
        """Where the bytes are. The answer's own bytes are not read."""
        response = await self.session.get(self.url, headers=AGENT, allow_redirects=False)
        try:
            await raise_for(response, "")
            if "Location" not in response.headers:
                raise PullError("http: no Location header in response")
            return str(response.url.join(URL(response.headers["Location"])))
        finally:
            response.close()

    async def _part(self, part: Part, url: str, file: int) -> None:
        tries = 0
        while part.Completed < part.Size:
            try:
                async with asyncio.timeout(STALLED_SECONDS) as patience:
                    await self._range(part, url, file, patience)
            except TimeoutError:
                continue  # such a try does not count
            except (aiohttp.ClientError, ConnectionError, EOFError) as error:
                tries += 1
                if tries == TRIES:
                    raise PullError(f"max retries exceeded: {words(error)}") from None
                await asyncio.sleep(2 ** (tries - 1))

    async def _range(self, part: Part, url: str, file: int, patience: asyncio.Timeout) -> None:
        """One request. How far it came is written when it ends, unless the disk is full."""
        first, last = part.Offset + part.Completed, part.Offset + part.Size - 1
        try:
            async with self.session.get(url, headers={**DIRECT, "Range": f"bytes={first}-{last}"}) as response:
                if response.status != 206:
                    raise EOFError
                async for piece in response.content.iter_chunked(CHUNK):
                    self._write(file, piece, part.Offset + part.Completed)
                    part.Completed += len(piece)
                    self.completed += len(piece)
                    patience.reschedule(asyncio.get_running_loop().time() + STALLED_SECONDS)
        except PullError:
            raise
        except BaseException:
            self.save(part)
            raise
        self.save(part)

    def _write(self, file: int, piece: bytes, offset: int) -> None:
        try:
            self.folder.take(len(piece))
            os.pwrite(file, piece, offset)
        except OSError as error:
            raise PullError(go_error("write", self.path.with_name(f"{self.path.name}-partial"), error)) from None


class Puller:
    """All pulls of a server."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._session: aiohttp.ClientSession | None = None
        self._downloads: dict[str, Download] = {}
        self._starting = asyncio.Lock()

    async def close(self) -> None:
        """Stops what is under way; the part files then say how far it came."""
        tasks = [download.task for download in self._downloads.values() if download.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session:
            await self._session.close()

    async def pull(self, name: Name, insecure: bool) -> AsyncGenerator[dict[str, Any], None]:
        """The lines of a pull. Raises PullError."""
        yield {"status": "pulling manifest"}
        self._session = self._session or aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        base = f"{'http' if insecure else 'https'}://{name.host}/v2/{name.space}/{name.model}"
        content = await self._manifest(f"{base}/manifests/{name.tag}")
        manifest = json.loads(content)
        fetched = []
        for layer in (*manifest["layers"], manifest["config"]):
            digest, path = layer["digest"], self._folder.blob(layer["digest"])
            if path.exists():
                yield progress(digest, path.stat().st_size, path.stat().st_size)
                continue
            fetched.append(path)
            async for line in self._blob(f"{base}/blobs/{digest}", digest):
                yield line
        yield {"status": "verifying sha256 digest"}
        for path in fetched:
            got = hashlib.sha256(path.read_bytes()).hexdigest()
            if path.name != f"sha256-{got}":
                path.unlink()
                want = path.name.replace("-", ":")
                raise PullError(f"digest mismatch, file must be downloaded again: want {want}, got sha256:{got}")
        yield {"status": "writing manifest"}
        path = self._folder.manifest(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise PullError(go_error("open", path, error)) from None
        yield {"status": "success"}

    async def _manifest(self, url: str) -> bytes:
        assert self._session
        try:
            async with self._session.get(url, headers={**AGENT, "Accept": MANIFEST}) as response:
                if response.status == 401:
                    said = f'realm host "" does not match original host "{response.url.authority}"'
                    raise PullError(f"pull model manifest: {said}")
                await raise_for(response, "pull model manifest: ")
                return await response.read()
        except aiohttp.ClientError as error:
            raise PullError(f'pull model manifest: Get "{url}": {words(error)}') from None

    async def _blob(self, url: str, digest: str) -> AsyncGenerator[dict[str, Any], None]:
        """A blob that is not there: fetched once, however many clients want it, and as long as there is one."""
        assert self._session
        async with self._starting:
            download = self._downloads.get(digest)
            if download is None:
                download = Download(self._folder, self._session, url, digest)
                await download.prepare()
                download.task = asyncio.create_task(download.run())
                self._downloads[digest] = download
            download.clients += 1
        assert download.task
        try:
            while not (await asyncio.wait({download.task}, timeout=TICK))[0]:
                yield progress(digest, download.total, download.completed)
            if (error := download.task.exception()) is not None:
                raise error if isinstance(error, PullError) else PullError(words(error))
        finally:
            download.clients -= 1
            if not download.clients:
                self._downloads.pop(digest, None)
                download.task.cancel()
                await asyncio.wait({download.task})


def progress(digest: str, total: int, completed: int) -> dict[str, Any]:
    """One line; nothing completed is not said."""
    line = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total, "completed": completed}
    return line if completed else {name: line[name] for name in ("status", "digest", "total")}


async def raise_for(response: aiohttp.ClientResponse, what: str) -> None:
    """What a status of the registry is called."""
    if response.status == 404:
        raise PullError(f"{what}file does not exist")
    if response.status >= 400:
        raise PullError(f"{what}{response.status}: {(await response.read()).decode(errors='replace')}")


def words(error: BaseException) -> str:
    """As Go says it."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {error.host}: no such host"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    if isinstance(error, aiohttp.ClientConnectorError) and error.errno == errno.ECONNREFUSED:
        return f"dial tcp {error.host}:{error.port}: connect: connection refused"
    if isinstance(error, OSError) and error.filename:
        return go_error("remove" if error.errno == errno.ENOENT else "open", error.filename, error)
    return "EOF" if isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerDisconnectedError) else "unexpected EOF"


def go_error(verb: str, path: Path | str, error: OSError) -> str:
    return f"{verb} {path}: {os.strerror(error.errno or errno.EIO).lower()}"


def dumps(value: object) -> str:
    """JSON as Go writes it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
