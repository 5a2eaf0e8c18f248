"""Running runtimes that several tests share, and a Hub to download from."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils._http import default_client_factory

from chatbot_runtime.contract import settings_hash
from tests.support.hosted import Hosted, hosted
from tests.support.hub import Hub
from tests.support.hub_downloads import MODEL, Case
from tests.support.router import Router
from tests.support.runtime_process import FAST, RuntimeProcess, until


@pytest.fixture(scope="session")
def fast_settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A settings file without pace and limits."""
    path = tmp_path_factory.mktemp("settings") / "settings.json"
    path.write_text(json.dumps(FAST | {"systemPrompt": "The word is xyzzy."}))
    return path


@pytest.fixture(scope="session")
def mock(fast_settings: Path) -> Iterator[RuntimeProcess]:
    """Phase mock, fast, with times scaled down."""
    with RuntimeProcess(
        settings_file=fast_settings,
        header_seconds=1,
        body_seconds=1,
        idle_seconds=2,
        max_body_bytes=65_536,
        name="demo",
    ) as process:
        yield process


@pytest.fixture(scope="session")
def scripted(fast_settings: Path) -> Iterator[RuntimeProcess]:
    """A provider that does what the question says."""
    with RuntimeProcess(
        "tests.support.runtime_scripted",
        settings_file=fast_settings,
        heartbeat_seconds=0.3,
        request_seconds=1.5,
        live_seconds=1,
    ) as process:
        yield process


@dataclass
class Tunable:
    """A runtime whose settings and keys a test may change."""

    process: RuntimeProcess
    settings: Path
    keys: Path

    def write(self, text: str) -> None:
        """Replaces the settings file, as the kubelet does it."""
        new = self.settings.with_suffix(".new")
        new.write_text(text)
        new.replace(self.settings)

    def use(self, **settings: Any) -> RuntimeProcess:
        """Replaces the settings, and waits until they are in use."""
        text = json.dumps(settings)
        self.write(text)
        until(lambda: self.process.status()["settingsHash"] == settings_hash(text), "the settings are in use", 5)
        return self.process


@pytest.fixture(scope="session")
def tunable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tunable]:
    """Each test sets what it needs and shares nothing else; files are looked at 20 times a second."""
    folder = tmp_path_factory.mktemp("tunable")
    settings, keys = folder / "settings.json", folder / "keys"
    settings.write_text("{}")
    with RuntimeProcess(settings_file=settings, keys_dir=keys, poll_seconds=0.05) as process:
        yield Tunable(process, settings, keys)


@pytest.fixture(scope="session")
def shared_hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """Phase hf; to be used through `hf`, which leaves nothing of one test to the next."""
    with Router() as router, hosted(tmp_path_factory.mktemp("hosted"), router=router) as running:
        running.ready()
        yield running


@pytest.fixture
def hf(shared_hosted: Hosted) -> Hosted:
    """Phase hf before a stand-in of the router, all well."""
    shared_hosted.reset()
    return shared_hosted


@pytest.fixture
def library_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a source tells the Hub's client library counts for a whole process, which here is that of other tests."""
    with monkeypatch.context() as patched:
        for name in (
            "ENDPOINT",
            "HUB_DISABLE_XET",
            "HUB_DISABLE_PROGRESS_BARS",
            "HUB_DISABLE_TELEMETRY",
            "HUB_OFFLINE",
        ):
            patched.setenv(f"HF_{name}", "")
        patched.setenv("NO_PROXY", "*")
        yield
    huggingface_hub.set_client_factory(default_client_factory)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hub with one small model."""
    with Hub() as hub:
        hub.put("org/tiny", {"tiny.gguf": MODEL, "README.md": b"hello"})
        yield hub


@pytest.fixture
def case(hub: Hub, tmp_path: Path, library_as_it_was: None) -> Case:
    return Case(hub, tmp_path)
