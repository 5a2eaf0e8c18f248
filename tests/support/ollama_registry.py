"""A registry of models for Ollama: right by default, slow, cut, silent or wrong on demand.

`python ollama_registry.py --port 5000 tiny="Hello there." big="Hello.:3000000"`, or `Registry()` in a test. It needs
only aiohttp and is one file: so it also runs in a pod by itself. Wrong bytes, pace and silence concern models' weights.

    GET /ctl?rate=1000000&cut=5   changes the fields of `Faults`
    GET /ctl/requests             what was asked
"""

import argparse
import asyncio
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

MAGIC = b"CHATBOT-TEST-MODEL\n"
"""How a model of the stand-in for Ollama begins; a line of JSON follows, then any bytes."""
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.ollama.image."
MADE_UP = {"errors": [{"code": "TOOMANYREQUESTS", "message": "made up"}]}
PIECE = 64 * 1024
TICK = 0.02


@dataclass
class Faults:
    """What goes wrong; 0: nothing."""

    rate: float = 0
    """Bytes a second of each answer."""
    cut: int = 0
    """An answer breaks off after so many bytes."""
    stall: int = 0
    """An answer falls silent after so many bytes."""
    corrupt: int = 0
    """The first byte is another."""
    manifests: int = 0
    """Status of all manifests."""
    blobs: int = 0
    """Status of all blobs."""
    unauthorized: int = 0
    """Everything is 401."""
    nolocation: int = 0
    """Blobs have no Location: what an ordinary registry does."""


@dataclass
class Asked:
    """One request, and how many bytes of its answer went out; `whole`: all of them; `ended`: no more will."""

    method: str
    path: str
    range: str = ""
    sent: int = 0
    whole: bool = False
    ended: bool = False


