"""Canned answers."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_runtime.chat_request import ChatRequest
from chatbot_runtime.contract import MockSettings
from chatbot_runtime.providers.base import Chunk
from chatbot_runtime.providers.mock import REPLIES, MockProvider, choose, cut, tokens


def request(text: str = "hello", **fields: Any) -> ChatRequest:
    return ChatRequest("mock", ({"role": "user", "content": text},), **fields)


async def answer(settings: MockSettings, asked: ChatRequest) -> tuple[str, list[Chunk]]:
    begun = await MockProvider(lambda: settings).answer(asked)
    chunks = [chunk async for chunk in begun.chunks]
    return "".join(chunk.delta.get("content", "") for chunk in chunks), chunks


@given(st.text(max_size=300))
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokens(text)) == text
    assert cut(text, (), None) == (text, "stop")


@given(st.text(alphabet="ab c.", max_size=60), st.lists(st.text(alphabet="ab c.", min_size=1, max_size=3), max_size=4))
def test_no_stop_text_is_ever_in_an_answer_and_nothing_else_is_lost(text: str, stops: list[str]) -> None:
    shown, reason = cut(text, stops, None)
    assert reason == "stop"
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    assert shown == text or any(text[len(shown) :].startswith(stop) for stop in stops)


@given(st.integers(1, 20))
def test_no_answer_has_more_tokens_than_asked_for(most: int) -> None:
    shown, reason = cut("one two three four five", (), most)
    assert shown.split() == ["one", "two", "three", "four", "five"][:most]
    assert reason == ("length" if most < 5 else "stop")


def test_equal_conversations_get_equal_answers_and_the_system_prompt_does_not_change_them() -> None:
    user = {"role": "user", "content": "hi"}
    replies = tuple(str(number) for number in range(100))
    assert choose(replies, [user]) == choose(replies, [{"role": "system", "content": "x"}, user])
    assert len({choose(replies, [{"role": "user", "content": str(text)}]) for text in range(50)}) > 20


def test_text_in_parts_is_the_same_as_in_one() -> None:
    parts = [{"type": "text", "text": "he"}, {"type": "text", "text": "llo"}]
    assert choose(REPLIES, [{"role": "user", "content": parts}]) == choose(
        REPLIES, [{"role": "user", "content": "hello"}]
    )


async def test_given_replies_take_the_place_of_the_built_in_ones() -> None:
    text, chunks = await answer(MockSettings(replies=("I am here.",)), request())
    assert text == "I am here."
    assert len(chunks) == 1
    assert chunks[0].finish_reason == "stop"
    text, _ = await answer(MockSettings(), request())
    assert text in REPLIES


@pytest.mark.parametrize("rate", [200.0, 1000.0])
async def test_a_stream_comes_at_the_given_pace(rate: float) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    settings = MockSettings(replies=("x " * 100,), tokens_per_second=rate)
    text, chunks = await answer(settings, request(stream=True))
    assert text == "x " * 100
    due = 100 / rate  # tokens: 100 words and the space at the end
    assert due <= loop.time() - begin < due + 0.5
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == len(chunks) - 1 == 101
