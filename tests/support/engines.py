"""Engines as processes beside the real runtime in phase local: our llama-server with a tiny model, and Ollama.

Ollama is the program on PATH where there is one, else its stand-in.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chatbot_runtime.contract import settings_hash
from devcluster.images.description import CHECKOUT
from devcluster.llama_server import __main__ as program
from tests.support.hosted import replace
from tests.support.runtime_process import FAST, RuntimeProcess, until
from tests.web.nginx_process import free_port

COMMAND = (sys.executable, "-m", "devcluster.llama_server")


class LlamaServer(RuntimeProcess):
    """The engine without any environment on a free port. A context manager: entered when it is ready, or loads."""

    def __init__(self, model: Path, *flags: str, loads: bool = False) -> None:
        self.port = self.internal_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = model.with_name(f"{self.port}.log")
        self._loads = loads
        small = ("--ctx-size", "512", "--parallel", "1", "--threads", "1", "--offline", "--no-webui")
        self._command = (*COMMAND, "--model", str(model), "--port", str(self.port), *small, *flags)

    def __enter__(self) -> Self:
        with self.log.open("w") as log:
            self._process = subprocess.Popen(self._command, cwd=CHECKOUT, env={}, stderr=log, text=True)
        self.pid = self._process.pid
        until(lambda: self._is_there() or not self.alive, "the engine answers")
        assert self.alive, self.log.read_text()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(10)

    def _is_there(self) -> bool:
        if not self._loads:
            return program.READY in self.log.read_text()
        try:
            return self.request("GET", "/health").status == 503
        except ConnectionError:
            return False

    def wait(self, seconds: float = 15) -> int:
        """The exit code; fails if it does not end."""
        return self._process.wait(seconds)


@contextmanager
def local(
    folder: Path, base_url: str, server: str, models: str, *, settings: dict[str, Any] | None = None, **config: object
) -> Iterator[tuple[RuntimeProcess, "Tunable"]]:
    """The runtime in phase local; it may not be ready yet. Nobody stands in unless `settings` say so."""
    tunable = Tunable(folder / "settings.json")
    tunable.write(settings or {})
    usual: dict[str, object] = {
        "phase": "local",
        "server": server,
        "base_url": base_url,
        "models": models,
        "settings_file": tunable.path,
        "poll_seconds": 0.02,
        "name": "demo",
    }
    with RuntimeProcess("chatbot_runtime", **(usual | config)) as process:
        yield process, tunable


class Tunable:
    """The settings of a runtime, which a test may change."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, settings: dict[str, Any]) -> str:
        """Replaces them; the hash by which the runtime tells that it uses them."""
        text = json.dumps(FAST | {"fallback": {"to": "none"}} | settings)
        replace(self.path, text)
        return settings_hash(text)

    def use(self, process: RuntimeProcess, **settings: Any) -> None:
        """Replaces them, and waits until they are in use."""
        wanted = self.write(settings)
        until(lambda: process.status()["settingsHash"] == wanted, "the settings are in use", 5)


def ready(process: RuntimeProcess) -> None:
    """Waits until it is ready."""
    until(lambda: process.internal("/readyz").status == 200, "ready")
