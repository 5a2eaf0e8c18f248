"""The real runtime in phase hf before the stand-in of the router, with times scaled down."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatbot_runtime.contract import settings_hash
from tests.support.router import GOOD, Model, Router
from tests.support.runtime_process import FAST, RuntimeProcess, until

MODELS = ("org/tiny", "org/small")
CHUNK_SECONDS = 0.8
FIRST_SECONDS = 1.0
QUIET = FAST | {
    "hf": {"requestsPerMinute": 100_000, "timeoutSeconds": FIRST_SECONDS},
    "fallback": {"to": "none", "afterFailures": 100_000, "retryAfterSeconds": 0},
}
"""Settings under which no request is limited and no circuit opens but for reasons that open it at once."""


@dataclass
class Hosted:
    """A runtime, the router that it asks, and the files that a test may change."""

    process: RuntimeProcess
    router: Router
    settings: Path
    token: Path

    def use(self, **settings: Any) -> RuntimeProcess:
        """Replaces the settings, and waits until they are in use."""
        text = json.dumps(QUIET | settings)
        replace(self.settings, text)
        until(lambda: self.process.status()["settingsHash"] == settings_hash(text), "the settings are in use", 5)
        return self.process

    def give(self, token: str | None) -> None:
        """Replaces the token, or takes it away."""
        if token is None:
            self.token.unlink()
        else:
            replace(self.token, token)

    def ready(self) -> None:
        """Waits until it is ready."""
        until(lambda: self.process.internal("/readyz").status == 200, "ready")

    def reset(self) -> None:
        """As at the start: all well, all circuits closed, nothing noted."""
        self.router.behave()
        self.router.tokens = {GOOD: {"role": "read", "permissions": []}}
        self.router.models = {model: Model() for model in MODELS}
        self.router.lacks, self.router.hub_status, self.router.hub_redirect = (), 0, ""
        self.use()
        self.give(GOOD)
        until(lambda: self.process.status()["token"] == "ok", "the token is known")
        until(lambda: all(self.process.ask(model=model).status == 200 for model in MODELS), "all circuits are closed")
        self.router.requests.clear()


@contextmanager
def hosted(
    folder: Path,
    *,
    router: Router,
    token: str | None = GOOD,
    settings: dict[str, Any] | None = None,
    **config: object,
) -> Iterator[Hosted]:
    """A runtime before `router`; it may not be ready yet."""
    path = folder / "settings.json"
    path.write_text(json.dumps(QUIET | (settings or {})))
    token_file = folder / "token"
    if token is not None:
        token_file.write_text(token)
    usual: dict[str, object] = {
        "phase": "hf",
        "models": ",".join(MODELS),
        "base_url": router.url,
        "server": "router",
        "allowed_hosts": "127.0.0.1",
        "token_file": token_file,
        "settings_file": path,
        "chunk_seconds": CHUNK_SECONDS,
        "connect_seconds": 1,
        "refused_seconds": 0.01,
        "poll_seconds": 0.02,
        "name": "demo",
        "HF_ENDPOINT": router.hub,
        "NO_PROXY": "*",
    }
    with RuntimeProcess("chatbot_runtime", **(usual | config)) as process:
        yield Hosted(process, router, path, token_file)


def replace(path: Path, text: str) -> None:
    """As the kubelet does it: a new file takes the old one's place."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
