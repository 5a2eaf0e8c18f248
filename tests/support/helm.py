"""Helm, of either version, on a test's cluster; and the chart as it was before. No test logic here."""

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatbot_operator.api.generated import REPOSITORY
from devcluster.build import Programs
from devcluster.progress import Plain

CHART = REPOSITORY / "charts/chatbot-operator"
VERSIONS = ("helm", "helm3")


@dataclass(frozen=True)
class Helm:
    """One version of it. `environment` leads to a cluster."""

    program: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        env = {**os.environ, **self.environment}
        command = [str(self.program), *args]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=240)

    def __call__(self, *args: str, check: bool = True) -> str:
        """What it prints; what it complains about is an AssertionError, or with `check` false is returned."""
        ended = self.run(*args)
        assert not check or ended.returncode == 0, f"helm {' '.join(args)}: {ended.stderr.strip()}"
        return ended.stdout if ended.returncode == 0 else ended.stderr

    def render(self, *settings: str, release: str = "chatbot-operator", namespace: str = "chatbot-system") -> "Objects":
        """The chart's objects with `name=value` settings; the definition aside."""
        text = self(
            "template", release, str(CHART), "--namespace", namespace, *flags((*settings, "crds.install=false"))
        )
        return [found for found in yaml.safe_load_all(text) if found]


Objects = list[dict[str, Any]]


def flags(settings: Sequence[str]) -> list[str]:
    """`name=value` as Helm's arguments."""
    return [flag for setting in settings for flag in ("--set", setting)]


def helm(version: str, environment: Mapping[str, str] | None = None) -> Helm:
    """The program of that name."""
    return Helm(Programs(Plain()).ensure([version])[version], environment or {})


PREVIOUS = "CHATBOT_TEST_PREVIOUS_CHART"


def previous_chart(folder: Path) -> Path:
    """The chart as the last commit had it that differs from what lies here, or as the commit has it that
    CHATBOT_TEST_PREVIOUS_CHART names. Skips where there is no such commit."""
    path = str(CHART.relative_to(REPOSITORY))
    unchanged = _git("diff", "--quiet", "HEAD", "--", path).returncode == 0
    changed = _git("rev-list", "-1", "HEAD", "--", path).stdout.decode().strip()
    commit = os.environ.get(PREVIOUS) or (f"{changed}^" if unchanged and changed else "HEAD")
    archive = _git("archive", commit, path)
    if archive.returncode:
        pytest.skip("no earlier commit with a chart is here: a shallow clone, or none")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / path


def _git(*args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *args], cwd=REPOSITORY, capture_output=True, check=False)
