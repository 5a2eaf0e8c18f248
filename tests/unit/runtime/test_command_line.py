"""`serve` and `ask` as a person or a script meets them."""

import http.server
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from chatbot_runtime.config import settings_table
from chatbot_runtime.providers.mock import REPLIES
from tests.support.runtime_process import RuntimeProcess, question, until
from tests.unit.runtime.conftest import Tunable


def run(*arguments: str, environ: Mapping[str, str] | None = None, text: str = "") -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CHATBOT_")}
    return subprocess.run(
        [sys.executable, "-m", "chatbot_runtime", *arguments],
        env=clean | dict(environ or {}), input=text, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CHATBOT_PHASE": "local", "CHATBOT_MODELS": "phi"}, "CHATBOT_SERVER: it is 'auto' in phase local"),
        ({"CHATBOT_SERVER": "ollama"}, "CHATBOT_SERVER: it is 'ollama' in phase mock"),
        ({"CHATBOT_PHASE": "local", "CHATBOT_SERVER": "ollama"}, "CHATBOT_MODELS: phase local needs"),
    ],
)
def test_serve_in_phase_local_needs_an_engine_and_no_other_phase_takes_one(environ: dict[str, str], words: str) -> None:
    ended = run("serve", environ={**environ, "CHATBOT_PORT": "0", "CHATBOT_INTERNAL_PORT": "0"})
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {words}")
    assert "Traceback" not in ended.stderr


def test_serve_in_phase_hf_needs_to_know_the_models() -> None:
    ended = run("serve", environ={"CHATBOT_PHASE": "hf", "CHATBOT_PORT": "0", "CHATBOT_INTERNAL_PORT": "0"})
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: CHATBOT_MODELS: phase hf needs at least one model")
    assert "Traceback" not in ended.stderr


