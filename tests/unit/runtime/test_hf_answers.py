"""What phase hf sends to its provider, and what becomes of the provider's answers."""

import threading
from pathlib import Path

import pytest

from tests.support.hosted import Hosted, hosted
from tests.support.router import ANSWER, GOOD, Router
from tests.support.runtime_process import CHAT, events, read_until, until


def asked(hf: Hosted) -> dict[str, object]:
    """The last chat that the provider was asked."""
    return list(hf.router.chats())[-1]


def test_the_question_is_sent_with_system_prompt_model_and_all_parameters_of_the_client(hf: Hosted) -> None:
    hf.use(systemPrompt="Be brief.")
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "what is this?"}, image]}]
    fields = {"temperature": 0.5, "tools": tools, "response_format": {"type": "json_object"}, "made_up": {"x": [1]}}
    reply = hf.process.request("POST", CHAT, {"model": "org/small", "messages": messages, "max_tokens": 7, **fields})
    assert reply.status == 200
    assert asked(hf) == {
        "model": "org/small", "messages": [{"role": "system", "content": "Be brief."}, *messages],
        "stream": False, "max_tokens": 7, **fields,
    }  # fmt: skip
    request = hf.router.requests[-1]
    assert (request["method"], request["path"]) == ("POST", "/v1/chat/completions")
    assert request["headers"]["Authorization"] == f"Bearer {GOOD}"
    assert request["headers"]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("model", ["", "demo", "org/tiny", None])
def test_the_first_model_is_the_default_and_answers_name_it(hf: Hosted, model: str | None) -> None:
    assert hf.process.ask(model=model).json["model"] == "org/tiny"
    assert asked(hf)["model"] == "org/tiny"
    assert [entry["id"] for entry in hf.process.request("GET", "/v1/models").json["data"]] == ["org/tiny", "org/small"]


def test_a_model_that_is_not_listed_is_not_asked_for(hf: Hosted) -> None:
    reply = hf.process.ask(model="org/large")
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    assert hf.router.requests == []


def test_a_whole_answer_has_text_usage_and_who_answered(hf: Hosted) -> None:
    body = hf.process.ask().json
    assert body["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    ]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert body["chatbot"] == {"phase": "hf", "fallback": None}
    assert body["id"].startswith("chatcmpl-")


@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_has_the_same_with_one_role_one_end_and_the_usage_if_it_was_asked_for(hf: Hosted, usage: bool) -> None:
    reply = hf.process.ask(stream=True, stream_options={"include_usage": True} if usage else None)
    *chunks, done = events(reply.body)
    assert done == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert [delta["role"] for delta in deltas if "role" in delta] == ["assistant"]
    assert "".join(delta.get("content", "") for delta in deltas) == ANSWER
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]]
    assert [reason for reason in reasons if reason] == ["stop"]
    assert chunks[0]["chatbot"] == {"phase": "hf", "fallback": None}
    assert (chunks[-1]["choices"] == []) is usage
    assert asked(hf)["stream_options"] == {"include_usage": True}  # for our own metrics in any case


def test_tool_calls_come_through_whole_and_streamed(hf: Hosted) -> None:
    hf.router.behave("tools")
    choice = hf.process.ask().json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "weather"
    *chunks, _ = events(hf.process.ask(stream=True).body)
    calls = [
        chunk["choices"][0]["delta"]["tool_calls"] for chunk in chunks if chunk["choices"][0]["delta"].get("tool_calls")
    ]
    assert calls[0][0]["function"]["arguments"] == '{"city": "Oslo"}'


def test_probabilities_come_through_whole_and_streamed(hf: Hosted) -> None:
    assert hf.process.ask(logprobs=True).json["choices"][0]["logprobs"]["content"][0]["token"] == "Hello"
    chunks = events(hf.process.ask(stream=True, logprobs=True).body)
    assert chunks[1]["choices"][0]["logprobs"]["content"][0]["logprob"] == -0.1


@pytest.mark.parametrize("name", ["no_usage", "bad_usage"])
def test_an_answer_without_sound_usage_is_an_answer(hf: Hosted, name: str) -> None:
    hf.router.behave(name)
    assert hf.process.ask().json["usage"] is None
    reply = hf.process.ask(stream=True, stream_options={"include_usage": True})
    assert events(reply.body)[-1] == "[DONE]"


