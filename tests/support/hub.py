"""A stand-in for the Hugging Face Hub and its file store, for downloads: right by default, wrong on demand.

`python hub.py --repo org/tiny=FOLDER`, or `Hub()` in a test. It needs only aiohttp and is one file: so it also runs in
a pod by itself. What it answers follows the recorded traces. Hub and file store are two ports, and so two origins.

    GET       /api/models/ID, /api/models/ID/revision/REV   what there is of a repository; `sha` is the commit
    HEAD GET  /ID/resolve/REV/FILE                          X-Repo-Commit, ETag, X-Linked-Etag, X-Linked-Size; large
                                                            files lead to the store
    HEAD GET  /cdn/DIGEST                                   the bytes, with Range
    POST      /ctl           {"rate": 100000, "status": {"cdn": 503}}: how it answers from now on; see `How`
    GET       /ctl/requests  what was asked: method, path, port, headers, time; DELETE forgets it
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

GOOD = "hf_good"
LARGE = 50_000
"""Bytes; larger files are in the store, and known by their sha256."""
PIECE = 1024 * 1024
PACE_SECONDS = 0.02
MADE_UP = "made up by the stand-in"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Content:
    """A file's bytes, in memory or on a disk."""

    def __init__(self, source: bytes | Path) -> None:
        self.source = source
        self.size = len(source) if isinstance(source, bytes) else source.stat().st_size
        sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        for begin in range(0, self.size, PIECE):
            piece = self.read(begin, PIECE)
            sha256.update(piece)
            git.update(piece)
        self.sha256, self.git = sha256.hexdigest(), git.hexdigest()

    def read(self, begin: int, count: int) -> bytes:
        """Some of the bytes."""
        if isinstance(self.source, bytes):
            return self.source[begin : begin + count]
        with self.source.open("rb") as file:
            file.seek(begin)
            return file.read(count)


@dataclass
class Repository:
    """Files by revision. `open_to`: the tokens for which a gated or private one is there."""

    revisions: dict[str, dict[str, Content]] = field(default_factory=dict)
    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    open_to: tuple[str, ...] = (GOOD,)

    def put(self, files: dict[str, bytes | Path], revision: str = "main") -> str:
        """A new commit, to which `revision` leads from now on."""
        contents = {name: Content(source) for name, source in files.items()}
        told = json.dumps({name: content.sha256 for name, content in contents.items()})
        commit = hashlib.sha1(told.encode(), usedforsecurity=False).hexdigest()
        self.revisions[revision] = self.commits[commit] = contents
        return commit

    def at(self, revision: str) -> tuple[str, dict[str, Content]] | None:
        """Commit and files; None if there is no such revision."""
        files = self.revisions.get(revision, self.commits.get(revision))
        return None if files is None else (next(c for c, f in self.commits.items() if f is files), files)


@dataclass
class How:
    """How it answers. Sizes in bytes; None: never."""

    rate: float = 0
    """Bytes a second of each answer; 0: as fast as it can."""
    cut: int | None = None
    """The connection breaks after so many bytes of a body."""
    stall: int | None = None
    """Nothing comes any more after so many bytes of a body."""
    corrupt: int | None = None
    """This byte of a file is another one."""
    ignore_range: bool = False
    wrong_range: bool = False
    """An answer begins elsewhere than it was asked to."""
    chunked: bool = False
    """The length of a body is not said."""
    longer: bytes = b""
    """Comes after the last byte; only with `chunked`."""
    page: str = ""
    """What the store says in place of a file, with status 200, as a proxy does that wants a login."""
    status: dict[str, int] = field(default_factory=dict)
    """By `api`, `resolve` (HEAD), `get` (GET of the same) and `cdn`: a refusal."""
    retry_after: str = ""
    store: str = ""
    """Where large files are said to be; empty: at the store."""
    hops: int = 0
    """So many redirects before the store; more than five are too many."""
    no_digest: bool = False
    silent: bool = False
    """Nothing is said of any file."""


@dataclass
class World:
    """What there is."""

    how: How = field(default_factory=How)
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    large: int = LARGE
    store_port: int = 0

    def repository(self, name: str) -> Repository:
        """The one of this name, which is made if it is new."""
        return self.repositories.setdefault(name, Repository())

    def put(self, name: str, files: dict[str, bytes | Path], revision: str = "main") -> str:
        """Files of a repository; the commit."""
        return self.repository(name).put(files, revision)


def application(world: World) -> web.Application:
    """Hub and store, whichever port is asked."""
    app = web.Application(middlewares=[_record(world)])
    control, hub, store = _Control(world), _Hub(world), _Store(world)
    app.router.add_post("/ctl", control.behave)
    app.router.add_get("/ctl/requests", control.requests)
    app.router.add_delete("/ctl/requests", control.forget)
    app.router.add_get("/api/models/{owner}/{name}", hub.model)
    app.router.add_get("/api/models/{owner}/{name}/revision/{revision}", hub.model)
    app.router.add_get("/hop/{count}/{digest}", hub.hop)
    app.router.add_get("/cdn/{digest}", store.file)
    app.router.add_get("/{owner}/{name}/resolve/{revision}/{file:.+}", hub.resolve)
    return app


