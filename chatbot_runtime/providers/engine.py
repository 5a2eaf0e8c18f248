"""The engine beside the runtime: how it comes up, when it is given up, what it lacks. It must not know clients.

The engine itself is one more OpenAI-compatible server; see `chatbot_runtime.providers.upstream`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from chatbot_runtime.chat_request import ChatRequest
from chatbot_runtime.contract import CircuitStatus, FallbackReason, FallbackSettings
from chatbot_runtime.providers.base import Answer, Chunk, Forwarded, Provider, ProviderError
from chatbot_runtime.providers.upstream import Upstream

log = logging.getLogger(__name__)

AGAIN_SECONDS = 2.0
"""An engine is started anew within seconds, and a question to it costs nothing."""
MOST_NAMED = 10
"""Models that a message names at most."""
NOT_HERE = "The model is not here yet: it is being fetched."


class Engine:
    """Asks the engine. `names`: what it calls the models, where that is not their name.

    `folder`, `file`: where the models are, and the one that it serves, if they can be seen from here. `answered_file`
    is made after its first answer. `context_length`: tokens after which it cuts a prompt without a word; 0: it does
    not. `cut` is told of each.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        names: Mapping[str, str],
        folder: Path | None,
        file: Path | None,
        answered_file: Path | None,
        load_seconds: float,
        context_length: int,
        cut: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._names = names
        self._folder, self._file = folder, file
        self._answered_file = answered_file
        self._context_length = context_length
        self._cut = cut
        self._clock = clock
        self._patience_over = clock() + load_seconds
        self._seen_up = False
        self._ended = False
        self.has_answered = False
        """Its model was loaded once; it may have been started anew since."""

    text_only = False

    @property
    def models(self) -> tuple[str, ...]:
        return self._upstream.models

    @property
    def given_up(self) -> bool:
        """Whether its loading is not waited for any more: it has ended at least once, or has had its time."""
        return self._ended or self._clock() >= self._patience_over

    async def answer(self, request: ChatRequest) -> Answer:
        model = request.model
        try:
            answer = await self._upstream.answer(replace(request, model=self._names.get(model, model)))
        except ProviderError as error:
            raise await self._noted(error, model) from None
        if not self.has_answered:
            self._seen_up = self.has_answered = True
            await asyncio.to_thread(_made, self._answered_file)
        return Answer(model, self._watched(answer.chunks) if self._context_length else answer.chunks)

    async def forward(self, path: str, fields: Mapping[str, Any]) -> Forwarded:
        """Another endpoint of the engine. Raises ProviderError or ApiError."""
        model = fields["model"]
        return await self._upstream.forward(path, {**fields, "model": self._names.get(model, model)})

    async def close(self) -> None:
        await self._upstream.close()

    async def _noted(self, error: ProviderError, model: str) -> ProviderError:
        if error.reason == "EngineDown":
            self._ended = self._ended or self._seen_up
        else:
            self._seen_up = True
        lost = error.reason == "EngineDown" and self._file is not None and not self._file.is_file()
        if self._folder is not None and (lost or error.reason == "ModelNotFound"):
            found = await asyncio.to_thread(_found, self._folder)
            message = f"The volume of the models does not hold {model}; it holds {found}."
            return ProviderError("ModelNotFound", message, AGAIN_SECONDS)
        again = AGAIN_SECONDS if error.retry_after is None else error.retry_after
        return ProviderError(error.reason, str(error), again, counts=error.counts)

    async def _watched(self, chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
        async with aclosing(chunks):
            async for chunk in chunks:
                if chunk.usage is not None and chunk.usage.prompt_tokens >= self._context_length - 1:
                    self._cut()
                    log.warning(
                        "a prompt was longer than the context, and its beginning was cut off",
                        extra={"context_length": self._context_length},
                    )
                yield chunk


class NoEngine:
    """What answers while the weights are on their way: the stand-in where the settings allow it, else nobody."""

    text_only = True

    def __init__(
        self, models: tuple[str, ...], stand_in: Provider, settings: Callable[[], FallbackSettings], since: float
    ) -> None:
        self.models = models
        self._stand_in = stand_in
        self._settings = settings
        self.circuits = tuple(CircuitStatus(model=m, state="open", reason=self.reason, since=since) for m in models)

    reason: FallbackReason = "ModelNotReady"

    def is_open(self, _: str) -> bool:
        """Whether the model is not asked."""
        return True

    def token_changed(self) -> None:
        """There is none."""

    async def answer(self, request: ChatRequest) -> Answer:
        if self._settings().to == "none" or not request.fallback:
            raise self._error()
        return replace(await self._stand_in.answer(request), fallback=self.reason)

    async def forward(self, _path: str, _fields: Mapping[str, Any]) -> Forwarded:
        """Nobody stands in at other endpoints."""
        raise self._error()

    async def close(self) -> None:
        await self._stand_in.close()

    def _error(self) -> ProviderError:
        return ProviderError(self.reason, NOT_HERE, AGAIN_SECONDS)


def _made(file: Path | None) -> None:
    try:
        if file is not None:
            file.touch()
    except OSError as error:  # its container is started anew then, not the engine alone
        log.warning("could not note that the engine has answered", extra={"file": str(file), "error": str(error)})


def _found(folder: Path) -> str:
    """For a person: what lies in the folder of models."""
    found = sorted(models_in(folder))
    return ", ".join(found[:MOST_NAMED]) + (", …" if len(found) > MOST_NAMED else "") or "none"


def models_in(folder: Path) -> list[str]:
    """The models in a folder: GGUF files by their path, Ollama's by name. Empty if it cannot be read."""
    try:
        files = [str(path.relative_to(folder)) for path in folder.rglob("*.gguf")]
        manifests = [path.relative_to(folder / "manifests") for path in (folder / "manifests").glob("*/*/*/*")]
    except OSError:
        return []
    return files + [_ollama_name(*path.parts) for path in manifests]


def _ollama_name(host: str, namespace: str, model: str, tag: str) -> str:
    """As people write it: without what Ollama adds by itself."""
    short = model if namespace == "library" else f"{namespace}/{model}"
    where = short if host == "registry.ollama.ai" else f"{host}/{namespace}/{model}"
    return f"{where}:{tag}"
