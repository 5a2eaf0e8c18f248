"""Our engine starts, answers and ends as llama.cpp's llama-server was seen to, and a tiny model says its sentence."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xllamacpp  # type: ignore[import-untyped]

from devcluster.images.description import CHECKOUT
from devcluster.llama_server import __main__ as program
from tests.support import tiny_gguf
from tests.support.engines import COMMAND as ENGINE
from tests.support.engines import LlamaServer as Engine
from tests.support.runtime_process import CHAT, events, read_until, until
from tests.web.nginx_process import free_port

SENTENCE = "Hello from a tiny test model."
ALIAS = "hf://owner/tiny/tiny.gguf"
LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says SENTENCE."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    tiny_gguf.write(path, SENTENCE)
    return path


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[Engine]:
    """An engine that serves it, its model known as ALIAS."""
    with Engine(model, "--alias", ALIAS, "--metrics") as running:
        yield running


def says(engine: Engine, question: str = "Who are you?", **fields: Any) -> str:
    """The whole answer."""
    text: str = engine.ask(question, **fields).json["choices"][0]["message"]["content"]
    return text


def end_of(*flags: str) -> tuple[int, str]:
    """The exit code of an engine that does not start, and what it said."""
    command = (*ENGINE, *flags)
    result = subprocess.run(command, cwd=CHECKOUT, env={}, capture_output=True, text=True, timeout=10, check=False)
    return result.returncode, result.stderr


def test_a_whole_answer_is_the_sentence_under_the_alias(engine: Engine) -> None:
    answer = engine.ask("Who are you?").json
    assert answer["model"] == ALIAS
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": SENTENCE}
    assert choice["finish_reason"] == "stop"


def test_a_stream_is_the_sentence_in_pieces_and_ends_as_llama_servers_does(engine: Engine) -> None:
    *chunks, last = events(engine.ask("Who are you?", stream=True).body)
    assert last == "[DONE]"
    assert {chunk["model"] for chunk in chunks} == {ALIAS}
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant", "content": None}
    pieces = [choice["delta"]["content"] for choice in choices[1:-1]]
    assert pieces == ["Hello", " from", " a tiny", " test", " model."]
    assert [choice["finish_reason"] for choice in choices] == [None] * len(choices[:-1]) + ["stop"]


@pytest.mark.parametrize("question", ["", "Hello", "Hello from a tiny", SENTENCE, "übermäßig 語 🙂"])
def test_it_says_its_sentence_whatever_it_is_asked_and_however_hot(engine: Engine, question: str) -> None:
    assert says(engine, question, temperature=5, top_k=0, top_p=1, min_p=0) == SENTENCE


@pytest.mark.parametrize("text", ["a", "This is a", "Hello", "from"])
def test_a_text_that_ends_like_a_part_of_the_sentence_gets_the_whole_of_it(engine: Engine, text: str) -> None:
    answer = engine.request("POST", "/v1/completions", {"prompt": text})
    assert answer.json["choices"][0]["text"] == SENTENCE


def test_health_models_and_metrics_answer_as_llama_servers(engine: Engine) -> None:
    assert engine.request("GET", "/health").json == {"status": "ok"}
    (listed,) = engine.request("GET", "/v1/models").json["data"]
    assert (listed["id"], listed["owned_by"], listed["meta"]["n_ctx"]) == (ALIAS, "llamacpp", 512)
    assert engine.metric("llamacpp:prompt_tokens_total") > 0


def test_there_is_no_page_and_no_metrics_unless_wanted(model: Path) -> None:
    with Engine(model) as plain:
        assert [plain.request("GET", path).status for path in ("/", "/metrics")] == [404, 501]


def test_another_model_says_another_sentence_and_a_repeated_word_is_no_loop(tmp_path: Path) -> None:
    sentence = "It is what it is, and it is what it is: größer."
    tiny_gguf.write(tmp_path / "other.gguf", sentence)
    with Engine(tmp_path / "other.gguf") as other:
        assert says(other) == sentence


def test_a_padded_model_is_larger_and_says_the_same(model: Path, tmp_path: Path) -> None:
    padded = tmp_path / "padded.gguf"
    tiny_gguf.main([str(padded), "--sentence", SENTENCE, "--padding-bytes", "1000000"])
    assert 1_000_000 <= padded.stat().st_size - model.stat().st_size < 1_000_200
    with Engine(padded) as engine:
        assert says(engine) == SENTENCE


def test_a_model_is_the_same_bytes_each_time_it_is_written(model: Path, tmp_path: Path) -> None:
    tiny_gguf.write(tmp_path / "again.gguf", SENTENCE)
    assert (tmp_path / "again.gguf").read_bytes() == model.read_bytes()


def test_a_model_with_nothing_to_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="something to say"):
        tiny_gguf.write(tmp_path / "mute.gguf", " ")


@pytest.mark.parametrize("damage", ["missing", "damaged", "cut", "cut before the weights"])
def test_a_file_that_is_no_whole_model_ends_it_with_status_1_and_its_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "broken.gguf"
    if damage == "damaged":
        path.write_bytes(b"<html>this is a page of a proxy</html>")
    elif damage != "missing":
        tiny_gguf.write(path, SENTENCE, padding_bytes=1000)
        os.truncate(path, path.stat().st_size - (100 if damage == "cut" else 100_000))
    port = free_port()
    status, said = end_of("--model", str(path), "--port", str(port))
    assert status == 1
    assert f"error: {path} cannot be served at 127.0.0.1:{port}; the log says why\n" in said


def test_a_port_that_is_taken_ends_it_with_status_1(engine: Engine, model: Path) -> None:
    status, said = end_of("--model", str(model), "--port", str(engine.port))
    assert status == 1
    assert f"error: {model} cannot be served at 127.0.0.1:{engine.port}; the log says why\n" in said


@pytest.mark.parametrize("flag", ["--nonsense", "--metric"])
def test_an_unknown_or_shortened_flag_is_refused_by_its_name(flag: str) -> None:
    status, said = end_of("--model", "none.gguf", flag)
    assert status == 2
    assert said.endswith(f"llama-server: error: unrecognized arguments: {flag}\n")


def test_idle_it_ends_with_status_0_at_the_first_sigterm(model: Path) -> None:
    with Engine(model) as engine:
        engine.signal(signal.SIGTERM)
        assert engine.wait() == 0


def test_with_a_request_under_way_it_waits_for_the_client_and_a_second_sigterm_ends_it(model: Path) -> None:
    with Engine(model) as engine, engine.connect() as client:
        client.sendall(f"POST {CHAT} HTTP/1.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n".encode())
        read_until(client, b"100 Continue\r\n\r\n")
        engine.signal(signal.SIGTERM)
        until(lambda: "cleaning up" in engine.log.read_text(), "it has begun to stop")
        with pytest.raises(subprocess.TimeoutExpired):
            engine.wait(0.2)
        engine.signal(signal.SIGTERM)
        assert engine.wait() == signal.SIGTERM


def test_while_it_loads_everything_answers_503_and_a_sigterm_ends_it(tmp_path: Path) -> None:
    endless = tmp_path / "pipe.gguf"
    os.mkfifo(endless)
    with Engine(endless, loads=True) as engine:
        for method, path in (("GET", "/health"), ("GET", "/v1/models"), ("POST", CHAT)):
            assert engine.request(method, path, {} if method == "POST" else None).json == LOADING
        engine.signal(signal.SIGTERM)
        assert engine.wait() == signal.SIGTERM


def test_short_and_long_flags_mean_the_same() -> None:
    short = "-m f -a n -c 1 -np 2 -t 3 -tb 4 -ngl 5 --no-ui"
    long = "--model f --alias n --ctx-size 1 --parallel 2 --threads 3 --threads-batch 4 --n-gpu-layers 5 --no-webui"
    parser = program.parser()
    assert parser.parse_args(short.split()) == parser.parse_args(long.split())
    assert parser.parse_args(["-m", "f", "--gpu-layers", "all"]).gpu_layers == -2


def given(flags: str) -> Any:
    """What the engine is given for these flags."""
    return program.parameters(program.parser().parse_args(["--model", "f", *flags.split()]))


def test_flags_reach_the_engine() -> None:
    wanted = given("--host 0.0.0.0 --port 1 --ctx-size 2 --parallel 3 --threads 4 --gpu-layers 5 --alias a,b --offline")
    assert (wanted.hostnames, wanted.port, wanted.n_ctx, wanted.n_parallel) == (["0.0.0.0"], 1, 2, 3)
    assert (wanted.cpuparams.n_threads, wanted.cpuparams_batch.n_threads, wanted.n_gpu_layers) == (4, 4, 5)
    assert (wanted.model.path, wanted.model_alias, wanted.offline) == ("f", {"a", "b"}, True)
    assert (wanted.ui, wanted.use_jinja, wanted.endpoint_metrics) == (True, True, False)
    other = given("--threads 4 --threads-batch 6 --no-jinja --no-ui --metrics")
    assert (other.cpuparams_batch.n_threads, other.use_jinja, other.ui, other.endpoint_metrics) == (
        6,
        False,
        False,
        True,
    )


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        ("", "AUTO"),
        ("--no-mmap", "NONE"),
        ("--mmap", "MMAP"),
        ("--mlock", "MMAP_MLOCK"),
        ("--no-mmap --mlock", "MLOCK"),
    ],
)
def test_how_the_file_gets_into_memory_follows_two_flags(flags: str, mode: str) -> None:
    assert given(flags).load_mode == xllamacpp.llama_load_mode[f"LLAMA_LOAD_MODE_{mode}"]