def test_serve_names_a_bad_setting_and_a_taken_port() -> None:
    bad = run("serve", "--port", "many")
    assert (bad.returncode, bad.stderr.splitlines()[0].split(":")[:2]) == (2, ["error", " CHATBOT_PORT"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("serve", "--host", "127.0.0.1", "--port", port, "--internal-port", "0")
    assert ended.returncode == 2
    assert f"CHATBOT_PORT: port {port} is taken by another program" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_serve_without_usable_settings_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("{")
    ended = run("serve", "--settings-file", str(path), "--port", "0", "--internal-port", "0")
    assert ended.returncode == 2
    assert str(path) in ended.stderr


def test_serve_on_a_terminal_shows_where_to_go_and_ends_at_once_on_ctrl_c() -> None:
    leader, follower = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHATBOT_")}
    command = [
        sys.executable,
        "-m",
        "chatbot_runtime",
        "serve",
        "--phase",
        "mock",
        "--port",
        "0",
        "--internal-port",
        "0",
    ]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environ)
    os.close(follower)
    shown = b""
    while b"Ctrl-C stops it." not in shown:
        shown += os.read(leader, 4096)
    text = shown.decode().replace("\r\n", "\n")
    url = next(word for word in text.split() if word.startswith("http://"))
    assert f'ask "hello" --url {url}' in text
    assert f"curl -N {url}/v1/chat/completions" in text
    assert '{"ts"' not in text
    assert url.startswith("http://127.0.0.1:")
    answer = run("ask", "hello", "--url", url)
    assert answer.stdout.strip() in REPLIES
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert time.monotonic() - begin < 2
    rest = os.read(leader, 65536).decode()
    assert "Traceback" not in rest
    assert "stopped" in rest
    os.close(leader)


def test_ask_streams_the_answer_and_takes_the_question_from_standard_input(mock: RuntimeProcess) -> None:
    ended = run("ask", "hello", "--url", mock.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip() in REPLIES
    piped = run("ask", "-", environ={"CHATBOT_URL": f"{mock.url}/v1/"}, text="hello")
    assert piped.stdout == ended.stdout


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
def test_ask_gives_json_for_scripts(mock: RuntimeProcess, options: list[str]) -> None:
    ended = run("ask", "hello", "--url", mock.url, "--output", "json", *options)
    reply = json.loads(ended.stdout)
    assert reply["answer"] in REPLIES
    assert (reply["model"], reply["phase"], reply["fallback"], reply["finish_reason"]) == ("mock", "mock", None, "stop")
    assert reply["usage"]["completion_tokens"] > 0
    assert len(reply["request_id"]) == 32


def test_ask_says_why_a_server_refuses(mock: RuntimeProcess) -> None:
    ended = run("ask", "hello", "--url", mock.url, "--model", "gpt-9")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "error: The model 'gpt-9' is not served here. Served are: mock. (HTTP 404)\n"
    as_json = run("ask", "hello", "--url", mock.url, "--model", "gpt-9", "--output", "json")
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["error"]["status"] == 404


def test_ask_says_when_to_try_again(scripted: RuntimeProcess) -> None:
    ended = run("ask", "fail RateLimited", "--url", scripted.url)
    assert ended.returncode == 1
    assert ended.stderr == "error: the provider is away (HTTP 503, try again in 7 s)\n"


def test_ask_shows_what_came_before_an_answer_broke_off(scripted: RuntimeProcess) -> None:
    ended = run("ask", "say half; fail ProviderUnavailable", "--url", scripted.url)
    assert (ended.returncode, ended.stdout, ended.stderr) == (4, "half\n", "error: the provider is away\n")


def test_ask_says_that_nobody_answers(scripted: RuntimeProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ended = run("ask", "hello", "--url", f"http://127.0.0.1:{port}")
    assert ended.returncode == 3
    assert ended.stderr.startswith(f"error: 127.0.0.1:{port} cannot be reached: Connection refused.")
    silent = run("ask", "wait 1.9; say a", "--no-stream", "--url", scripted.url, "--timeout", "0.3")
    assert silent.returncode == 3
    assert "within 0.3 s" in silent.stderr


@pytest.fixture
def other_server() -> Iterator[tuple[str, list[bytes]]]:
    """A server that is no chatbot: it redirects, and notes what it was sent."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    seen.append(connection.recv(65536))
                    connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {url}/x\r\nContent-Length: 0\r\n\r\n".encode())

        threading.Thread(target=answer, daemon=True).start()
        yield url, seen
        listener.shutdown(socket.SHUT_RDWR)


def test_ask_follows_no_redirect_with_its_key(other_server: tuple[str, list[bytes]], tmp_path: Path) -> None:
    url, seen = other_server
    key = tmp_path / "key"
    key.write_text("private-key\n")
    ended = run("ask", "hello", "--url", url, "--api-key-file", str(key))
    assert ended.returncode == 1
    assert "HTTP 302" in ended.stderr
    assert len([data for data in seen if data.startswith(b"POST")]) == 1
    assert not [data for data in seen if data.startswith(b"GET")]


def test_ask_sends_the_key_from_a_file_and_never_shows_it(tunable: Tunable, tmp_path: Path) -> None:
    tunable.keys.mkdir()
    (tunable.keys / "dave").write_text("private-key\n")
    (tmp_path / "wrong").write_text("wrong-key")
    (tmp_path / "empty").write_text("")
    process = tunable.use(access={"mode": "APIKey", "requestsPerMinute": 999})

    def ask(file: Path) -> subprocess.CompletedProcess[str]:
        return run("ask", "hi", "--no-stream", "--url", process.url, "--api-key-file", str(file))

    until(lambda: ask(tunable.keys / "dave").returncode == 0, "the key is known")
    wrong = ask(tmp_path / "wrong")
    assert (wrong.returncode, "wrong-key" in wrong.stderr + wrong.stdout) == (1, False)
    assert "The API key is not known here" in wrong.stderr
    for file in (tmp_path / "empty", tmp_path / "missing"):
        ended = run("ask", "hi", "--api-key-file", str(file))
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"error: --api-key-file: {file}")
    (tunable.keys / "dave").unlink()
    tunable.keys.rmdir()


class _ComesUp(http.server.BaseHTTPRequestHandler):
    """A Service without a ready pod at first: 503 twice, then an answer."""

    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        ready = self.asked > 2
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(b'{"choices": [{"message": {"content": "here"}}]}' if ready else b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing on the test's screen."""


def test_ask_goes_on_asking_a_server_that_is_not_there_yet_and_not_one_that_refuses(scripted: RuntimeProcess) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _ComesUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        early = run("ask", "hello", "--no-stream", "--url", url)
        assert (early.returncode, _ComesUp.asked) == (1, 1)
        waited = run("ask", "hello", "--no-stream", "--url", url, "--wait", "20")
        server.shutdown()
    assert (waited.returncode, waited.stdout, _ComesUp.asked) == (0, "here\n", 3)
    began = time.monotonic()
    refused = run("ask", "hello", "--model", "gpt-9", "--url", scripted.url, "--wait", "20")
    assert refused.returncode == 1
    assert time.monotonic() - began < 10


def test_ask_wants_a_web_address() -> None:
    ended = run("ask", "hi", "--url", "ftp://127.0.0.1/x")
    assert ended.returncode == 2
    assert "must begin with http:// or https://" in ended.stderr


def test_ask_stops_cleanly_on_ctrl_c(scripted: RuntimeProcess) -> None:
    command = [sys.executable, "-m", "chatbot_runtime", "ask", "say begun; wait 1.9; say b", "--url", scripted.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(5) == b"begun"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert (process.returncode, stderr) == (130, b"")


def test_the_exit_codes_are_in_the_help() -> None:
    shown = run("ask", "--help").stdout
    assert [f"  {code} " in shown for code in (0, 1, 2, 3, 4, 130)] == [True] * 6


def test_the_settings_can_be_listed() -> None:
    assert run("settings").stdout == settings_table()


def test_the_example_for_curl_is_a_request_that_works(mock: RuntimeProcess) -> None:
    assert mock.request("POST", "/v1/chat/completions", question("hello", stream=True)).status == 200
