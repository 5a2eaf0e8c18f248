"""Running runtimes that several tests share: they change nothing in them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime_process import FAST, RuntimeProcess


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
        request_seconds=2,
        live_seconds=1,
    ) as process:
        yield process
