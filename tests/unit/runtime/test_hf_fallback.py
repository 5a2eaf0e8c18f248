"""Who answers when the provider cannot, and what shows it: headers, fields, /status, /v1/status, metrics."""

import json
from pathlib import Path
from typing import Any

import pytest

from chatbot_runtime.contract import PodStatus
from chatbot_runtime.providers.mock import REPLIES
from tests.support.hosted import Hosted, hosted
from tests.support.router import Router
from tests.support.runtime_process import RuntimeProcess, events, until

MOCK = {"to": "mock", "afterFailures": 3, "retryAfterSeconds": 0.3}


def circuit(process: RuntimeProcess, index: int = 0) -> tuple[str, str | None]:
    """State and reason of a model's circuit."""
    found = process.status()["circuits"][index]
    return found["state"], found["reason"]


@pytest.mark.parametrize("stream", [False, True])
def test_one_failed_request_is_answered_by_the_mock_which_says_so(hf: Hosted, stream: bool) -> None:
    process = hf.use(fallback=MOCK, mock={"replies": ["canned"], "tokensPerSecond": 5000})
    hf.router.behave("status", status=500)
    reply = process.ask(stream=stream)
    assert reply.status == 200
    assert reply.header("x-chatbot-fallback") == "ProviderUnavailable"
    assert reply.header("x-chatbot-phase") == "hf"
    first = events(reply.body)[0] if stream else reply.json
    assert (first["model"], first["chatbot"]) == ("mock", {"phase": "hf", "fallback": "ProviderUnavailable"})
    assert b"canned" in reply.body
    assert process.request_log(reply.header("x-request-id") or "")["fallback"] == "ProviderUnavailable"
    assert circuit(process) == ("closed", None)


def test_an_image_that_only_the_provider_can_see_is_no_hindrance_for_the_mock(hf: Hosted) -> None:
    process = hf.use(fallback=MOCK)
    hf.router.behave("status", status=500)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}, "text": 5}
    reply = process.request(
        "POST",
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, image]}]},
    )
    assert (reply.status, reply.json["model"]) == (200, "mock")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_wants_no_fallback_gets_the_error_itself(hf: Hosted, stream: bool) -> None:
    process = hf.use(fallback=MOCK | {"afterFailures": 1, "retryAfterSeconds": 60})
    hf.router.behave("status", status=500)
    none = {"x-chatbot-fallback": "none"}
    for _ in range(2):  # the failure, then the open circuit
        reply = process.ask(headers=none, stream=stream)
        assert (reply.status, reply.error["code"]) == (503, "provider_unavailable")
        assert reply.header("x-chatbot-fallback") is None
    assert process.ask().json["model"] == "mock"


def test_with_no_fallback_an_open_circuit_is_a_503_that_says_when_to_come_back(hf: Hosted) -> None:
    process = hf.use(fallback={"to": "none", "afterFailures": 2, "retryAfterSeconds": 40})
    hf.router.behave("status", status=500)
    assert [process.ask().header("retry-after") for _ in range(2)] == ["1", "1"]
    sent = len(hf.router.requests)
    refused = process.ask()
    assert (refused.status, refused.error["code"]) == (503, "provider_unavailable")
    assert 30 < int(refused.header("retry-after") or 0) <= 40
    assert len(hf.router.requests) == sent
    assert process.internal("/readyz").status == 200


