"""When a pod of phase hf is ready, and what it says while it is not."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbot_runtime.contract import FallbackReason, MockSettings, PodStatus
from chatbot_runtime.providers.base import ProviderError
from chatbot_runtime.providers.mock import MockProvider
from chatbot_runtime.verification import Verification
from tests.support.hosted import MODELS, QUIET, hosted, replace
from tests.support.router import GOOD, Model, Router
from tests.support.runtime_process import RuntimeProcess, until


@pytest.fixture
def router() -> Iterator[Router]:
    with Router() as router:
        yield router


def status(process: RuntimeProcess) -> PodStatus:
    return PodStatus.model_validate_json(process.internal("/status").body)


def test_a_new_revision_asks_its_own_provider_one_token_and_is_ready_then(tmp_path: Path, router: Router) -> None:
    with hosted(tmp_path, router=router) as hf:
        hf.ready()
        asked = list(router.chats())
        assert asked == [
            {"max_tokens": 1, "model": "org/tiny", "messages": [{"role": "user", "content": "Hello"}], "stream": False}
        ]
        assert status(hf.process).verification.verified


def test_the_test_question_is_not_counted_against_the_rate(tmp_path: Path, router: Router) -> None:
    limit = {"hf": {"requestsPerMinute": 1, "timeoutSeconds": 5}}
    with hosted(tmp_path, router=router, settings=limit) as hf:
        hf.ready()
        assert hf.process.ask().status == 200
        assert hf.process.ask().error["code"] == "rate_limited"


def test_the_fallback_proves_nothing(tmp_path: Path, router: Router) -> None:
    router.behave("status", status=503)
    with hosted(tmp_path, router=router, settings={"fallback": {"to": "mock"}}) as hf:
        until(lambda: status(hf.process).verification.reason, "the failure is shown")
        assert hf.process.internal("/readyz").status == 503
        assert hf.process.ask().json["model"] == "mock"
        assert hf.process.internal("/readyz").status == 503
        router.behave()
        hf.ready()


def test_a_proven_revision_is_ready_at_once_without_asking_while_the_provider_is_away(
    tmp_path: Path, router: Router
) -> None:
    router.behave("stall")
    with hosted(tmp_path, router=router, settings={"verifiedRevisions": ["r1"]}, revision="r1") as hf:
        assert hf.process.internal("/readyz").status == 200
        assert list(router.chats()) == []


@pytest.mark.parametrize(
    ("content", "state", "words"),
    [
        (None, "missing", "does not exist: create the Secret"),
        ("", "empty", "is empty"),
        ("two words", "unreadable", "as one word"),
    ],
)
def test_without_a_token_nothing_is_sent_it_says_what_is_missing_and_goes_on_when_it_comes(
    tmp_path: Path, router: Router, content: str | None, state: str, words: str
) -> None:
    with hosted(tmp_path, router=router, token=content, refused_seconds=600) as hf:
        until(lambda: status(hf.process).verification.reason == "TokenRejected", "the reason is shown")
        now = status(hf.process)
        assert (now.token, now.ready, words in now.verification.message) == (state, False, True)
        assert router.requests == []
        hf.give(GOOD)
        hf.ready()
        assert status(hf.process).token == "ok"


def test_a_refused_token_is_not_tried_again_and_again_but_another_at_once(tmp_path: Path, router: Router) -> None:
    with hosted(tmp_path, router=router, token="hf_wrong", refused_seconds=600) as hf:
        until(lambda: "revoked" in status(hf.process).verification.message, "the Hub has been asked")
        assert status(hf.process).verification.reason == "TokenRejected"
        assert len(list(router.chats())) == 1
        hf.give(GOOD)
        hf.ready()


@pytest.mark.parametrize(
    ("reason", "retry_after", "attempt", "pause"),
    [
        ("ProviderUnavailable", None, 0, 0.5),
        ("ProviderUnavailable", None, 99, 10),
        ("RateLimited", 60, 0, 60),
        ("ModelNotFound", None, 2, 2),
        ("TokenRejected", None, 0, 300),
        ("AccessDenied", 5, 0, 300),
        ("AccessDenied", 900, 0, 900),
    ],
)
def test_the_pause_before_the_next_question_is_long_where_asking_again_is_no_use(
    reason: FallbackReason, retry_after: float | None, attempt: int, pause: float
) -> None:
    verification = Verification(MockProvider(MockSettings), lambda: False, 300)
    assert verification._pause(ProviderError(reason, "no", retry_after), attempt) == pause


def test_changed_settings_end_the_pause(tmp_path: Path, router: Router) -> None:
    router.behave("status", status=403)
    with hosted(tmp_path, router=router, refused_seconds=600) as hf:
        until(lambda: status(hf.process).verification.reason == "AccessDenied", "the refusal is shown")
        router.behave()
        replace(hf.settings, json.dumps(QUIET | {"systemPrompt": "x"}))
        hf.ready()


def test_a_pod_whose_question_was_refused_asks_the_hub_why_once(tmp_path: Path, router: Router) -> None:
    router.behave("status", status=403)
    router.models["org/tiny"] = Model(gated="manual", open_to=())
    with hosted(tmp_path, router=router, refused_seconds=0.05) as hf:
        until(lambda: "org/tiny is gated" in status(hf.process).verification.message, "the reason behind is found")
        found = status(hf.process).verification
        assert found.reason == "AccessDenied"
        assert "ask for access at https://huggingface.co/org/tiny" in found.message
        asked = len(list(router.chats()))
        until(lambda: len(list(router.chats())) > asked, "it goes on asking its own question", 15)
        assert "org/tiny is gated" in status(hf.process).verification.message
        assert [request["path"] for request in router.requests].count("/api/whoami-v2") == 1


def test_the_hub_is_not_asked_about_what_passes_nor_where_it_is_not_allowed(tmp_path: Path, router: Router) -> None:
    router.behave("status", status=503)
    with hosted(tmp_path, router=router) as hf:
        until(lambda: len(list(router.chats())) > 2, "the provider is asked again")
        assert not any(request["path"].startswith("/api") for request in router.requests)
    router.behave("status", status=403)
    router.requests.clear()
    with hosted(
        tmp_path, router=router, allowed_hosts=f"127.0.0.1:{router.port}", HF_ENDPOINT="http://localhost:9"
    ) as hf:
        until(lambda: status(hf.process).verification.reason == "AccessDenied", "the refusal is shown")
        until(lambda: len(list(router.chats())) > 2, "it goes on asking")
        assert status(hf.process).verification.message.startswith("127.0.0.1")


def test_a_hub_that_is_silent_blocks_neither_answers_nor_the_end(tmp_path: Path, router: Router) -> None:
    with Router() as silent:
        silent.hub_stalls = True
        router.behave("status", status=403)
        with hosted(tmp_path, router=router, HF_ENDPOINT=silent.hub) as hf:
            until(lambda: any("whoami" in request["path"] for request in silent.requests), "the Hub is asked")
            router.behave()
            hf.ready()
            assert hf.process.ask().status == 200
            hf.process.signal(signal.SIGINT)
            assert hf.process.wait(5) == 0


def test_a_host_that_is_not_allowed_is_not_asked_and_named(tmp_path: Path, router: Router) -> None:
    with hosted(tmp_path, router=router, allowed_hosts="router.huggingface.co") as hf:
        until(lambda: status(hf.process).verification.reason == "AccessDenied", "the refusal is shown")
        assert "the administrator has not allowed it" in status(hf.process).verification.message
        assert hf.process.ask().error["code"] == "access_denied"
        assert router.requests == []


def test_a_question_that_the_provider_finds_wrong_is_no_crash(tmp_path: Path, router: Router) -> None:
    router.behave("status", status=400, body={"error": {"message": "max_tokens is not known", "code": "x"}})
    with hosted(tmp_path, router=router, models=MODELS[0]) as hf:
        until(lambda: status(hf.process).verification.message, "the failure is shown")
        assert status(hf.process).verification.message == "the test question was refused: max_tokens is not known"
        assert hf.process.alive
