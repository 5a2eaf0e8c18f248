"""`/v1/completions`, `/v1/embeddings` and `/v1/responses` in phase hf."""

import json

import pytest

from tests.support.hosted import Hosted
from tests.support.runtime_process import events, until

PATHS = ("completions", "embeddings", "responses")


@pytest.mark.parametrize("path", PATHS)
def test_they_are_passed_on_with_our_model_and_token(hf: Hosted, path: str) -> None:
    reply = hf.process.request("POST", f"/v1/{path}", {"model": "demo", "input": "x", "made_up": 1})
    assert (reply.status, reply.json["object"], reply.json["model"]) == (200, path, "org/tiny")
    assert json.loads(hf.router.requests[-1]["body"]) == {"model": "org/tiny", "input": "x", "made_up": 1}
    assert hf.router.requests[-1]["headers"]["Authorization"] == "Bearer hf_good"
    assert hf.process.request("POST", f"/v1/{path}", {"model": "gpt-9"}).error["code"] == "model_not_found"
    assert hf.process.request("POST", f"/v1/{path}", b"{").error["code"] == "invalid_json"


@pytest.mark.parametrize("path", PATHS)
def test_a_server_that_does_not_have_one_is_a_clear_404_and_opens_nothing(hf: Hosted, path: str) -> None:
    hf.router.lacks = (path,)
    reply = hf.process.request("POST", f"/v1/{path}", {"model": "demo"})
    assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert f"/v1/{path} cannot be answered here" in reply.error["message"]
    assert hf.process.status()["circuits"][0]["state"] == "closed"


def test_streams_come_through_as_they_are(hf: Hosted) -> None:
    reply = hf.process.request("POST", "/v1/completions", {"stream": True})
    assert reply.status == 200
    assert (reply.header("content-type") or "").startswith("text/event-stream")
    *pieces, done = events(reply.body)
    assert ([piece["text"] for piece in pieces], done) == (["Hello", " there."], "[DONE]")


def test_the_system_prompt_comes_first_in_responses_and_nowhere_else(hf: Hosted) -> None:
    process = hf.use(systemPrompt="Be brief.")
    for given, expected in (({}, "Be brief."), ({"instructions": "Rhyme."}, "Be brief.\n\nRhyme.")):
        process.request("POST", "/v1/responses", {"input": "x", **given})
        assert json.loads(hf.router.requests[-1]["body"])["instructions"] == expected
    process.request("POST", "/v1/embeddings", {"input": "x"})
    assert b"brief" not in hf.router.requests[-1]["body"].encode()


def test_nobody_stands_in_there(hf: Hosted) -> None:
    process = hf.use(fallback={"to": "mock", "afterFailures": 1, "retryAfterSeconds": 60})
    hf.router.behave("status", status=500)
    for _ in range(2):
        reply = process.request("POST", "/v1/embeddings", {"input": "x"})
        assert (reply.status, reply.error["code"]) == (503, "provider_unavailable")
    assert process.status()["circuits"][0]["state"] == "closed"
    assert process.ask().json["model"] == "mock"  # this one opens it
    sent = len(hf.router.requests)
    assert process.request("POST", "/v1/embeddings", {"input": "x"}).status == 503
    assert len(hf.router.requests) == sent


@pytest.mark.parametrize("how", [{"status": 200}, {"status": 502}])
@pytest.mark.parametrize("name", ["html", "text"])
def test_a_page_is_no_answer(hf: Hosted, name: str, how: dict[str, int]) -> None:
    hf.router.behave(name, **how)
    for stream in (True, False):
        reply = hf.process.request("POST", "/v1/embeddings", {"stream": stream})
        assert (reply.status, reply.error["code"]) == (503, "provider_unavailable")
    until(lambda: hf.process.metric("chatbot_runtime_running_requests") == 0, "the slot is free")
