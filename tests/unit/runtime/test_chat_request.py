"""From a body's bytes to checked values."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatbot_runtime.chat_request import ROLES, ChatRequest, parse, text_of
from chatbot_runtime.errors import ApiError

USER = {"role": "user", "content": "hi"}


def read(body: object, system_prompt: str = "", max_messages: int = 1000) -> ChatRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse(
        data, models=("small", "large"), names=("demo",), system_prompt=system_prompt, max_messages=max_messages
    )


def refused(body: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(body)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"messages": [{"role": "user", "content": "hi"}',
        b'{"messages": NaN}',
        b'{"temperature": Infinity}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"messages": "\xff"}',
        b'{"messages": "\\ud800"}',
        b"null",
        b"[]",
        b'"hello"',
    ],
)
def test_what_is_not_a_json_object_is_a_bad_request_that_names_the_body(body: bytes) -> None:
    error = refused(body)
    assert (error.status, error.body.param) == (400, "body")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [USER] * 1001}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [USER, {"role": "king", "content": "hi"}]}, "messages[1].role"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"model": 5}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"n": "1"}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": True}, "max_completion_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
)
def test_a_bad_parameter_is_named(change: dict[str, Any], param: str) -> None:
    error = refused({"messages": [USER]} | change)
    assert (error.status, error.body.param, error.body.type) == (400, param, "invalid_request_error")
    assert param in error.body.message


@pytest.mark.parametrize("model", [None, "", "demo", "small"])
def test_no_model_the_chatbots_name_and_the_first_model_mean_the_same(model: str | None) -> None:
    assert read({"messages": [USER], "model": model}).model == "small"


def test_a_listed_model_is_taken_and_another_is_not_found_naming_those_there_are() -> None:
    assert read({"messages": [USER], "model": "large"}).model == "large"
    error = refused({"messages": [USER], "model": "gpt-9"})
    assert (error.status, error.body.code, error.body.param) == (404, "model_not_found", "model")
    assert "small, large" in error.body.message


def test_the_system_prompt_comes_before_the_clients_own() -> None:
    own = {"role": "system", "content": "own"}
    request = read({"messages": [own, USER]}, system_prompt="ours")
    assert request.messages == ({"role": "system", "content": "ours"}, own, USER)


def test_parts_that_are_no_text_are_for_providers_that_can_see() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x"}}
    body = json.dumps({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, image]}]}).encode()
    request = parse(body, models=("m",), names=(), system_prompt="", max_messages=9, text_only=False)
    assert request.messages[0]["content"][1] == image
    assert text_of(request.messages[0]) == "a"
    for broken in ({"type": 5}, {"type": "text", "text": 5}, {}, 5):
        body = json.dumps({"messages": [{"role": "user", "content": [broken]}]}).encode()
        with pytest.raises(ApiError):
            parse(body, models=("m",), names=(), system_prompt="", max_messages=9, text_only=False)


def test_null_counts_as_not_given_and_unknown_parameters_are_kept() -> None:
    request = read(dict.fromkeys(("n", "stop", "max_tokens", "temperature", "stream"), None) | {
        "messages": [USER], "tools": [{"x": 1}]
    })  # fmt: skip
    assert (request.stop, request.max_tokens, request.stream) == ((), None, False)
    assert request.parameters is not None
    assert request.parameters["tools"] == [{"x": 1}]


def test_the_lower_of_the_two_names_of_a_limit_counts() -> None:
    assert read({"messages": [USER], "max_tokens": 5, "max_completion_tokens": 3}).max_tokens == 3
    assert read({"messages": [USER], "max_tokens": 5}).max_tokens == 5


def test_an_earlier_answer_that_only_called_tools_needs_no_content() -> None:
    calls = {"role": "assistant", "tool_calls": []}
    assert read({"messages": [USER, calls, {"role": "tool", "content": "4"}]}).messages[1] == calls


def understood(body: object) -> bool:
    """Whether a body is taken; a refusal must be the client's fault and name a parameter."""
    try:
        read(body)
    except ApiError as error:
        refusal = error
    else:
        return True
    assert refusal.status in (400, 404)
    assert refusal.body.param
    orjson.loads(refusal.body.dump())
    return False


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_without_a_fault(body: bytes) -> None:
    assert not understood(body)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
NAMES = ("model", "messages", "stream", "stream_options", "n", "stop", "max_tokens", "temperature", "top_p", "tools")
BODIES = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6)


@settings(max_examples=40, deadline=None)
@given(BODIES)
def test_any_object_is_understood_or_refused_by_name(body: dict[str, Any]) -> None:
    understood(body)
    understood({"messages": [USER]} | body)


@given(st.lists(st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": st.text()}), min_size=1, max_size=5))
def test_every_conversation_in_the_known_roles_is_understood(messages: list[dict[str, str]]) -> None:
    assert understood({"messages": messages})
