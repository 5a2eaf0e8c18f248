"""The process of a download: killed, stopped, refused, doubled, resumed; what it says, and its settings."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from chatbot_runtime.config import ConfigError
from chatbot_runtime.downloads.config import DownloadConfig
from chatbot_runtime.references import stored_path
from tests.support.hub import GOOD, Hub
from tests.support.runtime_process import until

HF = "hf://org/tiny/tiny.gguf"
KILLS = 50 if os.environ.get("CHATBOT_STRESS") == "full" else 12


class Download:
    """`python -m chatbot_runtime download` before a Hub; a context manager that leaves nothing running."""

    def __init__(self, folder: Path, hub: Hub, **settings: object) -> None:
        self.models = folder / "models"
        self.models.mkdir(exist_ok=True)
        self.last_words = folder / "last-words"
        self.last_words.unlink(missing_ok=True)
        usual: dict[str, object] = {
            "models": HF, "list_hash": "a1", "models_dir": self.models, "hub_url": hub.url, "host": "127.0.0.1",
            "internal_port": 0, "termination_file": self.last_words, "log_format": "json", "progress_seconds": 0.1,
            "poll_seconds": 0.02, "stall_seconds": 2, "connect_seconds": 2, "retries": 0,
        }  # fmt: skip
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CHATBOT_")}
        environ |= {f"CHATBOT_{name.upper()}": str(value) for name, value in (usual | settings).items()}
        command = [sys.executable, "-m", "chatbot_runtime", "download"]
        self._process = subprocess.Popen(
            command, env=environ | {"NO_PROXY": "*"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(iter(self._process.stdout.readline, ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reader.join(5)

    @property
    def port(self) -> int:
        """The internal port, as soon as it is known."""
        lines = until(lambda: [line for line in tuple(self.lines) if "internal_port" in line], "the port is told")
        port: int = json.loads(lines[0])["internal_port"]
        return port

    def get(self, path: str) -> str:
        """One GET on the internal port."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.get("/status"))
        return status

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = 20) -> int:
        """The exit code."""
        code = self._process.wait(seconds)
        self._reader.join(5)
        return code

    def result(self) -> dict[str, Any]:
        """The last words."""
        result: dict[str, Any] = json.loads(self.last_words.read_text())
        return result

    @property
    def marker(self) -> Path:
        return self.models / ".complete/a1.json"

    @property
    def file(self) -> Path:
        return self.models / stored_path(HF)


MODEL = b"GGUF" + random.Random(1).randbytes(600_000)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.put("org/tiny", {"tiny.gguf": MODEL})
        yield hub


