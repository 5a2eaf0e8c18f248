"""The real nginx with the configuration that ships, on a free port. It must not know the page or the runtime."""

import json
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chatbot_operator.desired.nginx import CONF_KEY, PAGE_KEY, Page, WebServer, nginx_conf, page_text
from tests.support.runtime_process import Reply, RuntimeProcess, until
from tests.web import tools

USER = 10101
"""The image's."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Nginx(RuntimeProcess):
    """A context manager. It talks to nginx as its base class talks to the runtime."""

    def __init__(self, backend_port: int, page: Page | None = None, root: Path | None = None, **settings: Any) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="web-")
        base = Path(self._folder.name)
        self.config, self.scratch, self.log = base / "config", base / "scratch", base / "log"
        self.config.mkdir()
        self.scratch.mkdir()
        self.log.touch()
        # As in a pod: another user than root, who may write to one folder only.
        self._user = USER if os.geteuid() == 0 else None
        for path, mode in ((base, 0o755), (self.scratch, 0o777), (self.log, 0o666)):
            path.chmod(mode)
        self.settings = WebServer(
            **{
                "backend_host": "127.0.0.1",
                "backend_port": backend_port,
                "listen_host": "127.0.0.1",
                "listen_port": free_port(),
                "page_dir": str(root or tools.page()),
                "config_dir": str(self.config),
                "scratch_dir": str(self.scratch),
            }
            | settings
        )
        self.port = self.settings.listen_port
        self.url = f"http://127.0.0.1:{self.port}"
        (self.config / CONF_KEY).write_text(nginx_conf(self.settings))
        self.tell(page or Page(chatbot="demo", title="Demo"))

    def tell(self, page: Page) -> None:
        """Another config.json, as a changed ConfigMap brings it."""
        new = self.config / "new"
        new.write_text(page_text(page))
        new.rename(self.config / PAGE_KEY)

    def __enter__(self) -> Self:
        command = (tools.program("nginx"), "-e", "stderr", "-c", str(self.config / CONF_KEY))
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, text=True, user=self._user)
        self.pid = self._process.pid
        until(lambda: self._answers() or not self.alive, "nginx listens")
        assert self.alive, self.log.read_text()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.alive:
            self.signal(signal.SIGTERM)
        self._process.wait(10)
        self._folder.cleanup()

    def wait(self, seconds: float = 15) -> int:
        """The exit code; fails if it does not end."""
        return self._process.wait(seconds)

    def _answers(self) -> bool:
        try:
            return self.get("/healthz").status == 200
        except OSError:
            return False

    def get(self, path: str, **headers: str) -> Reply:
        """One GET; in header names `_` is `-`."""
        return self.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def requests(self) -> list[dict[str, Any]]:
        """The request log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
