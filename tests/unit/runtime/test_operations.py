"""What the operator and probes see: readiness, liveness, status, metrics, changed settings and keys."""

import json
import shutil
from pathlib import Path

from chatbot_runtime.contract import PodStatus, settings_hash
from tests.support.runtime_process import FAST, RuntimeProcess, chat_bytes, question, until
from tests.unit.runtime.conftest import Tunable


def test_the_status_follows_the_contract(mock: RuntimeProcess, fast_settings: Path) -> None:
    until(lambda: mock.internal("/readyz").status == 200, "ready")
    status = PodStatus.model_validate_json(mock.internal("/status").body)
    assert (status.chatbot, status.phase, status.revision, status.model) == ("demo", "mock", "dev", "mock")
    assert status.ready
    assert status.verification.verified
    assert status.settings_hash == settings_hash(fast_settings.read_text())
    assert (status.settings_error, status.token) == ("", "notNeeded")


def test_public_and_internal_endpoints_are_on_their_own_ports(mock: RuntimeProcess) -> None:
    for path in ("/livez", "/readyz", "/status", "/metrics"):
        assert mock.request("GET", path).status == 404
    assert mock.internal("/v1/models").status == 404


def test_changed_settings_are_used_without_a_restart_and_broken_ones_are_not(tunable: Tunable) -> None:
    process = tunable.process
    reloads = process.metric("chatbot_runtime_settings_reloads_total")

    def answer() -> str:
        text: str = process.ask().json["choices"][0]["message"]["content"]
        return text

    for reply in ("one", "two"):
        tunable.use(**FAST | {"mock": {"replies": [reply]}})
        assert answer() == reply
    before = process.status()["settingsHash"]
    tunable.write('{"mock": {"replies": "no list"}}')
    until(lambda: process.status()["settingsError"], "the error is shown", 3)
    status = process.status()
    assert (status["settingsHash"], status["ready"]) == (before, True)
    assert "mock.replies" in status["settingsError"]
    assert answer() == "two"
    tunable.use(**FAST | {"mock": {"replies": ["three"]}})
    assert process.status()["settingsError"] == ""
    assert answer() == "three"
    assert process.metric("chatbot_runtime_settings_reloads_total") == reloads + 4


def test_key_mode_fails_closed_and_keys_come_and_go_without_a_restart(tunable: Tunable) -> None:
    process = tunable.use(access={"mode": "Anonymous"})
    assert process.status()["keys"] == "notNeeded"
    tunable.use(access={"mode": "APIKey"})

    def status(key: str) -> int:
        return process.ask(headers={"Authorization": f"Bearer {key}"}).status

    assert process.status()["keys"] == "missing"
    assert process.ask().error["code"] == "missing_api_key"
    assert status("one") == 401
    tunable.keys.mkdir()
    (tunable.keys / "alice").write_text("one")
    until(lambda: status("one") == 200, "the key is known", 3)
    assert process.status()["keys"] == "ok"
    models = process.request("GET", "/v1/models")
    assert (models.status, models.header("www-authenticate")) == (401, "Bearer")
    assert process.request("GET", "/v1/status").status == 200
    allowed = process.ask(headers={"Authorization": "Bearer one"})
    assert process.request_log(allowed.header("x-request-id") or "")["client"] == "alice"
    (tunable.keys / "alice").unlink()
    until(lambda: status("one") == 401, "the key is revoked", 3)
    tunable.keys.rmdir()
    assert "Bearer" not in "\n".join(process.lines)


def test_a_client_has_no_more_requests_at_once_than_allowed(tunable: Tunable) -> None:
    process = tunable.use(access={"concurrentRequests": 1, "requestsPerMinute": 1000}, mock={"tokensPerSecond": 5})
    with process.send("a") as connection:
        assert connection.recv(100)
        refused = process.ask()
        assert (refused.status, refused.error["code"]) == (429, "concurrency_limit_exceeded")
    until(lambda: process.ask().status == 200, "the place is free again", 2)


def test_clients_behind_trusted_proxies_are_told_apart(tunable: Tunable) -> None:
    process = tunable.use(access={"requestsPerMinute": 1, "trustedHops": 1})

    def status(forwarded: str) -> int:
        return process.ask(headers={"X-Forwarded-For": forwarded}).status

    assert [status("1.1.1.1"), status("2.2.2.2")] == [200, 200]
    assert [status("1.1.1.1"), status("3.3.3.3, 1.1.1.1")] == [429, 429]


