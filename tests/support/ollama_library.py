"""The models that the stand-in for Ollama has, and how they come and go. It must not know chats.

Beside `ollama_server.py`, which runs as a plain file in a pod.
"""

from contextlib import aclosing
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING or __package__:
    from tests.support.ollama_pull import Folder, Name, Puller, PullError, dumps, go_error
    from tests.support.ollama_runners import Runners
    from tests.support.ollama_wire import ApiError, body_of, empty, json_response, stamp
else:  # in a pod
    from ollama_pull import Folder, Name, Puller, PullError, dumps, go_error
    from ollama_runners import Runners
    from ollama_wire import ApiError, body_of, empty, json_response, stamp

DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "35K",
    "quantization_level": "F32",
}


class Library:
    """The models that are there, and how they come and go."""

    def __init__(self, folder: Folder, runners: Runners, puller: Puller) -> None:
        self._folder = folder
        self._runners = runners
        self._puller = puller

    async def tags(self, _: web.Request) -> web.Response:
        details = {**DETAILS, "context_length": 8192, "embedding_length": 32}
        models = [
            {
                "name": model.name.short,
                "model": model.name.short,
                "modified_at": stamp(model.modified),
                "size": model.size,
                "digest": model.digest,
                "details": details,
                "capabilities": ["completion"],
            }
            for model in self._folder.models()
        ]
        return json_response({"models": models})

    async def openai(self, _: web.Request) -> web.Response:
        models = [
            {"id": m.name.short, "object": "model", "created": int(m.modified), "owned_by": m.name.space}
            for m in self._folder.models()
        ]
        return json_response({"object": "list", "data": models or None}, charset=False)

    async def loaded(self, _: web.Request) -> web.Response:
        models = [
            {
                "name": runner.model.name.short,
                "model": runner.model.name.short,
                "size": runner.model.size,
                "digest": runner.model.digest,
                "details": DETAILS,
                "expires_at": stamp(runner.expires),
                "size_vram": 0,
                "context_length": runner.context,
            }
            for runner in self._runners.running().values()
        ]
        return json_response({"models": models})

    async def show(self, request: web.Request) -> web.Response:
        body = await body_of(request, "missing request body")
        name = Name.of(body.get("model") or body.get("name"))
        model = self._folder.model(name) if name else None
        if name and (model is None or not all(self._folder.blob(d).exists() for d in model.digests("image.model"))):
            raise ApiError(404, f"model '{name.short}' not found")
        if model is None:
            raise ApiError(400, "model is required")
        facts = {"general.architecture": "llama", "llama.context_length": 8192, "llama.embedding_length": 32}
        shown = {"details": DETAILS, "model_info": facts, "capabilities": ["completion"]}
        return json_response({"modelfile": "", **shown, "modified_at": stamp(model.modified)})

    async def delete(self, request: web.Request) -> web.Response:
        body = await body_of(request, "missing request body")
        asked = body.get("model") or body.get("name")
        if not asked:
            raise ApiError(400, "model is required")
        name = Name.of(asked)
        model = self._folder.model(name) if name else None
        if model is None:
            raise ApiError(404, f"model '{asked}' not found")
        try:
            self._folder.delete(model)
        except OSError as error:
            raise ApiError(500, go_error("remove", error.filename or "", error)) from None
        return empty(200)

    async def pull(self, request: web.Request) -> web.StreamResponse:
        body = await body_of(request, "missing request body")
        name = Name.of(body.get("model") or body.get("name"))
        if name is None:
            raise ApiError(400, "invalid model name")
        async with aclosing(self._puller.pull(name, bool(body.get("insecure")))) as lines:
            if body.get("stream", True):
                response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
                await response.prepare(request)
                try:
                    async for line in lines:
                        await response.write(f"{dumps(line)}\n".encode())
                except PullError as error:
                    await response.write(f"{dumps({'error': str(error)})}\n".encode())
                return response
            try:
                last = [line async for line in lines][-1]
            except PullError as error:
                return json_response({"error": str(error)}, 500, charset=False)
            return json_response(last, charset=False)
