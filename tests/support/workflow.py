"""Runs the steps of a GitHub Actions workflow as a runner would, expressions included. No test logic here."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from chatbot_operator.api.generated import REPOSITORY

FOLDER = REPOSITORY / ".github/workflows"


def load(name: str) -> dict[str, Any]:
    """A workflow by the name of its file; its triggers are under `on`."""
    found: dict[Any, Any] = yaml.safe_load((FOLDER / f"{name}.yml").read_text())
    found["on"] = found.pop(True)  # YAML 1.1 reads the word as a truth
    return found


@dataclass
class Job:
    """One job on a runner that has `folder` for its files. `values` are what expressions stand for."""

    document: Mapping[str, Any]
    folder: Path
    values: Mapping[str, str]
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = {**self._expanded(self.document.get("env", {})), **self.environment}

    @property
    def summary(self) -> str:
        path = self.folder / "summary"
        return path.read_text() if path.exists() else ""

    def run(self, name: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A step by its name; what it wrote for later steps is kept. `more` wins over its own environment."""
        (step,) = [step for step in self.document["steps"] if step.get("name") == name]
        exported = self.folder / "exported"
        exported.write_text("")
        files = {
            "GITHUB_ENV": str(exported),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "RUNNER_TEMP": str(self.folder),
        }
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **files, **self.environment}
        env |= {**self._expanded(step.get("env", {})), **more}
        script = self.folder / "step.sh"
        script.write_text(self._text(step["run"]))
        # What GitHub documents for `shell: bash`.
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        ended = subprocess.run(
            command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False, timeout=120
        )
        lines = filter(None, exported.read_text().splitlines())
        self.environment |= dict(line.split("=", 1) for line in lines)
        return ended

    def _expanded(self, env: Mapping[str, Any]) -> dict[str, str]:
        return {key: self._text(str(value)) for key, value in env.items()}

    def _text(self, text: str) -> str:
        return re.sub(r"\$\{\{\s*([\w.]+)\s*\}\}", lambda found: self.values[found[1]], text)