def model_bytes(sentence: str, padding: int = 0, **more: Any) -> bytes:
    """A model that says `sentence`. `more`: load_seconds, tokens_per_second."""
    about = {"sentence": sentence, **more}
    return MAGIC + json.dumps(about).encode() + b"\n" + bytes(range(256)) * (padding // 256) + b"\0" * (padding % 256)


class Models:
    """What the registry has. Names are NAME[:TAG] or NAMESPACE/NAME[:TAG]."""

    def __init__(self, models: Mapping[str, str | bytes] | None = None) -> None:
        self.faults = Faults()
        self.asked: list[Asked] = []
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.weights: set[str] = set()
        """Digests of the layers that Faults are about."""
        self.claims: dict[str, int] = {}
        """Sizes that blobs are said to have, where that is a lie."""
        for name, model in (models or {}).items():
            self.add(name, model)

    def add(self, name: str, model: str | bytes) -> str:
        """Puts a model there, given as its sentence or its bytes; the digest of its weights."""
        weights = self._layer("model", model_bytes(model) if isinstance(model, str) else model)
        self.weights.add(weights["digest"])
        layers = [
            weights,
            self._layer("template", b"{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}assistant:"),
            self._layer("params", b'{"num_ctx": 2048, "stop": ["user:"]}'),
            self._layer("license", b"made for tests\n"),
        ]
        about = {
            "model_format": "gguf",
            "model_family": "llama",
            "model_families": ["llama"],
            "model_type": "35K",
            "file_type": "F32",
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
        config = {**self._layer("", json.dumps(about).encode()), "mediaType": CONFIG}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        name, _, tag = name.partition(":")
        self.manifests[f"{name if '/' in name else f'library/{name}'}:{tag or 'latest'}"] = json.dumps(
            manifest
        ).encode()
        digest: str = weights["digest"]
        return digest

    def _layer(self, kind: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return {"mediaType": LAYER + kind, "digest": digest, "size": len(content)}

    def asked_for(self, part: str, method: str = "GET") -> list[Asked]:
        """The requests so far whose path has this part."""
        return [asked for asked in tuple(self.asked) if part in asked.path and asked.method == method]


def application(models: Models) -> web.Application:
    """The registry's API."""
    server, app = _Server(models), web.Application()
    app.router.add_get("/ctl", server.control)
    app.router.add_get("/ctl/requests", server.requests)
    app.router.add_get("/v2/{name:.+}/manifests/{tag}", server.manifest)
    app.router.add_get("/v2/{name:.+}/blobs/{digest}", server.blob)
    return app


class _Server:
    def __init__(self, models: Models) -> None:
        self._models = models

    async def control(self, request: web.Request) -> web.Response:
        kinds = {entry.name: float if entry.name == "rate" else int for entry in fields(Faults)}
        if unknown := set(request.query) - set(kinds):
            return web.json_response({"unknown": sorted(unknown), "known": sorted(kinds)}, status=400)
        for name, value in request.query.items():
            setattr(self._models.faults, name, kinds[name](value))
        return web.json_response(asdict(self._models.faults))

    async def requests(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(asked) for asked in self._models.asked])

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        asked, faults = self._note(request), self._models.faults
        if (refused := self._refused(faults.manifests)) is not None:
            return refused
        content = self._models.manifests.get(f"{request.match_info['name']}:{request.match_info['tag']}")
        if content is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
        asked.sent, asked.whole, asked.ended = len(content), True, True
        return web.Response(body=content, content_type=MANIFEST)

    async def blob(self, request: web.Request) -> web.StreamResponse:
        asked, models = self._note(request), self._models
        digest = request.match_info["digest"]
        content = models.blobs.get(digest)
        if (refused := self._refused(models.faults.blobs)) is not None:
            return refused
        if content is None:
            return web.json_response({"errors": [{"code": "BLOB_UNKNOWN"}]}, status=404)
        faults = models.faults if digest in models.weights else Faults()
        if faults.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        headers = {} if faults.nolocation else {"Location": str(request.url)}
        part = slice(0, len(content))
        if request.headers.get("Range"):
            part = request.http_range
            first, last = part.start or 0, min(part.stop or len(content), len(content)) - 1
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        content = content[part]
        response = web.StreamResponse(status=206 if "Content-Range" in headers else 200, headers=headers)
        response.content_type = "application/octet-stream"
        response.content_length = models.claims.get(digest, len(content))
        await response.prepare(request)
        try:
            if request.method == "GET":
                await _send(request, response, content, asked, faults)
        finally:
            asked.ended = True
        return response

    def _note(self, request: web.Request) -> Asked:
        asked = Asked(request.method, request.path, request.headers.get("Range", ""))
        self._models.asked.append(asked)
        return asked

    def _refused(self, status: int) -> web.Response | None:
        if self._models.faults.unauthorized:
            return web.json_response(MADE_UP, status=401)
        return web.json_response(MADE_UP, status=status) if status else None


async def _send(
    request: web.Request, response: web.StreamResponse, content: bytes, asked: Asked, faults: Faults
) -> None:
    """The bytes, at the pace and as far as they are to come."""
    while asked.sent < len(content):
        stops = [stop - asked.sent for stop in (faults.cut, faults.stall) if stop]
        if faults.cut and asked.sent >= faults.cut:
            assert request.transport is not None
            request.transport.close()
            return
        if faults.stall and asked.sent >= faults.stall:
            await asyncio.sleep(TICK)
            continue
        size = min((PIECE, *stops, *([max(1, int(faults.rate * TICK))] if faults.rate else ())))
        piece = content[asked.sent : asked.sent + size]
        await response.write(piece)
        asked.sent += len(piece)
        await asyncio.sleep(len(piece) / faults.rate if faults.rate else 0)
    asked.whole = True


class Registry(Models):
    """The registry on a free port of loopback, in a thread; a context manager."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        self.host = f"127.0.0.1:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> int:
        self._runner = web.AppRunner(application(self), handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port: int = self._runner.addresses[0][1]
        return port


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description="A registry of models for the stand-in for Ollama.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument(
        "models",
        nargs="+",
        metavar="NAME=SENTENCE[:BYTES]|NAME=@FILE",
        help="BYTES: so much is added; FILE: the weights",
    )
    arguments = parser.parse_args()
    models = Models()
    for given in arguments.models:
        name, _, sentence = given.partition("=")
        if sentence.startswith("@"):
            models.add(name, Path(sentence[1:]).read_bytes())
            continue
        text, _, padding = sentence.rpartition(":")
        models.add(name, model_bytes(text, int(padding)) if padding.isdecimal() and text else sentence)
    web.run_app(application(models), host=arguments.host, port=arguments.port, print=None, handler_cancellation=True)


if __name__ == "__main__":
    main()
