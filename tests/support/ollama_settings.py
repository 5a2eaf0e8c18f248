"""How the stand-in for Ollama is told what to do, and what it makes sure of before it listens.

Beside `ollama_server.py`, which runs as a plain file in a pod.
"""

import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from tests.support.ollama_pull import Folder, go_error
    from tests.support.ollama_wire import seconds_of
else:  # in a pod
    from ollama_pull import Folder, go_error
    from ollama_wire import seconds_of


@dataclass(frozen=True)
class Settings:
    """From the environment, as Ollama takes it."""

    host: str
    port: int
    models: Path
    keep_alive: float
    parallel: int
    max_queue: int
    context: int
    prune: bool

    @staticmethod
    def of(environ: Mapping[str, str]) -> "Settings":
        """Ends the process where Ollama does."""
        home = environ.get("HOME") or sys.exit("Error: $HOME is not defined")
        given = re.fullmatch(r"(?:https?://)?(\[[^]]*\]|[^:/]*)(?::(\d+))?/?", environ.get("OLLAMA_HOST", ""))
        host, port = given.groups() if given else ("", None)
        return Settings(
            host=host.strip("[]") or ("0.0.0.0" if port else "127.0.0.1"),
            port=int(port or 11434),
            models=Path(environ.get("OLLAMA_MODELS") or f"{home}/.ollama/models"),
            keep_alive=seconds_of(environ.get("OLLAMA_KEEP_ALIVE") or "5m"),
            parallel=int(environ.get("OLLAMA_NUM_PARALLEL") or 1),
            max_queue=int(environ.get("OLLAMA_MAX_QUEUE") or 512),
            context=int(environ.get("OLLAMA_CONTEXT_LENGTH") or 0),
            prune=environ.get("OLLAMA_NOPRUNE", "") in ("", "0", "false"),
        )


def prepare(settings: Settings, home: Path) -> None:
    """What must be there or be made; ends the process where Ollama does."""
    key = home / ".ollama" / "id_ed25519"
    if not key.exists():
        print(f"Couldn't find '{key}'. Generating new private key.", file=sys.stderr)
        try:
            key.parent.mkdir(parents=True, exist_ok=True)
            key.write_text("made for tests\n")
        except OSError as error:
            sys.exit(f"Error: could not create directory {go_error('mkdir', key.parent, error)}")
    try:
        for name in ("blobs", "manifests"):
            (settings.models / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"Error: {go_error('mkdir', settings.models, error)}")
    if settings.prune:
        with suppress(OSError):
            Folder(settings.models).prune()
