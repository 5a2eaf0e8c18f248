"""`check` as a person or a script meets it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.router import GOOD, Model, Router


@pytest.fixture
def router() -> Iterator[Router]:
    with Router() as router:
        yield router


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(GOOD)
    return path


def run(
    router: Router, token: Path, *arguments: str, models: str = "org/tiny", **environ: str
) -> subprocess.CompletedProcess[str]:
    """One `check` to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CHATBOT_", "HF_"))}
    given = {
        "HF_ENDPOINT": router.hub,
        "CHATBOT_BASE_URL": router.url,
        "CHATBOT_SERVER": "router",
        "CHATBOT_ALLOWED_HOSTS": "127.0.0.1",
        "CHATBOT_MODELS": models,
        "CHATBOT_TOKEN_FILE": str(token),
        "NO_PROXY": "*",
        "no_proxy": "*",
    }
    return subprocess.run(
        [sys.executable, "-m", "chatbot_runtime", "check", *arguments],
        env=clean | given | environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_all_well_is_exit_code_0_with_who_serves_the_model(router: Router, token: Path) -> None:
    router.models["org/tiny"] = Model(providers={"together": "live", "slow": "staging", "novita": "live"})
    ended = run(router, token, models="org/tiny,org/small:together")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        f"endpoint   ok       127.0.0.1:{router.port} (router)",
        "token      ok       of someone, role read",
        "inference  ok       the token may call Inference Providers",
        "model      ok       org/tiny, served by together, novita",
        "model      ok       org/small, served by together",
    ]
    assert not list(router.chats())  # a question would cost something


def test_json_is_one_object(router: Router, token: Path) -> None:
    found = json.loads(run(router, token, "--output", "json").stdout)
    assert (found["usable"], found["reason"]) == (True, None)
    assert [finding["name"] for finding in found["findings"]] == ["endpoint", "token", "inference", "model"]
    router.tokens = {}
    router.hub_status = 401
    found = json.loads(run(router, token, "--output", "json").stdout)
    assert (found["usable"], found["reason"]) == (False, "TokenRejected")
    router.hub_status = 503
    found = json.loads(run(router, token, "--output", "json").stdout)
    assert (found["usable"], found["reason"]) == (None, None)


@pytest.mark.parametrize(
    ("models", "words", "remedy"),
    [
        ("org/none", "the model org/none does not exist, or is private", "correct the model's name"),
        ("org/gated", "org/gated is gated", "ask for access at https://huggingface.co/org/gated"),
        ("org/unserved", "no provider answers chats with it now", "choose one that is served"),
        ("org/tiny:groq", "org/tiny is not served by groq", "choose one of together"),
        ("just a name", "no name that the Hub could know", "correct the model's name"),
    ],
)
def test_a_model_that_cannot_be_used_is_exit_code_1_with_what_helps(
    router: Router, token: Path, models: str, words: str, remedy: str
) -> None:
    router.models["org/gated"] = Model(gated="auto", open_to=())
    router.models["org/unserved"] = Model(providers={"together": "error"})
    ended = run(router, token, models=models)
    assert (ended.returncode, ended.stderr) == (1, "")
    last, help_line = ended.stdout.splitlines()[-2:]
    assert last.startswith("model      no       ")
    assert words in last
    assert help_line.startswith(f"{'':<19} → ")
    assert remedy in help_line


def test_a_gated_model_with_access_is_fine(router: Router, token: Path) -> None:
    router.models["org/tiny"] = Model(gated="manual")
    assert run(router, token).returncode == 0


@pytest.mark.parametrize(
    ("permissions", "code"),
    [(["repo.content.read"], 1), (["user.billing.read", "inference.serverless.write"], 0)],
)
def test_a_fine_grained_token_needs_the_permission_for_inference(
    router: Router, token: Path, permissions: list[str], code: int
) -> None:
    router.tokens = {GOOD: {"role": "fineGrained", "permissions": permissions}}
    ended = run(router, token)
    assert ended.returncode == code
    if code:
        assert "the token may not call Inference Providers" in ended.stdout
        assert "'Make calls to Inference Providers'" in ended.stdout


@pytest.mark.parametrize(("content", "words"), [("hf_unknown", "revoked"), ("", "is empty"), ("a b", "as one word")])
def test_a_bad_token_is_exit_code_1(router: Router, token: Path, content: str, words: str) -> None:
    token.write_text(content)
    ended = run(router, token)
    assert ended.returncode == 1
    assert words in ended.stdout


def test_who_cannot_be_asked_is_exit_code_3(router: Router, token: Path) -> None:
    router.hub_status = 500
    assert run(router, token).returncode == 3
    router.hub_status = 429
    assert "try again in some minutes" in run(router, token).stdout
    ended = run(router, token, HF_ENDPOINT="http://127.0.0.1:9")
    assert ended.returncode == 3
    assert "the Hub did not answer" in ended.stdout
    assert "Traceback" not in ended.stderr
    router.hub_status = 0
    assert run(router, token, HF_ENDPOINT="http://localhost:9").returncode == 3


def test_another_server_is_asked_for_its_list(router: Router, token: Path) -> None:
    ended = run(router, token, CHATBOT_SERVER="openai")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"org/tiny, served by 127.0.0.1:{router.port}" in ended.stdout
    assert [request["path"] for request in router.requests] == ["/v1/models"]
    ended = run(router, token, models="org/large", CHATBOT_SERVER="openai")
    assert ended.returncode == 1
    assert "does not list org/large" in ended.stdout
    token.write_text("wrong")
    ended = run(router, token, CHATBOT_SERVER="openai")
    assert ended.returncode == 1
    assert "refused the token (HTTP 401)" in ended.stdout
    token.unlink()
    router.tokens = {}
    ended = run(router, token, CHATBOT_SERVER="openai")
    assert ended.returncode == 0
    assert "none, and none is needed" in ended.stdout
    router.behave("status", status=404)
    assert run(router, token, CHATBOT_SERVER="openai").returncode == 3
    router.behave("status", status=500)
    assert run(router, token, CHATBOT_SERVER="openai").returncode == 3


def test_arguments_win_over_the_environment_and_bad_ones_are_exit_code_2(router: Router, token: Path) -> None:
    ended = run(router, token, "--model", "org/small", "--model", "org/none")
    assert "org/small" in ended.stdout
    assert "org/none" in ended.stdout
    assert "org/tiny" not in ended.stdout
    ended = run(router, token, models="")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: CHATBOT_MODELS")
    ended = run(router, token, "--base-url", "http://u:secret@x/v1")
    assert ended.returncode == 2
    assert "secret" not in ended.stderr
    ended = run(router, token, HF_ENDPOINT="http://u:secret@x")
    assert ended.returncode == 2
    assert "secret" not in ended.stderr + ended.stdout
    shown = run(router, token, "--help").stdout
    assert "exit codes:" in shown