def test_the_circuit_opens_is_shown_everywhere_and_closes_by_a_real_request(hf: Hosted) -> None:
    process = hf.use(fallback=MOCK)
    hf.router.behave("status", status=503)
    answers = process.metric("chatbot_runtime_fallback_answers_total")
    for _ in range(3):
        assert process.ask().json["model"] == "mock"
    sent = len(list(hf.router.chats()))
    assert process.ask().json["chatbot"]["fallback"] == "ProviderUnavailable"
    status = PodStatus.model_validate_json(process.internal("/status").body)
    assert (status.fallback, status.ready) == ("ProviderUnavailable", True)
    assert [(c.model, c.state, c.reason) for c in status.circuits] == [
        ("org/tiny", "open", "ProviderUnavailable"), ("org/small", "closed", None)
    ]  # fmt: skip
    assert status.circuits[0].since is not None
    assert process.request("GET", "/v1/status").json["fallback"] == "ProviderUnavailable"
    assert process.metric("chatbot_runtime_circuit_open") == 1
    assert process.metric("chatbot_runtime_fallback_answers_total") == answers + 4
    assert process.internal("/readyz").status == 200
    hf.router.behave()
    until(lambda: process.ask().json["model"] == "org/tiny", "a real request closes it", 3)
    assert circuit(process) == ("closed", None)
    assert process.request("GET", "/v1/status").json["fallback"] is None
    assert process.metric("chatbot_runtime_circuit_open") == 0
    assert len(list(hf.router.chats())) == sent + 1  # no synthetic question


def test_each_model_has_a_circuit_of_its_own(hf: Hosted) -> None:
    process = hf.use(fallback=MOCK)
    hf.router.behave("status", status=404, times=1)
    assert process.ask(model="org/small").json["chatbot"]["fallback"] == "ModelNotFound"
    assert circuit(process, 1) == ("open", "ModelNotFound")
    assert process.ask().json["model"] == "org/tiny"
    assert process.status()["fallback"] is None  # it is about the default model


@pytest.mark.parametrize("status", [400, 413, 422])
def test_the_users_own_mistakes_open_nothing_and_are_not_covered(hf: Hosted, status: int) -> None:
    process = hf.use(fallback=MOCK | {"afterFailures": 1})
    hf.router.behave("status", status=status, body={"error": {"message": "too long", "code": "x"}})
    assert [process.ask().status for _ in range(3)] == [status] * 3
    assert circuit(process) == ("closed", None)


def test_the_providers_own_time_is_kept(hf: Hosted) -> None:
    process = hf.use(fallback=MOCK | {"afterFailures": 1, "retryAfterSeconds": 0})
    hf.router.behave("status", status=429, headers={"Retry-After": "2"}, times=1)
    assert process.ask().json["chatbot"]["fallback"] == "RateLimited"
    sent = len(list(hf.router.chats()))
    assert process.ask().json["chatbot"]["fallback"] == "RateLimited"
    assert len(list(hf.router.chats())) == sent
    until(lambda: process.ask().json["model"] == "org/tiny", "its time is over", 4)


def test_streams_that_break_off_open_the_circuit(hf: Hosted) -> None:
    process = hf.use(fallback=MOCK | {"retryAfterSeconds": 60})
    hf.router.behave("cut", at="middle")
    for _ in range(3):
        assert events(process.ask(stream=True).body)[-1]["error"]["code"] == "provider_unavailable"
    reply = process.ask(stream=True)
    assert events(reply.body)[-1] == "[DONE]"
    assert reply.header("x-chatbot-fallback") == "ProviderUnavailable"


def test_a_new_token_lets_a_refused_provider_be_asked_at_once(tmp_path: Path) -> None:
    with (
        Router() as router,
        hosted(
            tmp_path, router=router, settings={"fallback": MOCK | {"retryAfterSeconds": 600}}, refused_seconds=600
        ) as hf,
    ):
        hf.ready()
        router.tokens = {"hf_second": {"role": "read", "permissions": []}}
        assert hf.process.ask().json["chatbot"]["fallback"] == "TokenRejected"
        assert circuit(hf.process) == ("open", "TokenRejected")
        sent = len(router.requests)
        assert hf.process.ask().json["model"] == "mock"
        assert len(router.requests) == sent
        hf.give("hf_second")
        until(lambda: hf.process.ask().json["model"] == "org/tiny", "the new token is used", 3)
        hf.give(None)
        until(lambda: hf.process.status()["token"] == "missing", "the token is gone", 3)
        sent = len(router.requests)
        assert hf.process.ask().json["chatbot"]["fallback"] == "TokenRejected"
        assert len(router.requests) == sent  # without a token nothing is sent
        assert hf.process.status()["fallback"] == "TokenRejected"
        assert hf.process.internal("/readyz").status == 200
        hf.give("hf_second")
        until(lambda: hf.process.ask().json["model"] == "org/tiny", "the token is back", 3)


