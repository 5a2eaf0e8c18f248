"""Random requests against the real process: always an answer that is the client's to understand, never a fault."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.runtime_process import CHAT, Reply, RuntimeProcess, events, question, read_all

FUZZ = settings(
    max_examples=2000 if os.environ.get("CHATBOT_STRESS") == "full" else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant", "tool", "king"]), "content": st.text(max_size=30) | JSON}
)
FIELDS = {
    "model": st.sampled_from(["", "mock", "gpt-9"]) | JSON,
    "stream": st.booleans() | JSON,
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}) | JSON,
    "n": st.just(1) | JSON,
    "stop": st.text(max_size=3) | JSON,
    "max_tokens": st.integers(-1, 50) | JSON,
    "temperature": st.floats(0, 2) | JSON,
    "tools": JSON,
}
BODIES = st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=4) | JSON}, optional=FIELDS)


@pytest.fixture(scope="module")
def target(mock: RuntimeProcess) -> Iterator[RuntimeProcess]:
    yield mock
    assert mock.alive
    assert mock.ask().status == 200
    assert mock.internal("/livez").status == 200
    assert not mock.logged("request failed")
    assert not [line for line in mock.lines if "Traceback" in line]


def acceptable(reply: Reply) -> None:
    """Either an answer, or an error in the usual shape that is not a fault of ours."""
    if reply.status == 200:
        if (reply.header("content-type") or "").startswith("text/event-stream"):
            assert events(reply.body)[-1] == "[DONE]"
        else:
            assert reply.json["choices"][0]["message"]["content"] is not None
        return
    assert 400 <= reply.status < 500
    assert reply.error["message"]


@FUZZ
@given(body=BODIES)
def test_any_json_object_is_answered_or_refused(target: RuntimeProcess, body: dict[str, Any]) -> None:
    acceptable(target.request("POST", CHAT, body))


@FUZZ
@given(at=st.integers(0, 80), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_body_is_answered_or_refused(target: RuntimeProcess, at: int, byte: int, cut: bool) -> None:
    body = json.dumps(question("hello", stream=True, stop=["x"])).encode()
    acceptable(target.request("POST", CHAT, body[:at] if cut else body[:at] + bytes([byte]) + body[at + 1 :]))


HEADER = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=40)


@FUZZ
@given(
    headers=st.dictionaries(
        st.sampled_from(
            [
                "authorization",
                "x-request-id",
                "x-forwarded-for",
                "origin",
                "content-type",
                "accept",
                "x-chatbot-fallback",
            ]
        ),
        HEADER,
    ),
    path=st.sampled_from([CHAT, "/v1/models", "/v1/models/%2e%2e", "/v1/status", "/../x", "/%00", "/v1/models/mock"]),
)
def test_any_headers_are_borne(target: RuntimeProcess, headers: dict[str, str], path: str) -> None:
    reply = target.request("POST" if path == CHAT else "GET", path, question() if path == CHAT else None, headers)
    assert reply.status in (200, 400, 404)


@FUZZ
@given(data=st.binary(min_size=1, max_size=200))
def test_any_bytes_on_a_connection_get_nothing_or_proper_answers(target: RuntimeProcess, data: bytes) -> None:
    with target.connect() as connection:
        connection.sendall(data)
        connection.shutdown(1)  # nothing more will come
        answer = read_all(connection)
    assert re.fullmatch(rb"(HTTP/1\.[01] 4\d\d .*)?", answer, re.DOTALL)
    assert b"Traceback" not in answer
