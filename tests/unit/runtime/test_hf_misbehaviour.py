"""Whatever the provider does, a client gets a well-formed answer, error or end of a stream; nothing stays behind."""

from pathlib import Path
from typing import Any

import pytest

from chatbot_runtime.contract import PodStatus
from chatbot_runtime.providers.upstream_reading import (
    MAX_EVENT_BYTES,
    MAX_HELD_BYTES,
    MAX_STREAM_BYTES,
    MAX_WHOLE_BYTES,
)
from tests.support.hosted import Hosted
from tests.support.router import BEHAVIOURS, MANY
from tests.support.runtime_process import Reply, RuntimeProcess, events, until

STATUSES = (
    204,
    301,
    307,
    400,
    401,
    402,
    403,
    404,
    405,
    408,
    410,
    413,
    418,
    422,
    429,
    451,
    500,
    501,
    502,
    503,
    504,
    529,
    599,
)
PLACES = ("headers", "body", "middle")
WITH_MORE = ("status", "stall", "cut", "html", "text", "content_type", "redirect", "echo")
CASES: list[tuple[str, dict[str, Any]]] = [
    *(("status", {"status": status}) for status in STATUSES),
    ("status", {"status": 429, "headers": {"Retry-After": "3"}}),
    ("status", {"status": 429, "headers": {"Retry-After": "-1"}}),
    ("status", {"status": 429, "headers": {"Retry-After": "soon"}}),
    ("status", {"status": 503, "headers": {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}}),
    ("status", {"status": 429, "headers": {"RateLimit": '"api";r=0;t=7'}}),
    ("status", {"status": 500, "body": {"error": None}}),
    ("status", {"status": 500, "body": [1]}),
    ("status", {"status": 400, "body": {"error": {"message": ["a"], "code": {"x": 1}, "param": 5}}}),
    ("status", {"status": 400, "body": {"error": {"message": "line\r\n\tone\0two", "code": "a b", "param": "<x>"}}}),
    *(("stall", {"at": place}) for place in PLACES),
    *(("cut", {"at": place}) for place in PLACES),
    ("html", {"status": 200}),
    ("html", {"status": 502}),
    ("text", {"status": 200}),
    ("content_type", {"type": "text/plain"}),
    ("content_type", {"type": "application/octet-stream"}),
    ("content_type", {"type": "text/event-stream"}),
    ("content_type", {"type": "application/json"}),
    ("redirect", {"location": "http://localhost:9/"}),
    ("redirect", {"location": ""}),
    ("echo", {"status": 400}),
    ("echo", {"status": 500}),
    *((name, {}) for name in BEHAVIOURS if name not in WITH_MORE),
]  # fmt: skip


def check_whole(reply: Reply) -> None:
    """OpenAI's answer or error."""
    if reply.status != 200:
        assert reply.error["type"] in ("server_error", "invalid_request_error", "rate_limit_error")
        return
    body = reply.json
    assert {"id", "object", "created", "model", "choices", "usage", "chatbot"} == set(body)
    choice = body["choices"][0]
    assert isinstance(choice["finish_reason"], str)
    assert choice["message"]["role"] == "assistant"
    assert isinstance(choice["message"]["content"], str) or choice["message"]["tool_calls"]
    assert (body["model"] == "mock") == (reply.header("x-chatbot-fallback") is not None)


def check_stream(reply: Reply) -> None:
    """A stream that ends as it must, or an error before it."""
    if reply.status != 200:
        assert reply.error["message"]
        return
    *chunks, last = [event for event in events(reply.body) if event != ": ping"]
    assert len({(chunk["id"], chunk["model"]) for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    reasons = [reason for chunk in chunks if chunk["choices"] and (reason := chunk["choices"][0]["finish_reason"])]
    if last == "[DONE]":
        assert len(reasons) == 1
    else:
        assert set(last) == {"error"}
        assert set(last["error"]) == {"message", "type", "code", "param"}
        assert reasons == []


def check_nothing_is_left(process: RuntimeProcess, tracebacks: int) -> None:
    """Slots and memory are free again, the log has no traceback, and it still answers."""
    for name in ("running_requests", "queued_requests", "held_bytes"):
        until(lambda name=name: process.metric(f"chatbot_runtime_{name}") == 0, name, 3)  # type: ignore[misc]
    assert "\n".join(process.lines).count("traceback") == tracebacks
    assert PodStatus.model_validate_json(process.internal("/status").body).ready


@pytest.mark.parametrize(
    ("name", "how"), CASES, ids=[f"{name}-{'-'.join(map(str, how.values()))}" for name, how in CASES]
)
@pytest.mark.parametrize("to", ["mock", "none"])
def test_the_client_gets_a_well_formed_answer(hf: Hosted, name: str, how: dict[str, Any], to: str) -> None:
    process = hf.use(fallback={"to": to, "afterFailures": 100, "retryAfterSeconds": 0})
    tracebacks = "\n".join(process.lines).count("traceback")
    hf.router.behave(name, **how)
    for stream in (False, True):
        reply = process.ask(stream=stream)
        check_stream(reply) if stream else check_whole(reply)
        if to == "mock":
            assert reply.status != 503
        assert b"hf_good" not in reply.body
    check_nothing_is_left(process, tracebacks)


def peak_memory(process: RuntimeProcess) -> int:
    """Most bytes that were resident since it was asked last."""
    folder = Path(f"/proc/{process.pid}")
    line = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("VmHWM"))
    (folder / "clear_refs").write_text("5")
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("name", ["huge", "huge_line"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_end_is_ended_and_takes_no_more_memory_than_is_set(
    hf: Hosted, name: str, stream: bool
) -> None:
    assert max(MAX_WHOLE_BYTES, MAX_STREAM_BYTES, MAX_EVENT_BYTES) < MANY
    hf.router.behave(name)
    peak_memory(hf.process)
    before = peak_memory(hf.process)
    reply = hf.process.ask(stream=stream)
    if reply.status == 200:
        assert "more than" in events(reply.body)[-1]["error"]["message"]
    else:
        assert "more than" in reply.error["message"]
    assert peak_memory(hf.process) - before < 3 * MAX_WHOLE_BYTES
    assert MAX_WHOLE_BYTES < MAX_HELD_BYTES
