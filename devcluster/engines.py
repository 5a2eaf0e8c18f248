"""Chooses what a cluster is made with (given, kind or embedded) and remembers it. It must not make any."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Engine = Literal["given", "kind", "embedded"]
ENGINES: tuple[Engine, ...] = ("given", "kind", "embedded")


@dataclass(frozen=True)
class Running:
    """The cluster that `up` made or found: with what, how to reach it, which of our images it holds."""

    engine: Engine
    kubeconfig: str
    images: Mapping[str, str] = field(default_factory=dict)

    def write(self, state_dir: Path) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        (state_dir / "running.json").write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, state_dir: Path) -> "Running | None":
        try:
            return cls(**json.loads((state_dir / "running.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None


def docker_works() -> bool:
    """Whether a Docker engine answers (the program alone is not enough)."""
    if not shutil.which("docker"):
        return False
    try:
        return subprocess.run(("docker", "info"), capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def choose(state_dir: Path, environment: Mapping[str, str] = os.environ) -> Engine:
    """A foreign kubeconfig in KUBECONFIG wins; then kind on a working Docker; else the embedded cluster."""
    before = Running.read(state_dir)
    given = environment.get("KUBECONFIG", "")
    ours = {str(state_dir / "kubeconfig"), before.kubeconfig if before else ""}
    if given and given not in ours:
        return "given"
    if before is not None and before.engine != "given":
        return before.engine
    return "kind" if shutil.which("kind") and docker_works() else "embedded"
