"""`ollama serve` as a process on loopback, for tests: the stand-in, or the real program."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
STAND_IN = (sys.executable, "-m", "tests.support.ollama_server")


class Ollama:
    """The stand-in, or another `program`. A context manager."""

    def __init__(
        self, folder: Path, program: tuple[str, ...] = STAND_IN, environ: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.models, self.home = folder / "models", folder / "home"
        self.home.mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [*program, "serve"]
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")},
            "HOME": str(self.home),
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self.models),
            "OLLAMA_NOPRUNE": "1",
            "OLLAMA_NO_CLOUD": "1",
            **environ,
        }

    def start(self, wait: bool = True) -> None:
        """Starts it, also again after it has ended."""
        self.process = subprocess.Popen(self._command, env=self._environ, cwd=ROOT, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while wait and not self._listens():
            assert self.process.poll() is None, "it has ended"
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.02)

    def _listens(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5):
                return True
        except OSError:
            return False

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal, and waits; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(10)

    def tell(self, path: str) -> None:
        """One of the ways in that the stand-in alone has."""
        urllib.request.urlopen(urllib.request.Request(self.url + path, method="POST"), timeout=5).close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
