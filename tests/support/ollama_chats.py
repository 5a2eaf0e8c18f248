"""How the stand-in for Ollama makes a model speak, by both of its APIs. It must not know where models come from.

Beside `ollama_server.py`, which runs as a plain file in a pod.
"""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING or __package__:
    from tests.support.ollama_pull import Folder, Model, Name, dumps
    from tests.support.ollama_runners import Runner, Runners
    from tests.support.ollama_wire import ApiError, body_of, json_response, seconds_of, stamp
else:  # in a pod
    from ollama_pull import Folder, Model, Name, dumps
    from ollama_runners import Runner, Runners
    from ollama_wire import ApiError, body_of, json_response, seconds_of, stamp

DIED = "an error was encountered while running the model: unexpected EOF"


class RunnerDied(Exception):
    """The process that answers is gone."""


class Answer:
    """One answer, word by word; `finish` and `count` are known at its end."""

    def __init__(self, runner: Runner, messages: list[Any], limit: object, stops: list[str]) -> None:
        self._runner = runner
        self._limit = limit if type(limit) is int and limit > 0 else 0
        self._stops = stops
        asked = "".join(f"{message.get('role')}: {text_of(message)}\n" for message in messages) + "assistant:"
        tokens = len(asked) + 2
        self.prompt = tokens if tokens <= runner.context else runner.context // 2  # cut, and nobody is told
        self.began = time.time()
        self.finish = "stop"
        self.count = 0

    async def words(self) -> AsyncIterator[str]:
        """Raises RunnerDied."""
        said = ""
        for word in re.findall(r"\s*\S+", self._runner.sentence):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._runner.dead.wait(), 1 / self._runner.pace)
                raise RunnerDied
            self.count += 1
            places = [place for stop in self._stops if (place := (said + word).find(stop)) >= 0]
            if places:
                if rest := (said + word)[len(said) : min(places)]:
                    yield rest
                return
            said += word
            yield word
            if self.count == self._limit:
                self.finish = "length"
                return
        self.count += 1

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.count,
            "total_tokens": self.prompt + self.count,
        }

    @property
    def durations(self) -> dict[str, int]:
        """As Ollama's own API ends an answer."""
        took = int((time.time() - self.began) * 1e9)
        return {
            "total_duration": took,
            "load_duration": took // 5,
            "prompt_eval_count": self.prompt,
            "prompt_eval_duration": took // 5,
            "eval_count": self.count,
            "eval_duration": took // 2,
        }


class Chats:
    """Everything that makes a model speak, by both APIs."""

    def __init__(self, folder: Folder, runners: Runners) -> None:
        self._folder = folder
        self._runners = runners

    async def openai(self, request: web.Request) -> web.StreamResponse:
        body = await body_of(request, "EOF")
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            raise ApiError(400, "[] is too short - 'messages'", body=True)
        if isinstance(body.get("max_tokens"), str):
            field = "ChatCompletionRequest.max_tokens of type int"
            raise ApiError(400, f"json: cannot unmarshal string into Go struct field {field}", body=True)
        model = self._model(body)
        if body.get("tools"):
            raise ApiError(400, f"{model.name.full} does not support tools")
        stops = body.get("stop") or []
        async with self._runners.use(body["model"], model, None) as runner:
            answer = Answer(
                runner, body["messages"], body.get("max_tokens"), [stops] if isinstance(stops, str) else stops
            )
            about = {
                "id": f"chatcmpl-{random.randrange(1000)}",
                "object": "chat.completion.chunk" if body.get("stream") else "chat.completion",
                "created": int(time.time()),
                "model": body["model"],
                "system_fingerprint": "fp_ollama",
            }
            if body.get("stream"):
                usage = (body.get("stream_options") or {}).get("include_usage", False)
                return await _sent(request, "text/event-stream", _events(answer, about, usage))
            message = {"role": "assistant", "content": await _whole(answer)}
            choices = [{"index": 0, "message": message, "finish_reason": answer.finish}]
            return json_response({**about, "choices": choices, "usage": answer.usage}, charset=False)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await body_of(request, "missing request body")
        return await self._own(request, body, body.get("messages"), lambda text: {"message": _message(text)})

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = await body_of(request, "missing request body")
        asked = [{"role": "user", "content": body["prompt"]}] if body.get("prompt") else []
        return await self._own(request, body, asked, lambda text: {"response": text})

    async def _own(
        self, request: web.Request, body: dict[str, Any], messages: Any, shown: Callable[[str], dict[str, Any]]
    ) -> web.StreamResponse:
        """Ollama's own API: without a question a model is loaded, or unloaded."""
        keep = None if body.get("keep_alive") is None else seconds_of(body["keep_alive"])
        model = self._model(body)

        def line(text: str, **more: Any) -> dict[str, Any]:
            return {"model": body["model"], "created_at": stamp(time.time()), **shown(text), **more}

        if not messages and keep == 0:
            self._runners.unload(model.name)
            return json_response(line("", done=True, done_reason="unload"))
        async with self._runners.use(body["model"], model, keep) as runner:
            if not messages:
                return json_response(line("", done=True, done_reason="load"))
            options = body.get("options") or {}
            answer = Answer(runner, messages, options.get("num_predict"), options.get("stop") or [])
            if body.get("stream", True):
                return await _sent(request, "application/x-ndjson", _lines(answer, line))
            text = await _whole(answer)
            return json_response(line(text, done=True, done_reason=answer.finish, **answer.durations))

    def _model(self, body: dict[str, Any]) -> Model:
        asked = body.get("model")
        if not asked:
            raise ApiError(400, "model is required")
        name = Name.of(asked)
        model = self._folder.model(name) if name else None
        if model is None:
            raise ApiError(404, f"model '{asked}' not found")
        return model


async def _whole(answer: Answer) -> str:
    try:
        return "".join([word async for word in answer.words()])
    except RunnerDied:
        raise ApiError(500, DIED) from None


async def _events(answer: Answer, about: dict[str, Any], usage: bool) -> AsyncIterator[bytes]:
    def event(about: dict[str, Any], delta: dict[str, Any], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {dumps({**about, 'choices': [choice]})}\n\n".encode()

    role = {"role": "assistant"}
    try:
        async for word in answer.words():
            yield event(about, {**role, "content": word}, None)
            role = {}
    except RunnerDied:
        if role:
            raise
        yield event({**about, "model": ""}, {"content": ""}, None)
        return
    yield event(about, {}, answer.finish)
    if usage:
        yield f"data: {dumps({**about, 'choices': [], 'usage': answer.usage})}\n\n".encode()
    yield b"data: [DONE]\n\n"


async def _lines(answer: Answer, line: Callable[..., dict[str, Any]]) -> AsyncIterator[bytes]:
    try:
        async for word in answer.words():
            yield f"{dumps(line(word, done=False))}\n".encode()
    except RunnerDied:
        yield f"{dumps({'error': DIED})}\n".encode()
        return
    yield f"{dumps(line('', done=True, done_reason=answer.finish, **answer.durations))}\n".encode()


async def _sent(request: web.Request, kind: str, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    """The headers come with the first piece."""
    response = web.StreamResponse(headers={"Content-Type": kind})
    try:
        async for piece in pieces:
            if not response.prepared:
                await response.prepare(request)
            await response.write(piece)
    except RunnerDied:
        raise ApiError(500, DIED) from None
    return response


def _message(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def text_of(message: Any) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
