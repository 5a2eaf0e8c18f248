"""What every source of answers looks like to the rest. It must not know HTTP servers, admission or who asks."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from chatbot_runtime.chat_request import ChatRequest
from chatbot_runtime.contract import FallbackReason


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written for one answer."""

    prompt_tokens: int
    completion_tokens: int

    def dump(self) -> dict[str, int]:
        """In OpenAI's shape."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer: `delta` in OpenAI's shape (`{"content": "…"}`).

    Exactly one chunk of an answer, the last, has a `finish_reason`, and with it the usage. A provider that is asked
    for a whole answer gives it in as few chunks as it can.
    """

    delta: Mapping[str, Any]
    finish_reason: str | None = None
    usage: Usage | None = None
    logprobs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has begun: who really answers, and its chunks.

    Closing `chunks` ends the work behind it. `fallback`: why another provider than the chosen one answers.
    """

    model: str
    chunks: AsyncGenerator[Chunk, None]
    fallback: FallbackReason | None = None


@dataclass(frozen=True, slots=True)
class Forwarded:
    """Another endpoint's answer, as the provider's server gives it: JSON, or a stream of events.

    Closing `pieces` ends the work behind it.
    """

    content_type: str
    pieces: AsyncGenerator[bytes, None]


class ProviderError(Exception):
    """A provider does not answer, before or after its first chunk. The message is for the client: no secrets.

    `retry_after`: seconds, if the provider said when to come back. `counts`: it says something about the provider; not
    if it is a limit of our own.
    """

    def __init__(
        self, reason: FallbackReason, message: str, retry_after: float | None = None, *, counts: bool = True
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
        self.counts = counts


class Provider(Protocol):
    """A source of answers."""

    @property
    def models(self) -> tuple[str, ...]:
        """What it can answer with, the default first; never empty."""
        ...

    @property
    def text_only(self) -> bool:
        """Whether it reads nothing but text."""
        ...

    async def answer(self, request: ChatRequest) -> Answer:
        """Begins an answer; returns when the first chunk is at hand, which may take long.

        Raises ProviderError, or ApiError if the request is wrong in the provider's eyes. Being cancelled ends the work
        behind it.
        """
        ...

    async def close(self) -> None:
        """Frees what it holds; nothing is asked afterwards."""
        ...
