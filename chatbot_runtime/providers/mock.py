"""Canned answers without network or model: the demo phase. It must not know HTTP.

Equal input gives an equal answer, so that tests and screenshots are stable.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from chatbot_runtime.chat_request import ChatRequest, text_of
from chatbot_runtime.contract import MockSettings
from chatbot_runtime.providers.base import Answer, Chunk, Usage

MODEL = "mock"
REPLIES = (
    "Hello! I am a demo chatbot. No language model is behind me yet, but everything around me is real: the address, "
    "the API and the stream of words that you are reading.",
    "This is a canned answer from the demo phase. Change `spec.phase` to `hf`, and the same address answers with a "
    "hosted language model.",
    "I am the mock phase of a Chatbot: I answer at once, cost next to nothing and never call the network. Put your own "
    "sentences into `spec.mock.replies` and I will say those.",
    "Nice to meet you. I only pretend to think: my words are fixed, and an equal question always gets an equal answer. "
    "That makes me handy for tests.",
)
CHARACTERS_PER_TOKEN = 4
"""A usual rule of thumb for English text; the true number depends on a model's tokenizer."""
TOKENS_PER_MESSAGE = 4
"""What chat templates add around each message, roughly."""

_TOKEN = re.compile(r"\s*(?:\w{1,8}|[^\w\s])|\s+")


class MockProvider:
    """Answers from `mock.replies` of the settings in use, or from a built-in set.

    A stream comes at `mock.tokensPerSecond`; a whole answer at once.
    """

    text_only = True

    def __init__(self, settings: Callable[[], MockSettings]) -> None:
        self._settings = settings

    @property
    def models(self) -> tuple[str, ...]:
        return (MODEL,)

    async def answer(self, request: ChatRequest) -> Answer:
        settings = self._settings()
        reply = choose(settings.replies or REPLIES, request.messages)
        text, finish_reason = cut(reply, request.stop, request.max_tokens)
        read = prompt_tokens(request.messages)
        if request.stream:
            chunks = _paced(text, finish_reason, read, settings.tokens_per_second)
        else:
            chunks = _at_once(text, finish_reason, read)
        return Answer(MODEL, chunks)

    async def close(self) -> None:
        """Holds nothing."""


def choose(replies: tuple[str, ...], messages: Iterable[Mapping[str, Any]]) -> str:
    """One of `replies`, decided by what the conversation says, system messages aside."""
    digest = hashlib.sha256()
    for message in messages:
        if message["role"] not in ("system", "developer"):
            digest.update(text_of(message).encode("utf-8", "surrogatepass") + b"\0")
    return replies[int.from_bytes(digest.digest()[:8], "big") % len(replies)]


def tokens(text: str) -> Iterator[str]:
    """The pieces in which a text is streamed; joined they are the text."""
    return (match.group() for match in _TOKEN.finditer(text))


@lru_cache(maxsize=256)
def token_count(text: str) -> int:
    """How many pieces a text has."""
    return len(_TOKEN.findall(text))


def cut(text: str, stops: Iterable[str], max_tokens: int | None) -> tuple[str, str]:
    """`text` up to the first stop text and within the limit, and why it ends there (`finish_reason`)."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    text = text[: min(ends, default=len(text))]
    if max_tokens is not None:
        within = "".join(islice(tokens(text), max_tokens))
        if len(within) < len(text):
            return within, "length"
    return text, "stop"


def prompt_tokens(messages: Iterable[Mapping[str, Any]]) -> int:
    """About how many tokens a model would read."""
    return sum(TOKENS_PER_MESSAGE + -(-len(text_of(message)) // CHARACTERS_PER_TOKEN) for message in messages)


async def _paced(text: str, finish_reason: str, read: int, per_second: float) -> AsyncGenerator[Chunk, None]:
    clock = asyncio.get_running_loop().time
    begin = clock()
    written = 0
    for token in tokens(text):
        # Each chunk has its own due time, so that a late one does not delay all after it.
        await asyncio.sleep(max(0.0, begin + written / per_second - clock()))
        written += 1
        yield Chunk({"content": token})
    yield Chunk({}, finish_reason, Usage(read, written))


async def _at_once(text: str, finish_reason: str, read: int) -> AsyncGenerator[Chunk, None]:
    yield Chunk({"content": text}, finish_reason, Usage(read, token_count(text)))
