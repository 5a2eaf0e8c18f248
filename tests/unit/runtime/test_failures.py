"""What an upstream's refusal means, in our words."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_runtime.contract import FallbackReason
from chatbot_runtime.errors import ApiError
from chatbot_runtime.providers.base import ProviderError
from chatbot_runtime.providers.failures import (
    MAX_MESSAGE,
    MAX_RETRY_AFTER,
    failure,
    failure_in_stream,
    retry_after,
    scrubbed,
)

TOKEN = "secret.token"


def refused(status: int, body: object = None, **headers: str) -> ProviderError | ApiError:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return failure(status, data, headers, host="h", token=TOKEN, model="m", missing={"model_not_supported"})


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "TokenRejected"),
        (402, "AccessDenied"),
        (403, "AccessDenied"),
        (404, "ModelNotFound"),
        (410, "ModelNotFound"),
        (429, "RateLimited"),
        *((status, "ProviderUnavailable") for status in (204, 302, 405, 408, 409, 425, 500, 502, 503, 504, 529)),
    ],
)
def test_each_status_has_its_reason(status: int, reason: FallbackReason) -> None:
    error = refused(status, {"error": "why"})
    assert isinstance(error, ProviderError)
    assert (error.reason, error.counts) == (reason, True)
    assert str(error).startswith("h ")
    assert str(error).endswith(": why")


@pytest.mark.parametrize("status", [400, 413, 422])
def test_the_users_own_mistake_keeps_status_message_code_and_parameter(status: int) -> None:
    error = refused(status, {"error": {"message": "too long", "code": "context_length_exceeded", "param": "messages"}})
    assert isinstance(error, ApiError)
    assert (error.status, error.body.message, error.body.code, error.body.param) == (
        status, "too long", "context_length_exceeded", "messages"
    )  # fmt: skip


def test_a_missing_model_is_told_by_its_code_also_where_the_status_says_otherwise() -> None:
    error = refused(400, {"error": {"message": "no provider", "code": "model_not_supported"}})
    assert isinstance(error, ProviderError)
    assert error.reason == "ModelNotFound"


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"<html>",
        b"\xff",
        [],
        "text",
        {"error": None},
        {"error": 5},
        {"error": []},
        {"error": {"message": 5}},
    ],
)
def test_a_body_that_says_nothing_is_no_hindrance(body: object) -> None:
    assert str(refused(500, body)) == "h failed (HTTP 500)."
    mistake = refused(400, body)
    assert isinstance(mistake, ApiError)
    assert mistake.body.message == "h does not accept this request (HTTP 400)."


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain", "plain"),
        (f"Bearer {TOKEN}!", "Bearer …!"),
        (f"{TOKEN}{TOKEN}", "……"),
        ("an older one: hf_AbCdEfGhIjKl, or sk-proj-1234567890_x", "an older one: …, or …"),
        ("hf_short stays", "hf_short stays"),
        ("two\r\nlines\tand\0a\x1b[31m bell\a", "two lines anda[31m bell"),
        ("\u202eright to left", "right to left"),
        ("x" * (MAX_MESSAGE + 5), "x" * MAX_MESSAGE + "…"),
        (None, ""),
        (5, ""),
        (["x"], ""),
    ],
)
def test_words_are_passed_on_on_one_line_cut_short_and_without_tokens(said: object, shown: str) -> None:
    assert scrubbed(said, TOKEN) == shown


@given(st.text(max_size=50), st.text(max_size=50))
def test_whatever_stands_round_the_token_it_is_not_shown(before: str, after: str) -> None:
    assert TOKEN not in scrubbed(before + TOKEN + after, TOKEN)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "7"}, 7),
        (503, {"Retry-After": " 7 "}, 7),
        (503, {"Retry-After": "0"}, 1),
        (503, {"Retry-After": "-5"}, None),
        (503, {"Retry-After": "1.5"}, None),
        (503, {"Retry-After": "soon"}, None),
        (503, {"Retry-After": "९"}, None),
        (503, {"Retry-After": "9" * 400}, MAX_RETRY_AFTER),
        (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1),
        (429, {"RateLimit": '"api";r=0;t=42'}, 42),
        (500, {"RateLimit": '"api";r=0;t=42'}, None),
        (429, {"RateLimit": "nonsense"}, None),
        (429, {}, None),
    ],
)
def test_the_time_to_come_back_is_read_and_bounded(status: int, headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(status, headers) == seconds


def test_a_date_to_come_back_is_a_time_from_now() -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < (retry_after(503, {"Retry-After": when}) or 0) <= 90


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        ({"message": "no", "code": 429}, "RateLimited", "limits how often it may be asked: no"),
        ({"message": "no", "status": 401}, "TokenRejected", "refused the token: no"),
        ({"message": "no", "code": "x"}, "ProviderUnavailable", "failed: no"),
        ("the engine died", "ProviderUnavailable", "failed: the engine died"),
        (5, "ProviderUnavailable", "failed."),
    ],
)
def test_an_error_within_a_stream_has_its_reason(error: object, reason: FallbackReason, words: str) -> None:
    found = failure_in_stream(error, host="h", token=TOKEN)
    assert (found.reason, str(found)) == (reason, f"h {words}")
