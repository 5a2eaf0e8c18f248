"""The one place where the parts of the runtime are wired. It must not know processes, signals or sockets."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from chatbot_runtime.access import KeyRing
from chatbot_runtime.admission import Admission
from chatbot_runtime.chat_request import ChatRequest
from chatbot_runtime.config import Config, ConfigError
from chatbot_runtime.connections import Connections, Limits
from chatbot_runtime.contract import PodStatus, VerificationStatus
from chatbot_runtime.drain import Drain
from chatbot_runtime.http import Frame
from chatbot_runtime.metrics import Metrics
from chatbot_runtime.openai_api import OpenAIApi
from chatbot_runtime.providers.base import Provider, ProviderError
from chatbot_runtime.providers.mock import MockProvider
from chatbot_runtime.settings import SettingsFile

VERIFY_AGAIN_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Waits between test questions of a new revision; the last one repeats."""


@dataclass(slots=True)
class Runtime:
    """Everything that one process knows, and the tasks that keep it up to date."""

    config: Config
    settings: SettingsFile
    keys: KeyRing
    admission: Admission
    drain: Drain
    provider: Provider
    metrics: Metrics
    connections: Connections
    verification: VerificationStatus = field(default_factory=VerificationStatus)
    last_beat: float = field(default_factory=time.monotonic)

    @property
    def unready(self) -> str:
        """Why this process takes no requests; empty if it does."""
        if self.drain.draining:
            return "shutting down"
        if self.verification.verified or self._proven:
            return ""
        return self.verification.message or "the provider has not answered its test question yet"

    @property
    def _proven(self) -> bool:
        """Whether other pods of this revision have had an answer already."""
        return self.config.revision in self.settings.current.verified_revisions

    def status(self) -> PodStatus:
        """What the operator reads."""
        return PodStatus(
            chatbot=self.config.name,
            phase=self.config.phase,
            revision=self.config.revision,
            ready=not self.unready,
            settings_hash=self.settings.hash,
            settings_error=self.settings.error,
            keys=self.keys.state if self.settings.current.access.mode == "APIKey" else "notNeeded",
            model=self.provider.models[0],
            verification=self.verification,
        )

    def alive(self) -> bool:
        """Whether the event loop moved lately. May be asked from any thread."""
        return time.monotonic() - self.last_beat < self.config.live_seconds

    async def beat(self) -> None:
        """Shows, for ever, that the event loop moves."""
        while True:
            self.last_beat = time.monotonic()
            await asyncio.sleep(self.config.live_seconds / 5)

    async def follow_files(self) -> None:
        """Takes over, for ever, changed settings and keys."""
        while True:
            await asyncio.sleep(self.config.poll_seconds)
            before = self.settings.error
            if self.settings.poll():
                self.metrics.settings_reloads.labels("used").inc()
            elif self.settings.error != before:
                self.metrics.settings_reloads.labels("refused").inc()
            self.keys.poll()

    async def verify(self) -> None:
        """Asks the provider of a new revision a one-token question until it answers; it is not ready before."""
        question = ChatRequest(self.provider.models[0], ({"role": "user", "content": "Hello"},), max_tokens=1)
        attempt = 0
        while not (self.verification.verified or self._proven):
            try:
                answer = await self.provider.answer(question)
                async for _ in answer.chunks:
                    pass
                self.verification = VerificationStatus(verified=True)
            except ProviderError as error:
                self.verification = VerificationStatus(reason=error.reason, message=str(error))
                await asyncio.sleep(VERIFY_AGAIN_SECONDS[min(attempt, len(VERIFY_AGAIN_SECONDS) - 1)])
                attempt += 1


def build(config: Config, provider: Provider | None = None, clock: Callable[[], float] = time.monotonic) -> Runtime:
    """All parts for `config`; `provider` in place of the one that the phase names. Raises ConfigError."""
    settings = SettingsFile(config.settings_file)
    metrics = Metrics()
    runtime = Runtime(
        config=config,
        settings=settings,
        keys=KeyRing(config.keys_dir),
        admission=Admission(
            max_running=config.max_running,
            max_queue=config.max_queue,
            queue_seconds=config.queue_seconds,
            max_clients=config.max_clients,
            max_held_bytes=config.max_held_bytes,
            clock=clock,
        ),
        drain=Drain(),
        provider=provider or _provider(config, settings),
        metrics=metrics,
        connections=Connections(
            Limits(config.header_seconds, config.idle_seconds, config.write_seconds, config.max_connections),
            lambda cause: metrics.connections_ended.labels(cause).inc(),
        ),
    )
    _observe(runtime)
    return runtime


def create_app(runtime: Runtime) -> web.Application:
    """The public application."""
    config, settings = runtime.config, runtime.settings
    app = web.Application()
    Frame(config, lambda: settings.current.access, runtime.drain, runtime.metrics).install(app)
    api = OpenAIApi(
        config=config,
        settings=lambda: settings.current,
        keys=runtime.keys,
        admission=runtime.admission,
        drain=runtime.drain,
        provider=runtime.provider,
        metrics=runtime.metrics,
    )
    app.add_routes(api.routes())
    return app


def _provider(config: Config, settings: SettingsFile) -> Provider:
    """The one place that knows which phases there are."""
    if config.phase == "mock":
        return MockProvider(lambda: settings.current.mock)
    raise ConfigError(
        f"CHATBOT_PHASE: the phase {config.phase!r} is not available in this version of the runtime. "
        "Available: mock. Set it to mock, or use a newer version."
    )


def _observe(runtime: Runtime) -> None:
    """Lets the gauges ask the parts when they are scraped, so that no part knows of metrics."""
    metrics = runtime.metrics
    metrics.running.set_function(lambda: runtime.admission.running)
    metrics.queued.set_function(lambda: runtime.admission.queued)
    metrics.held_bytes.set_function(lambda: runtime.admission.held_bytes)
    metrics.connections.set_function(lambda: len(runtime.connections.open))
    metrics.ready.set_function(lambda: float(not runtime.unready))
    metrics.info.labels(runtime.config.phase, runtime.config.revision).set(1)
