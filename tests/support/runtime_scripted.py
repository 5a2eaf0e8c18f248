"""The real runtime with a provider that does what the question says: for faults that the mock cannot have.

Steps, separated by `;`: `say TEXT`, `wait SECONDS`, `block SECONDS` (the whole event loop), `fail REASON`, `crash`,
`fallback REASON` (who answers is another one), `end` (without a finish_reason).
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from typing import cast

from chatbot_runtime.chat_request import ChatRequest, text_of
from chatbot_runtime.config import Config
from chatbot_runtime.contract import FallbackReason
from chatbot_runtime.providers.base import Answer, Chunk, ProviderError, Usage
from chatbot_runtime.serve import serve

log = logging.getLogger("scripted")


class ScriptedProvider:
    """Answers by the script in the last message. `refuses` is the number of first questions that fail."""

    text_only = True

    def __init__(self, refuses: int) -> None:
        self._refuses = refuses

    @property
    def models(self) -> tuple[str, ...]:
        """Two, so that a choice can be made."""
        return ("first", "second")

    async def answer(self, request: ChatRequest) -> Answer:
        """Runs the script up to its first word."""
        if self._refuses:
            self._refuses -= 1
            raise ProviderError("ModelNotReady", "the model is being loaded")
        if request.max_tokens == 1:
            return Answer("first", self._say([], "test", request))
        fallback = None
        steps = [step.strip().partition(" ") for step in text_of(request.messages[-1]).split(";")]
        try:
            while steps[0][0] not in ("say", "end"):
                verb, _, word = steps.pop(0)
                if verb == "fallback":
                    fallback = cast("FallbackReason", word)
                await self._act(verb, word)
        except asyncio.CancelledError:
            log.info("aborted")
            raise
        return Answer("mock" if fallback else request.model, self._say(steps, "", request), fallback)

    async def _say(
        self, steps: list[tuple[str, str, str]], text: str, request: ChatRequest
    ) -> AsyncGenerator[Chunk, None]:
        try:
            if text:
                yield Chunk({"content": text})
            for verb, _, word in steps:
                if verb == "say":
                    # What the provider is asked is shown by what it says.
                    yield Chunk({"content": word.replace("$first", text_of(request.messages[0]))})
                elif verb == "end":
                    return
                else:
                    await self._act(verb, word)
        except (asyncio.CancelledError, GeneratorExit):
            log.info("aborted")
            raise
        yield Chunk({}, "stop", Usage(1, len(steps)))

    async def _act(self, verb: str, word: str) -> None:
        if verb == "wait":
            await asyncio.sleep(float(word))
        elif verb == "block":
            time.sleep(float(word))  # noqa: ASYNC251 - the fault that is meant
        elif verb == "fail":
            raise ProviderError(cast("FallbackReason", word), "the provider is away", retry_after=7)
        elif verb == "crash":
            raise RuntimeError("a secret detail of the fault")

    async def close(self) -> None:
        """Holds nothing."""


if __name__ == "__main__":
    settings = Config.from_env()
    scripted = ScriptedProvider(refuses=3 if settings.revision == "refusing" else 0)
    serve(settings, provider=scripted)
