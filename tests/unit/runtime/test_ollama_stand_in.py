"""The stand-in for Ollama answers as the real one was recorded to, and falls silent, cuts and ends as that does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.asking_ollama import (
    ASK,
    CHAT,
    HELLO,
    JSON,
    JSON8,
    LINES,
    TEXT,
    ask,
    begun,
    chat,
    closing,
    digests,
    plain,
    pulled,
    stand_in_registry,
    started,
)
from tests.support.ollama_process import ROOT, STAND_IN, Ollama
from tests.support.ollama_registry import Faults, Registry, model_bytes
from tests.support.runtime_process import Reply, read_all, until

NOT_FOUND = '{"error":{"message":"model \'%s\' not found","type":"not_found_error","param":null,"code":null}}'
INVALID = '{"error":{"message":"%s","type":"invalid_request_error","param":null,"code":null}}'
ANSWER = (
    '{"id":"chatcmpl-N","object":"chat.completion","created":N,"model":"tiny","system_fingerprint":"fp_ollama",'
    '"choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"finish_reason":"%s"}],'
    '"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
)
CHUNK = (
    'data: {"id":"chatcmpl-N","object":"chat.completion.chunk","created":N,"model":"%s",'
    '"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":%s,"finish_reason":%s}]}\n\n'
)
USAGE = (
    'data: {"id":"chatcmpl-N","object":"chat.completion.chunk","created":N,"model":"tiny",'
    '"system_fingerprint":"fp_ollama","choices":[],"usage":{"prompt_tokens":21,"completion_tokens":7,"total_tokens":28}}\n\n'
)
DONE = "data: [DONE]\n\n"
DETAILS = (
    '"details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"35K",'
    '"quantization_level":"F32"'
)
TOLD = (
    '"total_duration":N,"load_duration":N,"prompt_eval_count":21,"prompt_eval_duration":N,"eval_count":7,'
    '"eval_duration":N}'
)
BUSY = (
    '{"error":{"message":"server busy, please try again.  maximum pending requests exceeded","type":"api_error",'
    '"param":null,"code":null}}'
)
DIED = "an error was encountered while running the model: unexpected EOF"


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with stand_in_registry() as registry:
        yield registry


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Iterator[Ollama]:
    with closing(started(tmp_path_factory.mktemp("ollama"), registry)) as ollama:
        yield ollama


@pytest.fixture
def ollama(shared: Ollama) -> Ollama:
    """With nothing in memory."""
    shared.tell("/test/kill-runner")
    return shared


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind", "said"),
    [
        ("GET", "/", None, 200, "text/plain; charset=utf-8", "Ollama is running"),
        ("HEAD", "/", None, 200, "text/plain; charset=utf-8", ""),
        ("GET", "/api/version", None, 200, JSON8, '{"version":"0.32.15"}'),
        ("GET", "/api/ps", None, 200, JSON8, '{"models":[]}'),
        ("GET", "/nothing", None, 404, TEXT, "404 page not found"),
        ("GET", "/health", None, 404, TEXT, "404 page not found"),
        ("GET", "/api/pull", None, 405, TEXT, "405 method not allowed"),
        ("GET", CHAT, None, 405, TEXT, "405 method not allowed"),
        ("POST", CHAT, {"model": "no", "messages": ASK}, 404, JSON, NOT_FOUND % "no"),
        ("POST", CHAT, {"model": "no", "messages": ASK, "stream": True}, 404, JSON, NOT_FOUND % "no"),
        ("POST", "/api/chat", {"model": "no", "messages": ASK}, 404, JSON8, '{"error":"model \'no\' not found"}'),
        ("POST", "/api/generate", {"model": "no"}, 404, JSON8, '{"error":"model \'no\' not found"}'),
        ("POST", "/api/show", {"model": "no"}, 404, JSON8, '{"error":"model \'no:latest\' not found"}'),
        ("DELETE", "/api/delete", {"model": "no"}, 404, JSON8, '{"error":"model \'no\' not found"}'),
        ("DELETE", "/api/delete", {}, 400, JSON8, '{"error":"model is required"}'),
        ("DELETE", "/api/delete", None, 400, JSON8, '{"error":"missing request body"}'),
        ("POST", "/api/pull", None, 400, JSON8, '{"error":"missing request body"}'),
        ("POST", "/api/pull", "{nope", 400, JSON8,
         '{"error":"invalid character \'n\' looking for beginning of object key string"}'),
        ("POST", "/api/pull", {"model": ""}, 400, JSON8, '{"error":"invalid model name"}'),
        ("POST", "/api/pull", {"model": "a b/../c"}, 400, JSON8, '{"error":"invalid model name"}'),
        ("POST", CHAT, {"model": "tiny", "messages": ASK}, 200, JSON, ANSWER % (HELLO, "stop", 21, 7, 28)),
        ("POST", CHAT, {"model": "tiny", "messages": ASK, "max_tokens": 2}, 200, JSON,
         ANSWER % (" Hello from", "length", 21, 2, 23)),
        ("POST", CHAT, {"model": "tiny", "messages": ASK, "max_completion_tokens": 2}, 200, JSON,
         ANSWER % (HELLO, "stop", 21, 7, 28)),
        ("POST", CHAT, {"model": "tiny", "messages": ASK, "max_tokens": -1}, 200, JSON,
         ANSWER % (HELLO, "stop", 21, 7, 28)),
        ("POST", CHAT, {"model": "tiny", "messages": ASK, "stop": ["tiny"]}, 200, JSON,
         ANSWER % (" Hello from a ", "stop", 21, 4, 25)),
        ("POST", CHAT, {"model": "tiny", "messages": ASK, "stop": " a"}, 200, JSON,
         ANSWER % (" Hello from", "stop", 21, 3, 24)),
        ("POST", CHAT, {"model": "tiny", "messages": [{"role": "system", "content": "Be brief."}, *ASK]}, 200, JSON,
         ANSWER % (HELLO, "stop", 39, 7, 46)),
        ("POST", CHAT, {"model": "tiny", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
         200, JSON, ANSWER % (HELLO, "stop", 21, 7, 28)),
        ("POST", CHAT, {"model": "tiny", "messages": []}, 400, JSON8, INVALID % "[] is too short - 'messages'"),
        ("POST", CHAT, {"model": "tiny"}, 400, JSON8, INVALID % "[] is too short - 'messages'"),
        ("POST", CHAT, {"model": "tiny", "messages": ASK, "tools": [{"type": "function"}]}, 400, JSON,
         INVALID % "registry.ollama.ai/library/tiny:latest does not support tools"),
        ("POST", CHAT, {"model": "tiny", "messages": ASK, "max_tokens": "2"}, 400, JSON8, INVALID %
         "json: cannot unmarshal string into Go struct field ChatCompletionRequest.max_tokens of type int"),
        ("POST", CHAT, "{nope", 400, JSON8,
         INVALID % "invalid character 'n' looking for beginning of object key string"),
        ("POST", CHAT, "", 400, JSON8, INVALID % "EOF"),
        ("POST", CHAT, {"messages": ASK}, 400, JSON, INVALID % "model is required"),
        ("POST", "/api/chat", {"model": "tiny", "messages": ASK, "stream": False}, 200, JSON8,
         '{"model":"tiny","created_at":"T","message":{"role":"assistant","content":"' + HELLO
         + '"},"done":true,"done_reason":"stop",' + TOLD),
        ("POST", "/api/chat", {"model": "tiny", "messages": [], "keep_alive": 0}, 200, JSON8,
         '{"model":"tiny","created_at":"T","message":{"role":"assistant","content":""},"done":true,'
         '"done_reason":"unload"}'),
        ("POST", "/api/chat", {"model": "tiny", "messages": [], "keep_alive": -1}, 200, JSON8,
         '{"model":"tiny","created_at":"T","message":{"role":"assistant","content":""},"done":true,'
         '"done_reason":"load"}'),
        ("POST", "/api/generate", {"model": "tiny", "keep_alive": "10m", "stream": False}, 200, JSON8,
         '{"model":"tiny","created_at":"T","response":"","done":true,"done_reason":"load"}'),
        ("POST", "/api/chat", {"model": "tiny", "messages": ASK, "keep_alive": "soon"}, 400, JSON8,
         '{"error":"time: invalid duration \\"soon\\""}'),
    ],
)  # fmt: skip
def test_one_request_is_answered_as_recorded(
    ollama: Ollama, method: str, path: str, body: object, status: int, kind: str, said: str
) -> None:
    reply = ask(ollama, method, path, body)
    assert (reply.status, reply.header("content-type"), plain(reply.body)) == (status, kind, said)
    assert reply.header("server") is None
    assert reply.header("allow") == ("POST" if status == 405 else None)


def test_an_empty_server_lists_nothing(tmp_path: Path) -> None:
    with Ollama(tmp_path) as empty:
        assert ask(empty, "GET", "/api/tags").body == b'{"models":[]}'
        reply = ask(empty, "GET", "/v1/models")
        assert (reply.header("content-type"), reply.body) == (JSON, b'{"object":"list","data":null}')


def test_models_are_listed_by_the_names_that_they_are_called(ollama: Ollama, registry: Registry) -> None:
    full = f"{registry.host}/library/tiny:latest"
    more = '"context_length":8192,"embedding_length":32},"capabilities":["completion"]}'
    tags = plain(ask(ollama, "GET", "/api/tags").body)
    for name in ("tiny:latest", full):
        entry = f'{{"name":"{name}","model":"{name}","modified_at":"T","size":N,"digest":"D",{DETAILS},{more}'
        assert entry in tags
        models = plain(ask(ollama, "GET", "/v1/models").body)
        assert f'{{"id":"{name}","object":"model","created":N,"owned_by":"library"}}' in models
        assert chat(ollama, name).json["model"] == name
    model = next(entry for entry in ask(ollama, "GET", "/api/tags").json["models"] if entry["name"] == full)
    sizes = [len(registry.blobs[digest]) for digest in digests(registry, "tiny")]
    assert model["size"] == sum(sizes)
    assert {"details", "model_info", "capabilities", "modified_at"} <= set(
        ask(ollama, "POST", "/api/show", {"model": full}).json
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, [*((word, "null") for word in HELLO.split()), ("", '"stop"')]),
        ({"max_tokens": 2}, [("Hello", "null"), ("from", "null"), ("", '"length"')]),
        ({"stream_options": {"include_usage": True}}, [*((word, "null") for word in HELLO.split()), ("", '"stop"')]),
    ],
)
def test_a_stream_has_the_recorded_events(ollama: Ollama, more: dict[str, Any], said: list[tuple[str, str]]) -> None:
    reply = chat(ollama, stream=True, **more)
    assert (reply.status, reply.header("content-type")) == (200, "text/event-stream")
    assert reply.header("transfer-encoding") == "chunked"
    deltas = [f'{{"content":" {word}"}}' if word else "{}" for word, _ in said]
    deltas[0] = deltas[0].replace("{", '{"role":"assistant",')
    events = "".join(CHUNK % ("tiny", delta, finish) for delta, (_, finish) in zip(deltas, said, strict=True))
    assert plain(reply.body) == events + (USAGE if "stream_options" in more else "") + DONE


def test_ollamas_own_api_streams_lines(ollama: Ollama) -> None:
    reply = ask(ollama, "POST", "/api/chat", {"model": "tiny", "messages": ASK})
    assert reply.header("content-type") == LINES
    line = '{"model":"tiny","created_at":"T","message":{"role":"assistant","content":"%s"},"done":%s'
    end = line % ("", "true") + ',"done_reason":"stop",' + TOLD
    expected = [*(line % (f" {word}", "false") + "}" for word in HELLO.split()), end]
    assert plain(reply.body).splitlines() == expected
    reply = ask(ollama, "POST", "/api/generate", {"model": "tiny", "prompt": "hi", "options": {"num_predict": 2}})
    assert [json.loads(line)["response"] for line in reply.body.splitlines()] == [" Hello", " from", ""]
    assert json.loads(reply.body.splitlines()[-1])["done_reason"] == "length"


def test_a_prompt_that_is_too_long_is_cut_without_a_word(ollama: Ollama) -> None:
    reply = ask(ollama, "POST", CHAT, {"model": "tiny", "messages": [{"role": "user", "content": "word " * 3000}]})
    assert reply.status == 200
    assert reply.json["usage"]["prompt_tokens"] < 2048


def test_loading_is_silence_and_memory_is_kept_as_long_as_was_said(ollama: Ollama) -> None:
    def loaded() -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = ask(ollama, "GET", "/api/ps").json["models"]
        return models

    def left() -> float:
        return (datetime.fromisoformat(loaded()[0]["expires_at"]) - datetime.now(UTC)).total_seconds()

    with begun(ollama, CHAT, model="slow", messages=ASK, stream=True) as connection:
        connection.settimeout(0.15)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert loaded() == []
        connection.settimeout(20)
        assert connection.recv(1) == b"H"
        text = plain(ask(ollama, "GET", "/api/ps").body)
        said = (
            f'{{"models":[{{"name":"slow:latest","model":"slow:latest","size":N,"digest":"D",{DETAILS}}},"expires_at":'
        )
        assert text.startswith(said)
        assert text.endswith('Z","size_vram":0,"context_length":2048}]}')
    ask(ollama, "POST", "/api/chat", {"model": "slow", "messages": [], "keep_alive": "10m"})
    assert 590 < left() < 601
    chat(ollama, "slow", keep_alive=0, max_tokens=1)  # ignored there
    assert 590 < left() < 601
    ask(ollama, "POST", "/api/generate", {"model": "slow", "keep_alive": -1})
    assert left() > 290 * 365 * 86_400
    ask(ollama, "POST", "/api/generate", {"model": "slow", "keep_alive": 0})
    assert loaded() == []


def test_a_model_answers_one_at_a_time_unless_told_otherwise(
    ollama: Ollama, registry: Registry, tmp_path: Path
) -> None:
    def both(server: Ollama) -> float:
        chat(server, "slow", max_tokens=1)
        began = time.monotonic()
        with ThreadPoolExecutor() as pool:
            replies = list(pool.map(lambda _: chat(server, "slow", max_tokens=40), range(2)))
        assert [reply.status for reply in replies] == [200, 200]
        return time.monotonic() - began

    assert both(ollama) > 0.8
    with closing(started(tmp_path, registry, OLLAMA_NUM_PARALLEL="2")) as wide:
        assert both(wide) < 0.8


def test_who_finds_the_queue_full_is_sent_away(registry: Registry, tmp_path: Path) -> None:
    with closing(started(tmp_path, registry, OLLAMA_MAX_QUEUE="2")) as ollama, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: chat(ollama, "slow", max_tokens=5), range(8)))
    refused = [reply for reply in replies if reply.status == 503]
    assert [reply.status for reply in replies].count(200) == 3
    assert len(refused) == 5
    assert {(reply.header("content-type"), reply.body.decode()) for reply in refused} == {(JSON, BUSY)}
    assert refused[0].header("retry-after") is None


def test_a_client_that_leaves_frees_its_place(ollama: Ollama) -> None:
    chat(ollama, "slow", max_tokens=1)
    for stream in (True, False):
        with begun(ollama, CHAT, model="slow", messages=ASK, stream=stream) as connection:
            if stream:
                assert connection.recv(1) == b"H"
        before = time.monotonic()
        assert chat(ollama, "slow", max_tokens=1).status == 200
        assert time.monotonic() - before < 2, "400 words at 100 a second would have been waited for"


def test_a_runner_that_dies_ends_its_streams_as_recorded(ollama: Ollama) -> None:
    def killed(path: str, **body: Any) -> str:
        chat(ollama, "slow", max_tokens=1)
        with begun(ollama, path, model="slow", messages=ASK, **body) as connection:
            received = connection.recv(1)
            ollama.tell("/test/kill-runner")
            return plain(received + read_all(connection))

    def killed_whole() -> Reply:
        chat(ollama, "slow", max_tokens=1)
        with ThreadPoolExecutor() as pool:
            reply = pool.submit(chat, ollama, "slow")

            def has_died() -> bool:
                ollama.tell("/test/kill-runner")
                return reply.done()

            until(has_died, "it has died while it was asked")
            return reply.result()

    stream = killed(CHAT, stream=True)
    end = CHUNK % ("", '{"content":""}', "null")
    assert stream.endswith(f"{end}\r\n0\r\n\r\n")
    assert "[DONE]" not in stream
    assert '"finish_reason":"' not in stream
    lines = killed("/api/chat")
    assert f'{{"error":"{DIED}"}}' in lines
    assert lines.endswith("0\r\n\r\n")
    whole = killed_whole()
    assert (whole.status, whole.header("content-type")) == (500, JSON)
    assert whole.body.decode() == f'{{"error":{{"message":"{DIED}","type":"api_error","param":null,"code":null}}}}'
    assert chat(ollama, "slow", max_tokens=1).status == 200


@pytest.mark.parametrize("damage", ["bytes", "gone", "cut"])
def test_a_damaged_model_does_not_support_chat(tmp_path: Path, registry: Registry, damage: str) -> None:
    with Ollama(tmp_path) as ollama:
        pulled(ollama, registry, "tiny")
        path = ollama.models / "blobs" / digests(registry, "tiny")[0].replace(":", "-")
        content = path.read_bytes()
        path.unlink()
        if damage != "gone":
            path.write_bytes(bytes(len(content)) if damage == "bytes" else content[:-5])
        name = f"{registry.host}/library/tiny:latest"
        for stream in (False, True):
            reply = chat(ollama, name, stream=stream)
            assert (reply.status, reply.header("content-type")) == (400, JSON)
            assert reply.body.decode() == INVALID % f'\\"{name}\\" does not support chat'
        assert len(ask(ollama, "GET", "/api/tags").json["models"]) == 1
        assert (ask(ollama, "POST", "/api/show", {"model": name}).status == 404) == (damage == "gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cuts_everything_and_keeps_what_was_pulled(
    tmp_path: Path, registry: Registry, number: signal.Signals
) -> None:
    with closing(started(tmp_path, registry)) as ollama:
        registry.add("big", model_bytes("big", 3_000_000))
        registry.faults = Faults(rate=2_000_000)
        try:
            name = f"{registry.host}/library/big:latest"
            streams = [
                begun(ollama, CHAT, model="slow", messages=ASK, stream=True),
                begun(ollama, "/api/pull", model=name, insecure=True),
            ]
            received = [streams[0].recv(1), b""]
            while b"completed" not in received[1]:
                received[1] += streams[1].recv(65536)
            before = time.monotonic()
            assert ollama.end(number) == 0
            assert time.monotonic() - before < 1
        finally:
            registry.faults = Faults()
        for stream, text in zip(streams, received, strict=True):
            assert not (text + read_all(stream)).endswith(b"0\r\n\r\n")
            stream.close()
        (part,) = (ollama.models / "blobs").glob("*-partial-0")
        assert json.loads(part.read_text())["Completed"] > 0


def test_without_a_home_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home, said in (
        ("", "Error: $HOME is not defined"),
        (str(tmp_path / "file"), "Error: could not create directory mkdir "),
    ):
        environ = {"HOME": home, "OLLAMA_MODELS": str(tmp_path / "models"), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [*STAND_IN, "serve"], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(said)


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:11434", 200), ("ollama.ns.svc.cluster.local", 200), ("ollama.internal", 200), ("10.1.2.3:11434", 200),
     ("ollama", 403), ("ollama.ns.svc", 403), ("models.example.com", 403)],
)  # fmt: skip
def test_a_server_on_loopback_looks_at_the_host_header(ollama: Ollama, host: str, status: int) -> None:
    reply = ask(ollama, "GET", "/api/version", Host=host)
    assert reply.status == status
    assert (reply.body == b"") == (status == 403)


def test_both_stand_ins_run_by_themselves_from_one_folder(tmp_path: Path) -> None:
    for file in (ROOT / "tests" / "support").glob("ollama_*.py"):
        shutil.copy(file, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host = f"127.0.0.1:{port}"
    command = [
        sys.executable,
        str(tmp_path / "ollama_registry.py"),
        "--port",
        str(port),
        "team/a=Hello: you.",
        "b:1=Hi:900",
    ]
    with (
        subprocess.Popen(command, cwd=tmp_path) as process,
        Ollama(tmp_path, (sys.executable, str(tmp_path / "ollama_server.py"))) as ollama,
    ):
        try:
            until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the registry listens")
            for name, words in (("team/a:latest", "Hello: you."), ("library/b:1", "Hi")):
                body = {"model": f"{host}/{name}", "insecure": True}
                assert ask(ollama, "POST", "/api/pull", body).body.endswith(b'{"status":"success"}\n')
                assert chat(ollama, f"{host}/{name}").json["choices"][0]["message"]["content"] == words
            with urllib.request.urlopen(f"http://{host}/ctl?manifests=503", timeout=5) as told:
                assert json.load(told)["manifests"] == 503
            assert b"503" in ask(ollama, "POST", "/api/pull", body).body
            with urllib.request.urlopen(f"http://{host}/ctl/requests", timeout=5) as told:
                assert json.load(told)[0]["path"] == "/v2/team/a/manifests/latest"
        finally:
            process.terminate()
