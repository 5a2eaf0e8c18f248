"""Phase local: the real runtime beside the real llama-server with a tiny model, and beside Ollama (its stand-in, and
the program itself where it is on PATH)."""

import json
import os
import shutil
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from chatbot_runtime.contract import DownloadStatus, PodStatus
from tests.support import tiny_gguf
from tests.support.engines import LlamaServer, local, ready
from tests.support.ollama_process import STAND_IN, Ollama
from tests.support.ollama_registry import Registry, model_bytes
from tests.support.runtime_process import RuntimeProcess, events, read_all, read_until, until
from tests.web.nginx_process import free_port

SENTENCE = "Hello from a tiny test model."
OTHER = "Another sentence altogether."
GGUF = "hf://org/tiny/tiny.gguf"


def status(process: RuntimeProcess) -> PodStatus:
    return PodStatus.model_validate_json(process.internal("/status").body)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.gguf"
    tiny_gguf.write(path, SENTENCE)
    return path


def llama(weights: Path, *flags: str) -> LlamaServer:
    return LlamaServer(weights, "--alias", GGUF, *flags)


class TestLlamaServer:
    """The real engine."""

    def test_a_model_answers_under_its_own_name_streamed_and_whole(self, tmp_path: Path, weights: Path) -> None:
        with llama(weights) as engine, local(tmp_path, f"{engine.url}/v1", "llama.cpp", GGUF) as (process, _):
            ready(process)
            whole = process.ask()
            assert whole.json["choices"][0]["message"]["content"].strip() == SENTENCE
            assert whole.json["model"] == GGUF
            assert whole.header("x-chatbot-phase") == "local"
            *chunks, done = events(process.ask(stream=True).body)
            assert done == "[DONE]"
            assert (
                "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]).strip()
                == SENTENCE
            )
            assert {c["model"] for c in chunks} == {GGUF}
            assert status(process).verification.verified

    def test_a_prompt_that_does_not_fit_is_the_users_own_error(self, tmp_path: Path, weights: Path) -> None:
        with llama(weights) as engine, local(tmp_path, f"{engine.url}/v1", "llama.cpp", GGUF) as (process, _):
            ready(process)
            reply = process.ask("word " * 2000)
            assert reply.status == 400
            assert reply.error["code"] == "context_length_exceeded"
            assert process.ask().status == 200

    def test_a_dead_engine_is_503_and_its_pod_stays_ready_and_the_engine_that_comes_back_answers(
        self, tmp_path: Path, weights: Path
    ) -> None:
        settings = {"fallback": {"to": "none", "afterFailures": 2, "retryAfterSeconds": 600}}
        answered = tmp_path / "answered"
        with (
            llama(weights) as engine,
            local(tmp_path, f"{engine.url}/v1", "llama.cpp", GGUF, settings=settings, answered_file=answered) as (
                process,
                _,
            ),
        ):
            ready(process)
            assert answered.exists()
            engine.signal(signal.SIGKILL)
            engine.wait()
            replies = [process.ask() for _ in range(3)]
            assert [reply.status for reply in replies] == [503] * 3
            assert {reply.error["code"] for reply in replies} == {"engine_down"}
            assert status(process).fallback == "EngineDown"
            assert process.internal("/readyz").status == 200
            with engine:  # started anew
                until(lambda: process.ask().status == 200, "the engine is asked again")
            assert status(process).fallback is None

    def test_while_the_model_loads_a_pod_is_not_ready_and_says_so(self, tmp_path: Path) -> None:
        pipe = tmp_path / "slow.gguf"
        os.mkfifo(pipe)
        with LlamaServer(pipe, "--alias", GGUF, loads=True) as engine:
            proven = {"verifiedRevisions": ["r1"], "fallback": {"to": "mock"}}
            answered = tmp_path / "answered"
            more = {"revision": "r1", "answered_file": answered}
            with local(tmp_path, f"{engine.url}/v1", "llama.cpp", GGUF, settings=proven, **more) as (process, _):
                until(lambda: status(process).verification.reason == "ModelNotReady", "it says that it loads")
                assert process.internal("/readyz").status == 503
                assert not answered.exists()
                assert process.ask().json["model"] == "mock"  # who asks all the same is not left without an answer

    def test_a_file_that_is_not_there_is_told_with_what_is(self, tmp_path: Path, weights: Path) -> None:
        folder = tmp_path / "models"
        (folder / "hf").mkdir(parents=True)
        shutil.copy(weights, folder / "hf" / "other.gguf")
        nobody = f"http://127.0.0.1:{free_port()}/v1"
        with local(tmp_path, nobody, "llama.cpp", GGUF, models_dir=folder, model_file=folder / "tiny.gguf") as (
            process,
            _,
        ):
            until(lambda: "hf/other.gguf" in status(process).verification.message, "it says what there is")
            verification = status(process).verification
            assert verification.reason == "ModelNotFound"
            assert f"does not hold {GGUF}" in verification.message


