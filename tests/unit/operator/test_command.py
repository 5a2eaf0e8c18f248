"""The operator's command: what it says where it cannot run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def operate(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    command = [sys.executable, "-m", "chatbot_operator", *arguments]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=60, check=False)


def test_it_says_what_it_is_told_by() -> None:
    told = operate("--help")
    assert told.returncode == 0
    assert "KUBECONFIG" in told.stdout


@pytest.mark.parametrize("content", [None, "clusters: [", "clusters: []"], ids=["no file", "no YAML", "no context"])
def test_without_a_usable_kubeconfig_it_says_what_to_set(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    told = operate(KUBECONFIG=str(file))
    assert told.returncode == 2
    assert "set KUBECONFIG to the file of a cluster" in told.stderr
    assert "Traceback" not in told.stderr