def test_clients_who_cannot_be_told_apart_share_no_limit_but_those_with_a_key_keep_theirs(tunable: Tunable) -> None:
    limits = {"requestsPerMinute": 1, "concurrentRequests": 1, "sharedAddresses": True}
    process = tunable.use(access=limits)
    assert [process.ask().status for _ in range(3)] == [200, 200, 200]
    tunable.use(access=limits | {"mode": "APIKey"})
    tunable.keys.mkdir()
    for client in ("alice", "bob"):
        (tunable.keys / client).write_text(f"key of {client}")
    until(lambda: process.status()["keys"] == "ok", "the keys are known", 3)

    def status(client: str) -> int:
        return process.ask(headers={"Authorization": f"Bearer key of {client}"}).status

    assert [status("alice"), status("bob"), status("alice"), status("bob")] == [200, 200, 429, 429]
    shutil.rmtree(tunable.keys)


def test_cors_is_off_unless_origins_are_named(tunable: Tunable, mock: RuntimeProcess) -> None:
    ask = {"Origin": "https://chat.example", "Access-Control-Request-Method": "POST"}
    closed = mock.request("OPTIONS", "/v1/chat/completions", headers=ask)
    assert closed.status == 405
    assert closed.header("access-control-allow-origin") is None
    process = tunable.use(access={"mode": "APIKey", "corsOrigins": ["https://chat.example"]})
    headers = ask | {"Access-Control-Request-Headers": "authorization,x-stainless-os"}
    opened = process.request("OPTIONS", "/v1/chat/completions", headers=headers)
    assert opened.status == 204
    assert opened.header("access-control-allow-origin") == "https://chat.example"
    assert opened.header("access-control-allow-headers") == "authorization,x-stainless-os"
    refused = process.ask(headers={"Origin": "https://chat.example"})
    assert refused.status == 401
    assert refused.header("access-control-allow-origin") == "https://chat.example"
    assert "x-request-id" in (refused.header("access-control-expose-headers") or "")
    other = process.request("OPTIONS", "/v1/chat/completions", headers=ask | {"Origin": "https://evil.example"})
    assert other.header("access-control-allow-origin") is None


def test_a_blocked_event_loop_fails_liveness_and_it_recovers(scripted: RuntimeProcess) -> None:
    assert scripted.internal("/livez").status == 200
    with scripted.connect() as connection:
        connection.sendall(chat_bytes(question("block 2.5; say a")))
        until(lambda: scripted.internal("/livez").status == 503, "liveness fails while the loop is blocked", 2.4)
        until(lambda: scripted.internal("/livez").status == 200, "it recovers")


def test_a_new_revision_is_ready_only_after_its_provider_has_answered(tmp_path: Path) -> None:
    with RuntimeProcess("tests.support.runtime_scripted", revision="refusing") as process:
        until(lambda: process.status()["verification"]["reason"] == "ModelNotReady", "the refusal is shown", 1.4)
        unready = process.internal("/readyz")
        assert (unready.status, unready.body) == (503, b"the model is being loaded\n")
        assert process.status()["ready"] is False
        until(lambda: process.status()["verification"]["verified"], "a later question is answered", 8)
        assert process.internal("/readyz").status == 200
        assert process.status()["verification"]["reason"] is None


def test_a_proven_revision_is_ready_without_a_question_also_when_it_is_proven_later(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"verifiedRevisions": ["older"]}')
    with RuntimeProcess(
        "tests.support.runtime_scripted", settings_file=settings, revision="refusing", poll_seconds=0.05
    ) as process:
        assert process.internal("/readyz").status == 503
        settings.write_text('{"verifiedRevisions": ["older", "refusing"]}')
        until(lambda: process.internal("/readyz").status == 200, "ready by the others' proof", 1)
        assert process.status()["verification"]["verified"] is False


def test_metrics_count_requests_tokens_and_refusals(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(FAST))
    with RuntimeProcess(settings_file=settings) as process:
        tokens = process.ask().json["usage"]["completion_tokens"]
        process.ask(stream=True)
        process.ask(n=2)
        text = process.internal("/metrics").body.decode()
    for line in (
        'chatbot_runtime_requests_total{code="200",route="/v1/chat/completions"} 2.0',
        'chatbot_runtime_requests_total{code="400",route="/v1/chat/completions"} 1.0',
        'chatbot_runtime_refusals_total{cause="invalid_value"} 1.0',
        f'chatbot_runtime_tokens_total{{kind="completion"}} {2 * tokens}.0',
        'chatbot_runtime_request_seconds_count{stream="true"} 1.0',
        "chatbot_runtime_first_chunk_seconds_count 1.0",
        "chatbot_runtime_running_requests 0.0",
        "chatbot_runtime_ready 1.0",
        'chatbot_runtime_info{phase="mock",revision="dev"} 1.0',
    ):
        assert line in text.splitlines()
