"""Whether a process's provider has answered; a new revision takes no requests before. It must not know HTTP.

The question is a real one of one token, and goes to the provider itself: an answer by fallback would prove nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from chatbot_runtime.chat_request import ChatRequest
from chatbot_runtime.circuit import AT_ONCE, BY_TOKEN
from chatbot_runtime.contract import FallbackReason, VerificationStatus
from chatbot_runtime.errors import ApiError
from chatbot_runtime.providers.base import Provider, ProviderError

log = logging.getLogger(__name__)

AGAIN_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Waits between test questions; the last one repeats."""

Explain = Callable[[], Awaitable[VerificationStatus | None]]
"""Finds out more about a failure; None if there is no more to say."""


class Verification:
    """Asks until there is an answer, or other pods of this revision have proven it (`proven`).

    `refused_seconds`: least wait after the provider has refused token or access. `explain` is asked beside, once for
    each token, about failures that do not go away by themselves.
    """

    def __init__(
        self,
        provider: Provider,
        proven: Callable[[], bool],
        refused_seconds: float,
        explain: Explain | None = None,
    ) -> None:
        self._provider = provider
        self._proven = proven
        self._refused_seconds = refused_seconds
        self._explain = explain
        self._explaining: asyncio.Task[None] | None = None
        self._explained: tuple[FallbackReason, VerificationStatus] | None = None
        self._changed = asyncio.Event()
        self.status = VerificationStatus()

    @property
    def unready(self) -> str:
        """Why nothing is proven yet; empty if it is."""
        if self.status.verified or self._proven():
            return ""
        return self.status.message or "the provider has not answered its test question yet"

    def changed(self) -> None:
        """Token or settings are others now: it is worth asking at once."""
        self._stop_explaining()
        self._changed.set()

    async def run(self) -> None:
        """Asks until it is proven."""
        attempt, said = 0, ""
        while self.unready:
            self._changed.clear()
            error = await self._ask()
            if error is None:
                self.status = VerificationStatus(verified=True)
                break
            if str(error) != said:
                said = str(error)
                log.warning("the provider does not answer its test question: %s", said)
            self.status = self._status_of(error)
            self._find_out(error.reason)
            if await self._woken(self._pause(error, attempt)):
                attempt = 0
            else:
                attempt += 1
        self._stop_explaining()

    async def _ask(self) -> ProviderError | None:
        question = ChatRequest(self._provider.models[0], ({"role": "user", "content": "Hello"},), max_tokens=1)
        try:
            answer = await self._provider.answer(question)
            async with aclosing(answer.chunks) as chunks:
                async for _ in chunks:
                    pass
        except ProviderError as error:
            return error
        except ApiError as error:
            return ProviderError("ProviderUnavailable", f"the test question was refused: {error}")
        return None

    def _pause(self, error: ProviderError, attempt: int) -> float:
        least = self._refused_seconds if error.reason in BY_TOKEN else 0.0
        return max(AGAIN_SECONDS[min(attempt, len(AGAIN_SECONDS) - 1)], error.retry_after or 0.0, least)

    async def _woken(self, seconds: float) -> bool:
        """Waits; True if something changed meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _status_of(self, error: ProviderError) -> VerificationStatus:
        if self._explained is not None and self._explained[0] == error.reason:
            return self._explained[1]
        return VerificationStatus(reason=error.reason, message=str(error))

    def _find_out(self, reason: FallbackReason) -> None:
        if self._explain is not None and self._explaining is None and reason in AT_ONCE:
            self._explaining = asyncio.get_running_loop().create_task(self._say_more(reason, self._explain))

    async def _say_more(self, reason: FallbackReason, explain: Explain) -> None:
        found = await explain()
        if found is not None and not self.status.verified:
            self._explained = reason, found
            self.status = found
            log.warning("why the provider does not answer: %s", found.message)

    def _stop_explaining(self) -> None:
        if self._explaining is not None:
            self._explaining.cancel()
        self._explaining = self._explained = None