def _record(world: World) -> Any:
    @web.middleware
    async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/ctl"):
            return await handler(request)
        sockname = request.transport.get_extra_info("sockname") if request.transport else None
        seen = {"method": request.method, "path": request.path_qs, "port": sockname and sockname[1]}
        world.requests.append(seen | {"headers": dict(request.headers), "at": time.time()})
        return await handler(request)

    return record


class _Control:
    def __init__(self, world: World) -> None:
        self._world = world

    async def behave(self, request: web.Request) -> web.Response:
        self._world.how = How(**await request.json())
        return web.json_response(asdict(self._world.how), dumps=lambda value: json.dumps(value, default=str))

    async def requests(self, _: web.Request) -> web.Response:
        return web.json_response(self._world.requests)

    async def forget(self, _: web.Request) -> web.Response:
        self._world.requests.clear()
        return web.Response(status=204)


class _Hub:
    def __init__(self, world: World) -> None:
        self._world = world

    async def model(self, request: web.Request) -> web.Response:
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        revision = request.match_info.get("revision", "main")
        if (refusal := _forced(self._world.how, "api") or self._unseen(request, name, revision)) is not None:
            return refusal
        commit, files = self._world.repositories[name].at(revision) or ("", {})
        body = {"_id": "0" * 24, "id": name, "modelId": name, "sha": commit, "private": False, "tags": [], "likes": 0,
                "siblings": [{"rfilename": file} for file in files], "downloads": 0}  # fmt: skip
        return web.json_response(body)

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        world, parts = self._world, request.match_info
        name = f"{parts['owner']}/{parts['name']}"
        kind = "resolve" if request.method == "HEAD" else "get"
        if world.how.silent:
            await asyncio.Event().wait()  # until the client leaves
        refusal = _forced(world.how, kind) or self._unseen(request, name, parts["revision"])
        if refusal is not None:
            return refusal
        if (refusal := self._gated(request, name)) is not None:
            return refusal
        commit, files = world.repositories[name].at(parts["revision"]) or ("", {})
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        content = files.get(parts["file"])
        if content is None:
            return _error(404, "EntryNotFound", "Entry not found", **headers)
        headers["ETag"] = '"of no use"' if world.how.no_digest else f'"{content.git}"'
        if content.size <= world.large:
            return await _send(request, world.how, content, headers)
        if not world.how.no_digest:
            headers["X-Linked-Etag"] = f'"{content.sha256}"'
        headers |= {"X-Linked-Size": str(content.size), "Vary": "Origin, Accept"}
        return web.Response(status=302, text="Found", headers=headers | {"Location": self._where(request, content)})

    async def hop(self, request: web.Request) -> web.Response:
        count, digest = int(request.match_info["count"]), request.match_info["digest"]
        where = f"/hop/{count - 1}/{digest}" if count > 1 else f"{self._store(request)}/cdn/{digest}"
        return web.Response(status=302, headers={"Location": where})

    def _where(self, request: web.Request, content: Content) -> str:
        store, hops = self._store(request), self._world.how.hops
        return f"{store}/hop/{hops}/{content.sha256}" if hops else f"{store}/cdn/{content.sha256}?signed=a%2Fb%3D"

    def _store(self, request: web.Request) -> str:
        host = request.host.rpartition(":")[0] or request.host
        return self._world.how.store or f"{request.scheme}://{host}:{self._world.store_port}"

    def _unseen(self, request: web.Request, name: str, revision: str) -> web.Response | None:
        token = _token(request)
        if token and token.startswith("hf_bad"):
            return _error(401, "", "Invalid credentials in Authorization header")
        found = self._world.repositories.get(name)
        if found is None or (found.private and token not in found.open_to):
            if token:
                return _error(404, "RepoNotFound", "Repository not found")
            return _error(401, "RepoNotFound", "Invalid username or password.")
        if found.at(revision) is None:
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _gated(self, request: web.Request, name: str) -> web.Response | None:
        found, token = self._world.repositories[name], _token(request)
        if not found.gated or token in found.open_to:
            return None
        text = f"Access to model {name} is restricted"
        if token:
            return _error(403, "GatedRepo", f"{text} and you are not in the authorized list.")
        return _error(401, "GatedRepo", f"{text}. You must have access to it and be authenticated to access it.")


