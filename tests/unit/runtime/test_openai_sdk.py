"""The real OpenAI SDK against the real process."""

import asyncio
from collections.abc import Iterator

import openai
import pytest

from chatbot_runtime.providers.mock import REPLIES
from tests.support.runtime_process import RuntimeProcess, until
from tests.unit.runtime.conftest import Tunable


@pytest.fixture(scope="module")
def client(mock: RuntimeProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{mock.url}/v1", api_key="any", max_retries=0, timeout=10) as client:
        yield client


def scripted_client(scripted: RuntimeProcess, timeout: float = 10) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{scripted.url}/v1", api_key="any", max_retries=0, timeout=timeout)


def test_a_whole_answer_has_text_model_finish_reason_and_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="mock", messages=[{"role": "user", "content": "hello"}])
    choice = answer.choices[0]
    assert choice.message.content in REPLIES
    assert (answer.model, answer.object, choice.finish_reason) == ("mock", "chat.completion", "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 10


def test_a_stream_says_the_same_with_the_model_in_each_chunk_one_end_and_the_usage_last(client: openai.OpenAI) -> None:
    messages: list[openai.types.chat.ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]
    whole = client.chat.completions.create(model="", messages=messages)
    stream = client.chat.completions.create(
        model="demo", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert {(chunk.model, chunk.object) for chunk in chunks} == {("mock", "chat.completion.chunk")}
    assert len({chunk.id for chunk in chunks}) == 1
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1] if chunk.choices[0].finish_reason] == ["stop"]
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert chunks[0].choices[0].delta.role == "assistant"


def test_limits_and_stop_texts_are_honoured(client: openai.OpenAI) -> None:
    messages: list[openai.types.chat.ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]
    full = client.chat.completions.create(model="", messages=messages).choices[0].message.content or ""
    short = client.chat.completions.create(model="", messages=messages, max_completion_tokens=3)
    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None
    assert short.usage.completion_tokens == 3
    word = full.split()[3]
    stopped = client.chat.completions.create(model="", messages=messages, stop=word)
    assert stopped.choices[0].message.content == full.split(word)[0]
    assert stopped.choices[0].finish_reason == "stop"


def test_models_can_be_listed_and_looked_up(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["mock"]
    assert client.models.retrieve("mock").owned_by == "demo"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_errors_have_the_class_code_and_parameter_that_the_sdk_knows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hi"}])
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="", messages=[{"role": "user", "content": "hi"}], n=2)
    assert bad.value.param == "n"
    with pytest.raises(openai.NotFoundError) as other:
        client.embeddings.create(model="", input="x")
    assert "phase mock" in other.value.message


def test_a_key_is_needed_and_the_clients_rate_is_limited(tunable: Tunable) -> None:
    tunable.keys.mkdir()
    (tunable.keys / "carol").write_text("key-c")
    process = tunable.use(access={"mode": "APIKey", "requestsPerMinute": 2})
    messages: list[openai.types.chat.ChatCompletionUserMessageParam] = [{"role": "user", "content": "hi"}]

    def create(key: str) -> None:
        with openai.OpenAI(base_url=f"{process.url}/v1", api_key=key, max_retries=0) as client:
            client.chat.completions.create(model="", messages=messages)

    known = {"Authorization": "Bearer key-c"}
    until(lambda: process.request("GET", "/v1/models", headers=known).status == 200, "the key is known")
    with pytest.raises(openai.AuthenticationError) as unknown:
        create("key-b")
    assert unknown.value.code == "invalid_api_key"
    create("key-c")
    create("key-c")
    with pytest.raises(openai.RateLimitError) as limited:
        create("key-c")
    assert limited.value.code == "rate_limit_exceeded"
    assert 1 <= int(limited.value.response.headers["retry-after"]) <= 30
    assert "key-c" not in "\n".join(process.lines)
    (tunable.keys / "carol").unlink()
    tunable.keys.rmdir()


async def test_the_async_client_streams_many_answers_at_once(mock: RuntimeProcess) -> None:
    async with openai.AsyncOpenAI(base_url=f"{mock.url}/v1", api_key="any", max_retries=0) as client:

        async def ask(number: int) -> str:
            stream = await client.chat.completions.create(
                model="", messages=[{"role": "user", "content": str(number)}], stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        answers = await asyncio.gather(*(ask(number) for number in range(30)))
    assert set(answers) == set(REPLIES)


async def test_a_provider_that_is_away_is_an_internal_server_error_with_its_reason(scripted: RuntimeProcess) -> None:
    async with scripted_client(scripted) as client:
        with pytest.raises(openai.InternalServerError) as away:
            await client.chat.completions.create(
                model="", messages=[{"role": "user", "content": "fail ProviderUnavailable"}]
            )
    assert (away.value.status_code, away.value.code) == (503, "provider_unavailable")


async def test_a_failure_in_the_middle_of_a_stream_is_raised_by_the_sdk(scripted: RuntimeProcess) -> None:
    async with scripted_client(scripted) as client:
        stream = await client.chat.completions.create(
            model="", messages=[{"role": "user", "content": "say a; fail ProviderUnavailable"}], stream=True
        )
        chunks = aiter(stream)
        said = [(await anext(chunks)).choices[0].delta.content for _ in range(2)]
        with pytest.raises(openai.APIError) as broken:
            await anext(chunks)
    assert said == ["", "a"]
    assert broken.value.message == "the provider is away"


async def test_a_client_whose_own_time_is_over_ends_the_work(scripted: RuntimeProcess) -> None:
    before = len(scripted.logged("aborted"))
    async with scripted_client(scripted, timeout=0.2) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="", messages=[{"role": "user", "content": "wait 1.9; say a"}])
    until(lambda: len(scripted.logged("aborted")) > before, "the provider's work is ended", 1)


async def test_a_stream_that_the_client_closes_ends_the_work(scripted: RuntimeProcess) -> None:
    before = len(scripted.logged("aborted"))
    async with scripted_client(scripted) as client:
        stream = await client.chat.completions.create(
            model="", messages=[{"role": "user", "content": "say a; wait 1.9; say b"}], stream=True
        )
        await anext(aiter(stream))
        await stream.close()
    until(lambda: len(scripted.logged("aborted")) > before, "the provider's work is ended", 1)
