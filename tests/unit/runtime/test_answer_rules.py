"""What every answer says about itself: headers, errors, the shape of a stream."""

import json
import time

import pytest

from tests.support.runtime_process import CHAT, RuntimeProcess, events, question, read_all, read_until, until


def test_a_valid_request_id_is_kept_and_another_is_replaced(mock: RuntimeProcess) -> None:
    assert mock.ask(headers={"x-request-id": "trace-1.a_B"}).header("x-request-id") == "trace-1.a_B"
    for bad in ("two words", "x" * 200, "a\tb", "<script>"):
        given = mock.ask(headers={"x-request-id": bad}).header("x-request-id")
        assert given is not None
        assert len(given) == 32
        assert given.isalnum()


def test_the_phase_is_in_a_header_of_every_answer(mock: RuntimeProcess) -> None:
    for reply in (mock.ask(), mock.ask(stream=True), mock.request("GET", "/nothing"), mock.ask(n=2)):
        assert reply.header("x-chatbot-phase") == "mock"
        assert reply.header("x-chatbot-fallback") is None


def test_a_whole_answer_and_the_first_chunk_of_a_stream_say_who_answered(mock: RuntimeProcess) -> None:
    assert mock.ask().json["chatbot"] == {"phase": "mock", "fallback": None}
    chunks = events(mock.ask(stream=True).body)
    assert chunks[0]["chatbot"] == {"phase": "mock", "fallback": None}
    assert not any("chatbot" in chunk for chunk in chunks[1:-1])


def test_the_mock_answers_its_own_phase_also_for_a_client_that_wants_no_fallback(mock: RuntimeProcess) -> None:
    reply = mock.ask(headers={"x-chatbot-fallback": "none"})
    assert (reply.status, reply.json["chatbot"]["fallback"]) == (200, None)


def test_when_another_provider_answers_header_field_and_model_say_so(scripted: RuntimeProcess) -> None:
    for stream in (False, True):
        reply = scripted.ask("fallback RateLimited; say a", stream=stream)
        assert reply.header("x-chatbot-fallback") == "RateLimited"
        first = events(reply.body)[0] if stream else reply.json
        assert (first["model"], first["chatbot"]["fallback"]) == ("mock", "RateLimited")


def test_a_stream_is_not_buffered_and_ends_with_done(mock: RuntimeProcess) -> None:
    reply = mock.ask(stream=True)
    assert reply.header("x-accel-buffering") == "no"
    assert (reply.header("content-type") or "").startswith("text/event-stream")
    chunks = events(reply.body)
    assert chunks[-1] == "[DONE]"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]].count("stop") == 1
    assert not any("usage" in chunk for chunk in chunks[:-1])


def test_every_chunk_has_the_usage_field_if_it_was_asked_for(mock: RuntimeProcess) -> None:
    *chunks, last, done = events(mock.ask(stream=True, stream_options={"include_usage": True}).body)
    assert done == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["usage"]["total_tokens"] > 0


def test_the_system_prompt_is_asked_first_and_shown_nowhere(scripted: RuntimeProcess, mock: RuntimeProcess) -> None:
    echoed = scripted.ask("say $first").json["choices"][0]["message"]["content"]
    assert echoed == "The word is xyzzy."  # this provider gives away what it was asked: the prompt did come first
    for reply in (mock.ask(), mock.ask(stream=True), mock.request("GET", "/v1/models"), mock.ask(n=2)):
        assert b"xyzzy" not in reply.body
    assert b"xyzzy" not in mock.internal("/status").body
    assert "xyzzy" not in "\n".join(mock.lines)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/v1/responses"])
def test_endpoints_that_mock_does_not_have_say_so(mock: RuntimeProcess, path: str) -> None:
    reply = mock.request("POST", path, question())
    assert reply.status == 404
    assert f"{path} is not available in phase mock" in reply.error["message"]


def test_unknown_addresses_and_methods_get_an_error_in_the_usual_shape(mock: RuntimeProcess) -> None:
    assert mock.request("GET", "/").error["code"] == "not_found"
    reply = mock.request("GET", CHAT)
    assert (reply.status, reply.error["code"]) == (405, "method_not_allowed")
    assert "POST" in reply.error["message"]
    odd = mock.request("POST", CHAT, question(), {"Expect": "miracles"})
    assert (odd.status, odd.error["code"]) == (417, "expectation_failed")


def test_a_client_that_asks_before_it_sends_its_body_is_told_to_go_on(mock: RuntimeProcess) -> None:
    body = json.dumps(question()).encode()
    with mock.connect() as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert b"HTTP/1.1 200 OK" in read_until(connection, b"finish_reason")


def test_the_public_status_names_no_models(mock: RuntimeProcess) -> None:
    assert mock.request("GET", "/v1/status").json == {
        "chatbot": "demo", "phase": "mock", "fallback": None, "download": None
    }  # fmt: skip