@pytest.mark.parametrize("name", ["doubled", "crlf", "bytes", "split", "comments", "no_space", "after_done", "no_done"])
@pytest.mark.parametrize("stream", [True, False])
def test_odd_ways_of_saying_the_same_are_understood(hf: Hosted, name: str, stream: bool) -> None:
    hf.router.behave(name)
    reply = hf.process.ask(stream=stream)
    assert reply.status == 200
    if stream:
        *chunks, done = events(reply.body)
        assert done == "[DONE]"
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
        assert text == ANSWER
    else:
        assert reply.json["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize("status", [400, 413, 422])
def test_the_users_own_mistakes_are_passed_on_with_the_providers_words(hf: Hosted, status: int) -> None:
    body = {"error": {"message": "max_tokens is too large", "code": "too_large", "param": "max_tokens", "type": "x"}}
    hf.router.behave("status", status=status, body=body)
    for stream in (True, False):
        reply = hf.process.ask(stream=stream)
        assert (reply.status, reply.error["message"], reply.error["code"], reply.error["param"]) == (
            status, "max_tokens is too large", "too_large", "max_tokens"
        )  # fmt: skip
    assert hf.process.status()["circuits"][0]["state"] == "closed"


def test_a_bad_request_that_says_that_the_model_is_not_there_is_no_mistake_of_the_user(hf: Hosted) -> None:
    hf.router.behave("status", status=400)
    reply = hf.process.ask()
    assert (reply.status, reply.error["code"]) == (503, "model_not_found")
    assert "does not have the model org/tiny" in reply.error["message"]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "token_rejected", "refused the token (HTTP 401): Invalid username or password."),
        (402, "access_denied", "credits of the token's account are used up (HTTP 402)"),
        (403, "access_denied", "denied access"),
        (404, "model_not_found", "does not have the model org/tiny (HTTP 404)"),
        (410, "model_not_found", "(HTTP 410)"),
        (429, "rate_limited", "limits how often it may be asked (HTTP 429): Too many requests"),
        (500, "provider_unavailable", "failed (HTTP 500): Internal error"),
        (502, "provider_unavailable", "failed (HTTP 502)"),
        (504, "provider_unavailable", "failed (HTTP 504)"),
        (418, "provider_unavailable", "failed (HTTP 418)"),
        (204, "provider_unavailable", "failed (HTTP 204)"),
        (301, "provider_unavailable", "redirects, which is not followed"),
    ],
)
def test_a_refusal_becomes_a_503_with_its_reason(hf: Hosted, status: int, code: str, words: str) -> None:
    hf.router.behave("status", status=status, headers={"Retry-After": "7"} if status == 429 else {})
    reply = hf.process.ask()
    assert (reply.status, reply.error["code"]) == (503, code)
    assert words in reply.error["message"]
    assert reply.header("retry-after") == ("7" if status == 429 else "1")


def test_a_stream_begins_when_its_first_word_is_there(hf: Hosted) -> None:
    hf.router.behave(delay=0.2)
    with hf.process.send("hello") as connection:
        assert read_until(connection, b'"Hello"')
        assert b"there" in read_until(connection, b"[DONE]")


def test_a_client_that_leaves_ends_the_providers_work(hf: Hosted) -> None:
    hf.router.behave("stall", at="middle")
    with hf.process.send("hello") as connection:
        read_until(connection, b'"Hello"')
        assert hf.process.metric("chatbot_runtime_running_requests") == 1
    until(lambda: hf.process.metric("chatbot_runtime_running_requests") == 0, "the slot is free", 2)


def test_a_kept_connection_that_was_closed_meanwhile_is_not_seen_by_the_client(hf: Hosted) -> None:
    hf.router.behave("forgets")
    assert [hf.process.ask(stream=number % 2 == 0).status for number in range(30)] == [200] * 30
    assert len(list(hf.router.chats())) == 30


def test_a_kept_connection_that_ends_when_it_is_used_again_is_replaced_once(hf: Hosted) -> None:
    hf.router.behave("once")
    assert [hf.process.ask(stream=number % 2 == 0).status for number in range(6)] == [200] * 6


def test_a_request_that_may_have_been_read_is_not_sent_again(hf: Hosted) -> None:
    hf.router.behave("cut", at="headers")
    with_new_connections = [hf.process.ask().status for _ in range(3)]
    assert with_new_connections == [503] * 3
    assert len(list(hf.router.chats())) <= 4  # one kept connection at most


def test_the_connection_is_used_again_after_streams_and_after_errors(hf: Hosted) -> None:
    peers = set()
    for number in range(12):
        hf.router.behave(("ok", "late_end", "status")[number % 3], status=500)
        hf.process.ask(stream=number % 2 == 0)
        peers.add(hf.router.requests[-1]["peer"])
    assert len(peers) <= 2


def test_another_server_needs_no_token_and_names_its_own_model(tmp_path: Path) -> None:
    with Router() as router:
        router.tokens = {}
        with hosted(tmp_path, router=router, token=None, server="openai") as hf:
            hf.ready()
            assert hf.process.status()["token"] == "missing"
            router.behave("other_model")
            assert hf.process.ask().json["model"] == "org/large"
            chunks = events(hf.process.ask(stream=True).body)[:-1]
            assert {chunk["model"] for chunk in chunks} == {"org/large"}
            assert "stream_options" not in asked(hf)
            hf.process.ask(stream=True, stream_options={"include_usage": True})
            assert asked(hf)["stream_options"] == {"include_usage": True}
            assert not any("Authorization" in request["headers"] for request in router.requests)


def test_the_router_names_the_model_as_it_was_asked_for(hf: Hosted) -> None:
    hf.router.behave("other_model")
    assert hf.process.ask().json["model"] == "org/tiny"


def test_many_streams_at_once_are_not_mixed_up(hf: Hosted) -> None:
    hf.use(hf={"requestsPerMinute": 100_000, "timeoutSeconds": 20})
    hf.router.behave(delay=0.01)
    texts: list[str] = []

    def ask() -> None:
        *chunks, _ = events(hf.process.ask(stream=True).body)
        texts.append("".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks))

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert texts == [ANSWER] * 40


def test_a_request_that_cannot_be_sent_as_it_is_never_leaves(hf: Hosted) -> None:
    assert hf.process.request("POST", CHAT, b'{"messages": [{"role": "user", "content": "\\ud800"}]}').status == 400
    assert hf.process.ask(n=2).status == 400
    assert hf.router.requests == []