class _Store:
    def __init__(self, world: World) -> None:
        self._world = world

    async def file(self, request: web.Request) -> web.StreamResponse:
        how, digest = self._world.how, request.match_info["digest"]
        if (refusal := _forced(how, "cdn")) is not None:
            return refusal
        if how.page:
            return web.Response(text=how.page, content_type="text/html")
        for repository in self._world.repositories.values():
            for files in repository.commits.values():
                for content in files.values():
                    if content.sha256 == digest:
                        return await _send(request, how, content, {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"})
        return web.Response(status=404)


def _token(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _error(status: int, code: str, message: str, **headers: str) -> web.Response:
    told = {"X-Error-Message": message, "X-Request-Id": "Root=1-made-up", **headers}
    if code:
        told["X-Error-Code"] = code
    return web.json_response({"error": message}, status=status, headers=told)


def _forced(how: How, kind: str) -> web.Response | None:
    status = how.status.get(kind)
    if status is None:
        return None
    headers = {"Retry-After": how.retry_after} if how.retry_after else {}
    if status == 429:
        headers |= {"RateLimit": '"api";r=0;t=7', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
    return _error(status, "", MADE_UP, **headers)


async def _send(request: web.Request, how: How, content: Content, headers: dict[str, str]) -> web.StreamResponse:
    asked = request.headers.get("Range", "")
    begin, status = 0, 200
    if asked.startswith("bytes=") and not how.ignore_range:
        begin, status = int(asked[6:].partition("-")[0]), 206
        if begin >= content.size:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{content.size}"})
        begin -= int(how.wrong_range)
        headers = headers | {"Content-Range": f"bytes {begin}-{content.size - 1}/{content.size}"}
    if how == How() and isinstance(content.source, Path):
        return web.FileResponse(content.source, headers=headers)
    response = web.StreamResponse(status=status, headers=headers | {"Content-Type": "application/octet-stream"})
    if how.chunked:
        response.enable_chunked_encoding()
    else:
        response.content_length = content.size - begin
    await response.prepare(request)
    if request.method != "HEAD":
        await _body(request, response, how, content, begin)
    return response


async def _body(request: web.Request, response: web.StreamResponse, how: How, content: Content, begin: int) -> None:
    """The bytes from `begin` on, until they end, or go wrong."""
    end = content.size
    stop = min(begin + n for n in (how.cut, how.stall, end - begin) if n is not None)
    at = begin
    while at < stop:
        count = min(stop - at, max(int(how.rate * PACE_SECONDS), 1) if how.rate else PIECE)
        piece = content.read(at, count)
        if how.corrupt is not None and at <= how.corrupt < at + count:
            wrong = how.corrupt - at
            piece = piece[:wrong] + bytes([piece[wrong] ^ 1]) + piece[wrong + 1 :]
        await response.write(piece)
        at += count
        if how.rate:
            await asyncio.sleep(count / how.rate)
    if at < end:
        if how.stall is not None and at == begin + how.stall:
            await asyncio.Event().wait()  # until the client leaves
        assert request.transport is not None
        request.transport.close()
    elif how.longer:
        await response.write(how.longer)


async def _start(
    world: World, host: str, port: int, store_port: int, tls: ssl.SSLContext | None = None
) -> web.AppRunner:
    runner = web.AppRunner(application(world), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    for number in (port, store_port):
        await web.TCPSite(runner, host, number, ssl_context=tls).start()
    world.store_port = runner.addresses[1][1]
    return runner


class Hub(World):
    """The stand-in on two free ports of loopback, in a thread; a context manager. `tls`: a server's certificate."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._tls = tls

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(_start(self, "127.0.0.1", 0, 0, self._tls), self._loop)
        self._runner = starting.result(10)
        self.port: int = self._runner.addresses[0][1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def behave(self, **how: Any) -> None:
        """How it answers from now on."""
        self.how = How(**how)

    def bytes_asked(self) -> list[dict[str, Any]]:
        """The requests for the bytes of files, oldest first."""
        return [seen for seen in tuple(self.requests) if seen["method"] == "GET" and "/cdn/" in seen["path"]]


async def _serve(world: World, host: str, port: int, store_port: int) -> None:
    await _start(world, host, port, store_port)
    await asyncio.Event().wait()


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description="A stand-in for the Hugging Face Hub.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--store-port", type=int, default=8081, help="where the bytes of large files are")
    parser.add_argument("--repo", action="append", default=[], metavar="OWNER/NAME=FOLDER", help="may repeat")
    parser.add_argument("--gated", action="append", default=[], metavar="OWNER/NAME", help=f"open to the token {GOOD}")
    parser.add_argument("--private", action="append", default=[], metavar="OWNER/NAME", help="likewise")
    arguments = parser.parse_args()
    world = World()
    for given in arguments.repo:
        name, _, folder = given.partition("=")
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        world.put(name, {path.relative_to(folder).as_posix(): path for path in files})
    for name in arguments.gated:
        world.repository(name).gated = True
    for name in arguments.private:
        world.repository(name).private = True
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(world, arguments.host, arguments.port, arguments.store_port))


if __name__ == "__main__":
    main()