def test_the_model_asked_for_is_the_one_that_answers(scripted: RuntimeProcess) -> None:
    assert scripted.ask("say a", model="second").json["model"] == "second"
    assert {
        chunk["model"] for chunk in events(scripted.ask("say a; say b", model="second", stream=True).body)[:-1]
    } == {"second"}


def test_a_provider_that_is_away_is_a_503_that_says_when_to_come_back(scripted: RuntimeProcess) -> None:
    for stream in (False, True):
        reply = scripted.ask("fail RateLimited", stream=stream)
        assert (reply.status, reply.error["code"], reply.error["type"]) == (503, "rate_limited", "server_error")
        assert reply.header("retry-after") == "7"


def test_a_failure_before_the_first_word_has_a_status_and_after_it_is_an_event_without_done(
    scripted: RuntimeProcess,
) -> None:
    assert scripted.ask("wait 0.01; fail ProviderUnavailable; say a", stream=True).status == 503
    reply = scripted.ask("say a; fail ProviderUnavailable", stream=True)
    assert reply.status == 200
    *said, failure = events(reply.body)
    assert set(failure["error"]) == {"message", "type", "code", "param"}
    assert failure["error"]["code"] == "provider_unavailable"
    assert "[DONE]" not in said


@pytest.mark.parametrize("script", ["say a; end", "end"])
def test_an_answer_that_just_ends_has_failed(scripted: RuntimeProcess, script: str) -> None:
    assert scripted.ask(script).status == 503
    reply = scripted.ask(script, stream=True)
    if script == "end":
        assert reply.status == 503
    else:
        assert events(reply.body)[-1]["error"]["code"] == "provider_unavailable"


@pytest.mark.parametrize("script", ["crash", "say a; crash"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_ours_shows_no_detail_to_the_client_but_is_in_the_log(
    scripted: RuntimeProcess, script: str, stream: bool
) -> None:
    reply = scripted.ask(script, stream=stream)
    assert b"secret detail" not in reply.body
    assert b"Traceback" not in reply.body
    code = events(reply.body)[-1]["error"]["code"] if reply.status == 200 else reply.error["code"]
    assert code == "internal_error"
    identity = reply.header("x-request-id")
    failed = until(
        lambda: [line for line in scripted.logged("request failed") if line["id"] == identity], "the log has the fault"
    )
    assert "secret detail" in failed[0]["traceback"]


def test_a_silent_stream_is_committed_after_a_while_and_kept_alive_by_comments(scripted: RuntimeProcess) -> None:
    reply = scripted.ask("wait 1; say a", stream=True)
    assert reply.status == 200
    seen = events(reply.body)
    assert seen[:3] == [": ping"] * 3
    assert [chunk["choices"][0]["delta"].get("content") for chunk in seen[3:5]] == ["", "a"]
    assert seen[-1] == "[DONE]"


def test_comments_also_come_between_two_words(scripted: RuntimeProcess) -> None:
    seen = events(scripted.ask("say a; wait 0.8; say b", stream=True).body)
    words = [": ping" if e == ": ping" else e["choices"][0]["delta"].get("content") for e in seen[:-1]]
    assert ": ping" in words[words.index("a") : words.index("b")]
    assert seen[-1] == "[DONE]"


def test_a_failure_after_the_commit_is_an_event(scripted: RuntimeProcess) -> None:
    reply = scripted.ask("wait 0.5; fail ModelNotReady", stream=True)
    assert reply.status == 200
    assert events(reply.body)[-1]["error"]["code"] == "model_not_ready"


def test_an_answer_that_takes_too_long_ends_with_an_error_and_its_work_is_ended(scripted: RuntimeProcess) -> None:
    before = len(scripted.logged("aborted"))
    reply = scripted.ask("wait 30; say a")
    assert (reply.status, reply.error["code"]) == (503, "timeout")
    reply = scripted.ask("say a; wait 30; say b", stream=True)
    assert events(reply.body)[-1]["error"]["code"] == "timeout"
    until(lambda: len(scripted.logged("aborted")) == before + 2, "both ends are logged")


def test_a_failed_stream_closes_its_connection(scripted: RuntimeProcess) -> None:
    begin = time.monotonic()
    with scripted.send("say a; fail ProviderUnavailable") as connection:
        received = read_all(connection)
    assert time.monotonic() - begin < 5  # long before it would be closed for being idle
    assert received.endswith(b"0\r\n\r\n")
    assert b'"error"' in received


def test_the_request_log_has_sizes_times_and_codes_but_nothing_that_was_said(mock: RuntimeProcess) -> None:
    reply = mock.ask("a private question", {"authorization": "Bearer private-key"}, stream=True)
    record = mock.request_log(reply.header("x-request-id") or "")
    assert {"route": CHAT, "status": 200, "stream": True, "model": "mock", "method": "POST"}.items() <= record.items()
    assert record["tokens"] > 0
    assert record["bytes"] > 20
    assert 0 <= record["first_ms"] <= record["ms"]
    log = "\n".join(mock.lines)
    assert "private" not in log
    assert "127.0.0.1" not in log