def whole(folder: Path) -> dict[str, bytes]:
    """All files of a volume but lock and markers."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in (".complete", ".lock")
    }


def has_begun(folder: Path) -> bool:
    """Whether a part of a file is there."""
    return any(path.stat().st_size for path in folder.rglob("*.partial"))


def test_a_download_ends_well_and_a_second_one_asks_for_nothing(tmp_path: Path, hub: Hub) -> None:
    with Download(tmp_path, hub) as first:
        assert first.wait() == 0, first.lines
        model = {"name": HF, "digest": f"sha256:{hashlib.sha256(MODEL).hexdigest()}", "sizeBytes": len(MODEL)}
        assert first.result() | {"message": "", "models": []} == {
            "listHash": "a1", "reason": "Downloaded", "message": "", "models": [],
        }  # fmt: skip
        assert model.items() <= first.result()["models"][0].items()
    assert whole(first.models) == {stored_path(HF).as_posix(): MODEL}
    hub.requests.clear()
    begun = time.monotonic()
    with Download(tmp_path, hub) as second:
        assert second.wait() == 0
        assert second.result() == first.result()
    assert time.monotonic() - begun < 5
    assert hub.requests == []


def test_killed_at_any_point_it_ends_whole_and_never_said_so_before(tmp_path: Path, hub: Hub) -> None:
    names = [f"big-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    parts = {name: b"GGUF" + random.Random(name).randbytes(300_000) for name in names}
    hub.put("org/big", dict(parts))
    chance, kills = random.Random(7), 0
    settings = {"models": f"hf://org/big/{names[0]}"}
    for number in range(KILLS):
        hub.behave(rate=600_000)
        with Download(tmp_path, hub, **settings) as download:
            assert download.port
            if number == 0:
                until(lambda: has_begun(download.models), "there is something to go on with")
            # the point itself is what is tested: any moment, not one that a condition would choose
            time.sleep(chance.uniform(0, 0.5))
            download.signal(signal.SIGKILL)
            killed = download.wait() == -signal.SIGKILL
            kills += killed
            assert download.marker.exists() == (not killed)
            for name, content in whole(download.models).items():
                assert name.endswith((".partial", ".partial.json", ".new")) or content == parts[Path(name).name]
    assert kills >= 3
    hub.behave()
    with Download(tmp_path, hub, **settings) as last:
        assert last.wait() == 0, last.lines
        assert {Path(name).name: content for name, content in whole(last.models).items()} == parts
        assert sorted(path.name for path in last.marker.parent.iterdir()) == ["a1.json"]
    assert any("Range" in seen["headers"] for seen in hub.bytes_asked())


def test_told_to_stop_it_ends_within_a_second_and_the_next_one_goes_on(tmp_path: Path, hub: Hub) -> None:
    hub.behave(rate=200_000)
    with Download(tmp_path, hub) as first:
        until(lambda: first.status()["completedBytes"] > 50_000, "some bytes are there")
        begun = time.monotonic()
        first.signal(signal.SIGTERM)
        assert first.wait() == 1
        assert time.monotonic() - begun < 1
        assert (first.result()["reason"], first.result()["listHash"]) == ("Interrupted", "a1")
        assert not first.file.exists()
        assert not first.marker.exists()
        part = first.file.with_name(first.file.name + ".partial").stat().st_size
    assert part > 0
    hub.behave()
    hub.requests.clear()
    with Download(tmp_path, hub) as second:
        assert second.wait() == 0
        assert second.file.read_bytes() == MODEL
    assert [seen["headers"]["Range"] for seen in hub.bytes_asked()] == [f"bytes={part}-"]


@pytest.mark.parametrize("kind", ["silent", "stall", "waiting"])
def test_told_to_stop_it_does_not_wait_for_whom_it_waits_for(tmp_path: Path, hub: Hub, kind: str) -> None:
    hub.behave(silent=kind == "silent", stall=1000 if kind == "stall" else None)
    hub.repository("org/tiny").gated = kind == "waiting"
    states = {"silent": "starting", "stall": "downloading", "waiting": "waiting"}
    with Download(tmp_path, hub, stall_seconds=60) as download:
        until(lambda: download.status()["state"] == states[kind] and hub.requests, "it waits")
        begun = time.monotonic()
        download.signal(signal.SIGTERM)
        assert download.wait() == 1
        assert time.monotonic() - begun < 1
        assert download.result()["reason"] == "Interrupted"


def test_a_second_download_waits_for_the_first_and_finds_its_work(tmp_path: Path, hub: Hub) -> None:
    hub.behave(rate=400_000)
    with Download(tmp_path, hub) as first:
        until(lambda: first.status()["state"] == "downloading", "the first has begun")
        with Download(tmp_path, hub, termination_file=os.devnull) as second:
            until(lambda: second.status()["state"] == "waiting", "the second waits")
            assert "another download is writing to" in second.status()["message"]
            assert first.wait() == 0
            assert second.wait() == 0
            assert any("waiting until it ends" in line for line in second.lines)
    assert len(hub.bytes_asked()) == 1


def test_a_better_token_is_noticed_and_the_download_goes_on(tmp_path: Path, hub: Hub) -> None:
    hub.repository("org/tiny").gated = True
    token = tmp_path / "token"
    token.write_text("hf_without_access")
    with Download(tmp_path, hub, token_file=token) as download:
        until(lambda: download.status()["state"] == "waiting", "it waits")
        status = download.status()
        assert (status["reason"], status["message"].split(",")[0]) == ("AccessDenied", "org/tiny is gated")
        token.write_text(GOOD)
        assert download.wait() == 0
        assert download.file.read_bytes() == MODEL


def test_the_internal_port_says_how_far_it_is(tmp_path: Path, hub: Hub) -> None:
    hub.behave(rate=200_000)
    with Download(tmp_path, hub, name="demo") as download:
        until(lambda: download.status()["bytesPerSecond"] > 0, "bytes come")
        status = download.status()
        assert (status["chatbot"], status["listHash"], status["state"]) == ("demo", "a1", "downloading")
        assert (status["model"], status["totalBytes"]) == (HF, len(MODEL))
        assert 0 < status["percent"] < 100
        assert status["secondsLeft"] > 0
        assert download.get("/livez") == "ok\n"
        metrics = dict(line.rsplit(" ", 1) for line in download.get("/metrics").splitlines() if line[0] != "#")
        assert float(metrics["chatbot_runtime_download_total_bytes"]) == len(MODEL)
        assert float(metrics["chatbot_runtime_download_bytes"]) > 0
        assert float(metrics['chatbot_runtime_download_state{state="downloading"}']) == 1
        assert float(metrics['chatbot_runtime_download_state{state="done"}']) == 0
        until(lambda: any('"msg":"downloading ' in line for line in tuple(download.lines)), "progress is logged")


def test_what_is_not_there_ends_the_job_and_what_may_pass_does_not(tmp_path: Path, hub: Hub) -> None:
    with Download(tmp_path, hub, models="hf://org/tiny/absent.gguf") as absent:
        assert absent.wait() == 42
        assert (absent.result()["reason"], absent.result()["models"]) == ("ModelNotFound", [])
        assert "it has tiny.gguf" in absent.result()["message"]
    hub.behave(status={"cdn": 503})
    with Download(tmp_path, hub) as away:
        assert away.wait() == 1
        assert away.result()["reason"] == "SourceUnreachable"
        assert not away.marker.exists()


def test_a_busy_source_is_asked_again_when_it_says(tmp_path: Path, hub: Hub) -> None:
    hub.behave(status={"resolve": 429}, retry_after="1")
    with Download(tmp_path, hub, retries=1) as download:
        until(lambda: download.status()["state"] == "waiting", "it waits")
        assert download.status()["reason"] == "SourceUnreachable"
        hub.behave()
        assert download.wait() == 0
    heads = [seen for seen in hub.requests if seen["method"] == "HEAD"]
    assert len(heads) == 2


def test_no_token_is_in_anything_that_is_written_or_said(tmp_path: Path, hub: Hub) -> None:
    token = tmp_path / "token"
    said = ""
    for secret in ("hf_bad_very_secret", GOOD):
        token.write_text(secret)
        hub.behave(rate=1_000_000)
        with Download(tmp_path, hub, token_file=token, log_level="debug", LOG="x") as download:
            until(lambda d=download: d.status()["state"] in ("waiting", "downloading"), "it runs")  # type: ignore[misc]
            said += download.get("/status") + download.get("/metrics")
            if secret == GOOD:
                assert download.wait() == 0
            else:
                download.signal(signal.SIGTERM)
                assert download.wait() == 1
            said += "".join(download.lines) + download.last_words.read_text()
            for path in (path for path in download.models.rglob("*") if path.is_file()):
                assert GOOD.encode() not in path.read_bytes()
    assert any(seen["headers"].get("Authorization") == f"Bearer {GOOD}" for seen in hub.requests)
    assert "secret" not in said
    assert GOOD not in said
    assert "signed=" not in said


def test_a_place_for_last_words_that_cannot_be_written_changes_nothing_else(tmp_path: Path, hub: Hub) -> None:
    with Download(tmp_path, hub, termination_file=tmp_path / "no" / "such") as download:
        assert download.wait() == 0
        assert any("the result cannot be written" in line for line in download.lines)


def test_a_setting_that_cannot_be_used_ends_the_job_and_is_named_in_the_last_words(tmp_path: Path, hub: Hub) -> None:
    with Download(tmp_path, hub, retries="many", hub_url="http://user:secret@hub.example") as download:
        assert download.wait() == 42
        result = download.result()
        assert (result["reason"], result["listHash"]) == ("DownloadFailed", "a1")
        assert "CHATBOT_RETRIES: the value 'many' cannot be used" in result["message"]
        assert "CHATBOT_HUB_URL: the value cannot be used" in result["message"]
        said = "".join(download.lines)
        assert "Traceback" not in said
        assert "secret" not in said + result["message"]
    with Download(tmp_path, hub, ca_file=tmp_path / "none.pem") as download:
        assert download.wait() == 42
        assert "CHATBOT_CA_FILE" in download.result()["message"]


REQUIRED = {"CHATBOT_MODELS": "phi", "CHATBOT_LIST_HASH": "a1"}


def test_settings_have_defaults_and_the_hub_of_others_counts_if_ours_is_not_set() -> None:
    config = DownloadConfig.from_env(REQUIRED | {"CHATBOT_KEEP_LISTS": "b2, c3,", "CHATBOT_REGISTRY_INSECURE": "true"})
    assert (config.models, config.keep_lists, config.registry_insecure) == (("phi",), ("b2", "c3"), True)
    assert (config.models_dir, config.hub_url) == (Path("/models"), "https://huggingface.co")
    mirror = REQUIRED | {"HF_ENDPOINT": "https://mirror.example/"}
    assert DownloadConfig.from_env(mirror).hub_url == "https://mirror.example"
    assert DownloadConfig.from_env(mirror | {"CHATBOT_HUB_URL": "http://own"}).hub_url == "http://own"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CHATBOT_MODELS", "", "it is not set"),
        ("CHATBOT_MODELS", ",", "at least one model"),
        ("CHATBOT_MODELS", "phi,hf://org/tiny", "hf://org/tiny: it must be hf://owner/repo/path/file.gguf"),
        ("CHATBOT_LIST_HASH", "", "it is not set"),
        ("CHATBOT_LIST_HASH", "../x", "cannot be used"),
        ("CHATBOT_KEEP_LISTS", "a1,../x", "names of lists"),
        ("CHATBOT_REGISTRY", "user:secret@registry", "cannot be used"),
        ("CHATBOT_OLLAMA_URL", "http://user:secret@ollama", "user or a password"),
        ("CHATBOT_STALL_SECONDS", "0", "greater than 0"),
        ("HF_ENDPOINT", "ftp://secret", "must begin with http"),
    ],
)
def test_a_bad_setting_is_named_without_what_may_be_secret(variable: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DownloadConfig.from_env(REQUIRED | {variable: value})
    assert str(caught.value).startswith(f"{variable}: ")
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_help_tells_the_exit_codes() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "chatbot_runtime", "download", "--help"], capture_output=True, text=True, check=True
    )
    assert "exit codes:\n  0   " in ended.stdout
    assert "  42  " in ended.stdout