PROGRAMS = {"stand-in": STAND_IN} | ({"real": (real,)} if (real := shutil.which("ollama")) else {})


@dataclass
class Served:
    """Ollama with two models of a registry of ours, whose sentences differ."""

    ollama: Ollama
    registry: Registry

    @contextmanager
    def runtime(self, folder: Path, models: str = "tiny,other", **more: Any) -> Iterator[RuntimeProcess]:
        with local(folder, f"{self.ollama.url}/v1", "ollama", models, registry=self.registry.host, **more) as (one, _):
            yield one


@pytest.fixture(scope="module", params=sorted(PROGRAMS))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("ollama")

    def model(sentence: str) -> bytes:
        if request.param == "stand-in":
            return model_bytes(sentence)
        tiny_gguf.write(folder / "model.gguf", sentence)
        return (folder / "model.gguf").read_bytes()

    with (
        Registry({"tiny": model(SENTENCE), "other": model(OTHER)}) as registry,
        Ollama(folder, PROGRAMS[request.param]) as ollama,
    ):
        for name in ("tiny", "other"):
            pull(ollama, f"{registry.host}/library/{name}:latest")
        yield Served(ollama, registry)


def pull(ollama: Ollama, name: str) -> None:
    body = json.dumps({"model": name, "insecure": True, "stream": False}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{ollama.url}/api/pull", body, method="POST")) as answer:
        assert json.load(answer) == {"status": "success"}


class TestOllama:
    """The engine behind models that are named as Ollama names them."""

    def test_models_answer_under_the_specs_names_whatever_registry_they_came_from(
        self, tmp_path: Path, served: Served
    ) -> None:
        with served.runtime(tmp_path) as process:
            ready(process)
            for model, sentence in (("tiny", SENTENCE), ("other", OTHER)):
                reply = process.ask(model=model)
                assert reply.json["choices"][0]["message"]["content"].strip() == sentence
                assert reply.json["model"] == model
            assert process.ask().json["model"] == "tiny"
            names = json.loads(process.request("GET", "/v1/models").body)["data"]
            assert [model["id"] for model in names] == ["tiny", "other"]

    def test_a_limit_under_its_new_name_is_understood_too(self, tmp_path: Path, served: Served) -> None:
        with served.runtime(tmp_path) as process:
            ready(process)
            reply = process.ask(max_completion_tokens=2)
            assert reply.json["usage"]["completion_tokens"] == 2
            assert reply.json["choices"][0]["finish_reason"] == "length"

    def test_a_model_that_is_not_there_is_told_with_those_that_are(self, tmp_path: Path, served: Served) -> None:
        folder = served.ollama.models
        with served.runtime(tmp_path, models="missing", models_dir=folder) as process:
            until(lambda: "it holds" in status(process).verification.message, "it says what there is")
            verification = status(process).verification
            assert verification.reason == "ModelNotFound"
            assert f"{served.registry.host}/library/tiny:latest" in verification.message
            assert process.ask().error["code"] == "model_not_found"

    def test_a_prompt_that_ollama_cuts_is_counted(self, tmp_path: Path, served: Served) -> None:
        with served.runtime(tmp_path, context_length=16) as process:
            ready(process)
            before = process.metric("chatbot_runtime_prompts_cut_total")
            assert process.ask("word " * 200).status == 200
            assert process.metric("chatbot_runtime_prompts_cut_total") == before + 1


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Served]:
    """Where a fault is asked for that only the stand-in can be told to have."""
    (tmp_path / "ollama").mkdir()
    slow = model_bytes("one two three four five six seven eight nine ten", tokens_per_second=20, load_seconds=0.5)
    with Registry({"tiny": slow}) as registry, Ollama(tmp_path / "ollama") as ollama:
        pull(ollama, f"{registry.host}/library/tiny:latest")
        yield Served(ollama, registry)


def test_an_answer_whose_runner_dies_ends_as_an_error_and_not_as_an_answer(tmp_path: Path, stand_in: Served) -> None:
    with stand_in.runtime(tmp_path, models="tiny") as process:
        ready(process)
        with process.send("hello") as client:
            read_until(client, b"one")
            stand_in.ollama.tell("/test/kill-runner")
            rest = read_all(client)
        assert b'data: {"error":' in rest
        assert b"[DONE]" not in rest
        assert process.ask().status == 200  # the next question starts the runner again


def test_a_restarted_engine_loads_again_and_meanwhile_a_ready_pod_stays_ready(tmp_path: Path, stand_in: Served) -> None:
    with stand_in.runtime(tmp_path, models="tiny") as process:
        ready(process)
        stand_in.ollama.end(signal.SIGKILL)
        assert process.ask().error["code"] == "engine_down"
        assert process.internal("/readyz").status == 200
        stand_in.ollama.start()
        assert process.ask().status == 200


