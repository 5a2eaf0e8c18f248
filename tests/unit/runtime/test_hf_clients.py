"""The clients that people use, against the real process in phase hf."""

from collections.abc import Iterator

import huggingface_hub
import openai
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient

from tests.support.hosted import Hosted
from tests.support.router import ANSWER

MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
PLAIN = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(hf: Hosted) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{hf.process.url}/v1", api_key="any", max_retries=0, timeout=10) as client:
        yield client


def test_openai_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="org/tiny", messages=MESSAGES)
    assert whole.choices[0].message.content == ANSWER
    assert whole.usage is not None
    assert whole.usage.total_tokens == 5
    with client.chat.completions.stream(
        model="org/tiny", messages=MESSAGES, stream_options={"include_usage": True}
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == ANSWER
    assert final.choices[0].message.role == "assistant"  # joined from all chunks: said once
    assert final.model == "org/tiny"
    assert final.usage is not None


def test_openai_calls_tools(hf: Hosted, client: openai.OpenAI) -> None:
    hf.router.behave("tools")
    function: openai.types.shared_params.FunctionDefinition = {"name": "weather", "strict": True, "parameters": {}}
    tool: openai.types.chat.ChatCompletionToolParam = {"type": "function", "function": function}
    whole = client.chat.completions.create(model="org/tiny", messages=MESSAGES, tools=[tool])
    assert whole.choices[0].finish_reason == "tool_calls"
    with client.chat.completions.stream(model="org/tiny", messages=MESSAGES, tools=[tool]) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls is not None
    assert (calls[0].function.name, calls[0].function.arguments) == ("weather", '{"city": "Oslo"}')


def test_openai_knows_the_errors(hf: Hosted, client: openai.OpenAI) -> None:
    hf.router.behave("status", status=422, body={"error": {"message": "no such format", "code": "bad_format"}})
    with pytest.raises(openai.UnprocessableEntityError, match="no such format"):
        client.chat.completions.create(model="org/tiny", messages=MESSAGES)
    hf.router.behave("status", status=429, headers={"Retry-After": "5"})
    with pytest.raises(openai.InternalServerError) as limited:
        client.chat.completions.create(model="org/tiny", messages=MESSAGES)
    assert (limited.value.code, limited.value.response.headers["retry-after"]) == ("rate_limited", "5")
    hf.router.behave("cut", at="middle")
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.chat.completions.create(model="org/tiny", messages=MESSAGES, stream=True))


def test_openai_lists_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["org/tiny", "org/small"]
    assert client.models.retrieve("org/small").id == "org/small"


def test_the_hubs_own_client_whole_and_streamed(hf: Hosted) -> None:
    client = InferenceClient(base_url=f"{hf.process.url}/v1", api_key="any")
    whole = client.chat_completion(PLAIN, model="org/tiny", max_tokens=5)
    assert whole.choices[0].message.content == ANSWER
    usage = huggingface_hub.ChatCompletionInputStreamOptions(include_usage=True)
    chunks = list(client.chat_completion(PLAIN, model="org/tiny", stream=True, stream_options=usage))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 5


async def test_the_hubs_own_asynchronous_client(hf: Hosted) -> None:
    client = AsyncInferenceClient(base_url=f"{hf.process.url}/v1", api_key="any")
    whole = await client.chat_completion(PLAIN, model="org/small")
    assert (whole.choices[0].message.content, whole.model) == (ANSWER, "org/small")
    stream = await client.chat_completion(PLAIN, model="org/small", stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == ANSWER
    hf.router.behave("status", status=500)
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError) as failed:
        await client.chat_completion(PLAIN, model="org/small")
    assert failed.value.response.status_code == 503


def test_the_other_endpoints(hf: Hosted, client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model="demo", input="x", encoding_format="float")
    assert raw.http_response.json() == {
        "object": "embeddings", "model": "org/tiny",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }  # fmt: skip
    hf.router.lacks = ("embeddings",)
    with pytest.raises(openai.NotFoundError, match="/v1/embeddings cannot be answered here"):
        client.embeddings.create(model="demo", input="x", encoding_format="float")
