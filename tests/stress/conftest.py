"""The size of the stress tests, and the settings that they share."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FULL = os.environ.get("CHATBOT_STRESS") == "full"

WriteSettings = Callable[..., Path]


def size(short: int, full: int) -> int:
    """`short` in the usual run, `full` with CHATBOT_STRESS=full."""
    return full if FULL else short


@pytest.fixture
def settings_file(tmp_path: Path) -> WriteSettings:
    """Writes a settings file: a reply of `tokens` tokens at `per_second`, no limits of access but those given."""

    def write(*, tokens: int, per_second: float, word: str = " word", **access: Any) -> Path:
        mock = {"replies": [word * tokens], "tokensPerSecond": per_second}
        limits = {"requestsPerMinute": 10_000_000, "concurrentRequests": 100_000} | access
        path = tmp_path / "settings.json"
        path.write_text(json.dumps({"mock": mock, "access": limits}))
        return path

    return write