def test_a_proven_pod_whose_engine_has_ended_takes_requests_by_its_fallback(tmp_path: Path, stand_in: Served) -> None:
    proven = {"verifiedRevisions": ["r1"], "fallback": {"to": "mock"}}
    stand_in.ollama.end(signal.SIGKILL)
    with stand_in.runtime(tmp_path, models="missing", settings=proven, revision="r1", load_seconds=600) as process:
        until(lambda: status(process).verification.reason == "EngineDown", "it has asked")
        assert process.internal("/readyz").status == 503  # it may still be starting
        stand_in.ollama.start()
        until(lambda: status(process).verification.reason == "ModelNotFound", "it was seen up")
        assert process.internal("/readyz").status == 503  # and is not given up for that
        stand_in.ollama.end(signal.SIGKILL)
        ready(process)
        reply = process.ask()
        assert (reply.json["model"], reply.header("x-chatbot-fallback")) == ("mock", "EngineDown")


def test_an_engine_that_has_had_its_time_is_given_up(tmp_path: Path) -> None:
    proven = {"verifiedRevisions": ["r1"], "fallback": {"to": "mock"}}
    nobody = f"http://127.0.0.1:{free_port()}/v1"
    with local(tmp_path, nobody, "ollama", "tiny", settings=proven, revision="r1", load_seconds=1.5) as (process, _):
        until(lambda: status(process).verification.reason == "EngineDown", "it has asked")
        assert process.internal("/readyz").status == 503
        ready(process)


def test_a_new_revision_is_never_ready_by_its_fallback(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/v1"
    stands_in = {"fallback": {"to": "mock"}}
    with local(tmp_path, nobody, "ollama", "tiny", settings=stands_in, load_seconds=0.1) as (process, _):
        until(lambda: status(process).verification.reason == "EngineDown", "it has asked")
        assert process.ask().json["model"] == "mock"
        assert process.internal("/readyz").status == 503


class TestNoEngine:
    """The runtime alone, while the weights are on their way."""

    def test_it_is_ready_and_answers_503_where_nobody_stands_in(self, tmp_path: Path) -> None:
        with local(tmp_path, "http://127.0.0.1:1/v1", "none", "tiny") as (process, _):
            ready(process)
            assert process.ask().error["code"] == "model_not_ready"
            assert status(process).fallback == "ModelNotReady"
            told = json.loads(process.request("GET", "/v1/status").body)
            assert told == {"chatbot": "demo", "phase": "local", "fallback": "ModelNotReady", "download": None}

    def test_the_demo_stands_in_where_it_may(self, tmp_path: Path) -> None:
        stands_in = {"fallback": {"to": "mock"}}
        with local(tmp_path, "http://127.0.0.1:1/v1", "none", "tiny", settings=stands_in) as (process, tunable):
            reply = process.ask()
            assert (reply.json["model"], reply.header("x-chatbot-fallback")) == ("mock", "ModelNotReady")
            assert process.ask(headers={"x-chatbot-fallback": "none"}).error["code"] == "model_not_ready"
            tunable.use(process)
            assert process.ask().status == 503

    def test_the_progress_of_the_download_is_shown_without_a_key(self, tmp_path: Path) -> None:
        said = DownloadStatus(
            chatbot="demo",
            list_hash="x",
            state="downloading",
            percent=42.5,
            completed_bytes=425,
            total_bytes=1000,
            bytes_per_second=100,
            seconds_left=5.75,
        )
        with Downloader(said) as downloader:
            private = {"download": downloader.address, "access": {"mode": "APIKey"}}
            with local(tmp_path, "http://127.0.0.1:1/v1", "none", "tiny", settings=private) as (process, tunable):
                shown = json.loads(process.request("GET", "/v1/status").body)["download"]
                assert shown == {
                    "percent": 42.5,
                    "completedBytes": 425,
                    "totalBytes": 1000,
                    "bytesPerSecond": 100,
                    "secondsLeft": 5.75,
                }
                for _ in range(20):
                    process.request("GET", "/v1/status")
                assert downloader.asked <= 2  # however many people look
                tunable.use(process)
                assert json.loads(process.request("GET", "/v1/status").body)["download"] is None

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"percent": 400}', b"x" * 100_000])
    def test_a_downloader_that_talks_nonsense_is_not_quoted(self, tmp_path: Path, body: bytes) -> None:
        with Downloader(body) as downloader:
            told = {"download": downloader.address}
            with local(tmp_path, "http://127.0.0.1:1/v1", "none", "tiny", settings=told) as (process, _):
                reply = process.request("GET", "/v1/status")
                assert (reply.status, json.loads(reply.body)["download"]) == (200, None)


class Downloader:
    """A downloader's /status, which says `said`; a context manager."""

    def __init__(self, said: DownloadStatus | bytes) -> None:
        self.body = said if isinstance(said, bytes) else said.model_dump_json(by_alias=True).encode()
        self.asked = 0

    def __enter__(self) -> Self:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked += self.path == "/status"
                self.send_response(200)
                self.send_header("Content-Length", str(len(owner.body)))
                self.end_headers()
                self.wfile.write(owner.body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