def test_a_token_is_rotated_without_a_restart_and_without_a_failed_request(hf: Hosted) -> None:
    process = hf.process
    hf.router.tokens["hf_next"] = {"role": "read", "permissions": []}
    hf.give("hf_next")

    def sent() -> str:
        assert process.ask().status == 200
        header: str = hf.router.requests[-1]["headers"]["Authorization"]
        return header

    until(lambda: sent() == "Bearer hf_next", "the new token is used", 3)


def test_requests_above_our_own_limit_wait_and_then_follow_the_fallback(hf: Hosted) -> None:
    limit: dict[str, Any] = {"requestsPerMinute": 3, "timeoutSeconds": 5}
    process = hf.use(hf=limit, fallback=MOCK | {"afterFailures": 1})  # those of the last minute count
    reply = process.ask()
    assert reply.json["chatbot"]["fallback"] == "RateLimited"
    assert circuit(process) == ("closed", None)
    refused = process.ask(headers={"x-chatbot-fallback": "none"})
    assert (refused.status, refused.error["code"]) == (503, "rate_limited")
    assert 1 <= int(refused.header("retry-after") or 0) <= 60
    assert "at most 3 requests a minute" in refused.error["message"]
    assert hf.router.requests == []


def test_a_probe_whose_client_leaves_or_is_mistaken_is_not_the_last(hf: Hosted) -> None:
    process = hf.use(fallback=MOCK | {"afterFailures": 1, "retryAfterSeconds": 0})
    hf.router.behave("status", status=500)
    assert process.ask().json["model"] == "mock"
    hf.router.behave("status", status=422)
    assert process.ask().status == 422
    hf.router.behave("stall")
    with process.send("hello"):
        until(lambda: circuit(process)[0] == "halfOpen", "it tries")
    until(lambda: process.metric("chatbot_runtime_running_requests") == 0, "the client's leaving is noticed")
    hf.router.behave()
    assert process.ask().json["model"] == "org/tiny"


def test_a_provider_that_is_silent_for_too_long_is_covered_too(hf: Hosted) -> None:
    process = hf.use(fallback=MOCK)
    for stream in (False, True):
        hf.router.behave("stall", at="headers")
        assert process.ask(stream=stream).header("x-chatbot-fallback") == "ProviderUnavailable"


def test_what_was_said_is_in_no_log(hf: Hosted) -> None:
    process = hf.use(fallback=MOCK, systemPrompt="the secret prompt")
    for status in (200, 500):
        hf.router.behave("status" if status == 500 else "ok", status=status)
        process.ask("a private question", stream=True)
    log = "\n".join(process.lines)
    assert "private" not in log
    assert "secret prompt" not in log
    assert REPLIES[0][:20] not in log
    assert json.loads(process.lines[0])


def test_a_host_that_the_administrator_takes_off_the_list_is_asked_no_more(hf: Hosted) -> None:
    process = hf.use(fallback=MOCK, hf={"requestsPerMinute": 100_000, "allowedHosts": ["somewhere.else"]})
    hf.router.requests.clear()
    reply = process.ask()
    assert (reply.json["model"], reply.header("x-chatbot-fallback")) == ("mock", "AccessDenied")
    assert process.internal("/readyz").status == 200
    assert hf.router.requests == []
    process = hf.use(fallback=MOCK, hf={"requestsPerMinute": 100_000, "allowedHosts": ["127.0.0.1"]})
    until(lambda: process.ask().json["model"] == "org/tiny", "it is asked again")
