"""The one place where the parts of the runtime are wired. It must not know processes, signals or sockets."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web
from aiohttp.abc import AbstractResolver

from chatbot_runtime.access import KeyRing
from chatbot_runtime.admission import Admission
from chatbot_runtime.check import explain
from chatbot_runtime.circuit import Clocks
from chatbot_runtime.config import Config
from chatbot_runtime.connections import Connections, Limits
from chatbot_runtime.contract import HfSettings, PodStatus
from chatbot_runtime.download_watch import DownloadWatch
from chatbot_runtime.drain import Drain
from chatbot_runtime.fallback import Fallback, Forwarding
from chatbot_runtime.http import Frame
from chatbot_runtime.metrics import Metrics
from chatbot_runtime.network import Peers
from chatbot_runtime.ollama_names import served_name
from chatbot_runtime.openai_api import OpenAIApi
from chatbot_runtime.providers.base import Provider
from chatbot_runtime.providers.engine import Engine, NoEngine
from chatbot_runtime.providers.mock import MockProvider
from chatbot_runtime.providers.servers import route_of
from chatbot_runtime.providers.upstream import Times, Upstream
from chatbot_runtime.rate import SharedRate
from chatbot_runtime.settings import SettingsFile
from chatbot_runtime.token_file import TokenFile
from chatbot_runtime.verification import Explain, Verification

RATE_WAIT_SECONDS = 2.0
"""How long a request waits for its turn before it counts as one too many for the provider."""
SILENT_SHARE = 0.8
"""Of a request's time, that an engine which has answered before may take to its first byte: what hangs must be seen to,
and not only by who asks."""
PEERS_SECONDS = 5.0
"""How often the pods that share a limit are counted."""


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
    verification: Verification
    download: DownloadWatch
    hosted: "Hosted | None" = None
    last_beat: float = field(default_factory=time.monotonic)

    @property
    def unready(self) -> str:
        """Why this process takes no requests; empty if it does."""
        return "shutting down" if self.drain.draining else self.verification.unready

    def status(self) -> PodStatus:
        """What the operator reads."""
        hosted = self.hosted
        return PodStatus(
            chatbot=self.config.name,
            phase=self.config.phase,
            revision=self.config.revision,
            ready=not self.unready,
            settings_hash=self.settings.hash,
            settings_error=self.settings.error,
            token=hosted.token.state if hosted else "notNeeded",
            keys=self.keys.state if self.settings.current.access.mode == "APIKey" else "notNeeded",
            model=self.provider.models[0],
            fallback=hosted.fallback.reason if hosted else None,
            circuits=hosted.fallback.circuits if hosted else (),
            verification=self.verification.status,
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
        """Takes over, for ever, changed settings, keys and token."""
        while True:
            await asyncio.sleep(self.config.poll_seconds)
            before = self.settings.error
            if self.settings.poll():
                self.metrics.settings_reloads.labels("used").inc()
                self.verification.changed()
            elif self.settings.error != before:
                self.metrics.settings_reloads.labels("refused").inc()
            self.keys.poll()
            if self.hosted and self.hosted.token.poll():
                self.hosted.fallback.token_changed()
                self.verification.changed()

    async def verify(self) -> None:
        """Asks the provider of a new revision a one-token question until it answers; it is not ready before."""
        await self.verification.run()

    async def close(self) -> None:
        """Frees what the parts hold; nothing is asked afterwards."""
        await self.provider.close()
        await self.download.close()

    async def count_peers(self) -> None:
        """Counts, for ever, the pods that share the provider's limit."""
        if self.hosted:
            await self.hosted.peers.follow(PEERS_SECONDS)


@dataclass(frozen=True, slots=True)
class Hosted:
    """What a process has only if its provider is a server: elsewhere, or an engine beside it.

    `may_stand_in`: whether other pods' proof is enough for this one. `explain`: finds out more about a failure.
    """

    provider: Forwarding
    fallback: Fallback | NoEngine
    token: TokenFile
    peers: Peers
    may_stand_in: Callable[[], bool] = lambda: True
    explain: Explain | None = None


def build(
    config: Config,
    provider: Provider | None = None,
    clock: Callable[[], float] = time.monotonic,
    resolver: AbstractResolver | None = None,
) -> Runtime:
    """All parts for `config`; `provider` in place of the one that the phase names. Raises ConfigError."""
    settings = SettingsFile(config.settings_file, config.phase)
    metrics = Metrics()
    hosted = None
    if provider is None and config.phase != "mock":
        make = {"hf": _elsewhere, "local": _engine if config.server != "none" else _no_engine}[config.phase]
        hosted = make(config, settings, metrics, clock, resolver)
    own = provider or (hosted.provider if hosted else MockProvider(lambda: settings.current.mock))
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
        provider=hosted.fallback if hosted else own,
        metrics=metrics,
        connections=Connections(
            Limits(config.header_seconds, config.idle_seconds, config.write_seconds, config.max_connections),
            lambda cause: metrics.connections_ended.labels(cause).inc(),
        ),
        verification=Verification(
            own,
            partial(_proven, config, settings, hosted),
            config.refused_seconds,
            hosted.explain if hosted else None,
        ),
        download=DownloadWatch(lambda: settings.current.download, resolver),
        hosted=hosted,
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
        fallback=lambda: runtime.hosted.fallback.reason if runtime.hosted else None,
        download=runtime.download.current,
        forward=runtime.hosted.fallback.forward if runtime.hosted else None,
    )
    app.add_routes(api.routes())
    return app


def _proven(config: Config, settings: SettingsFile, hosted: Hosted | None) -> bool:
    """Whether this pod may take requests without an answer of its own provider."""
    if config.server == "none":
        return True
    return config.revision in settings.current.verified_revisions and (hosted is None or hosted.may_stand_in())


def _elsewhere(
    config: Config,
    settings: SettingsFile,
    metrics: Metrics,
    clock: Callable[[], float],
    resolver: AbstractResolver | None,
) -> Hosted:
    """A provider elsewhere, and what stands in for it."""
    token, peers = TokenFile(config.token_file), Peers(config.peers, resolver)
    upstream = Upstream(
        route_of(config, resolver),
        config.models,
        token,
        lambda: settings.current.hf,
        Times(config.connect_seconds, config.chunk_seconds),
    )
    rate = SharedRate(
        lambda: settings.current.hf.requests_per_minute,
        lambda: peers.count,
        wait_seconds=RATE_WAIT_SECONDS,
        clock=clock,
    )
    fallback = _fallback(config, upstream, settings, metrics, clock, rate.take)
    return Hosted(upstream, fallback, token, peers, explain=partial(explain, config, lambda: upstream.route, token))


def _engine(
    config: Config,
    settings: SettingsFile,
    metrics: Metrics,
    clock: Callable[[], float],
    resolver: AbstractResolver | None,
) -> Hosted:
    """An engine beside us, and what stands in for it. Nothing but its own slots limits what it is asked."""
    token, loads = TokenFile(None), HfSettings(timeout_seconds=config.load_seconds)
    serves = HfSettings(timeout_seconds=min(config.load_seconds, config.request_seconds * SILENT_SHARE))
    times = Times(config.connect_seconds, config.chunk_seconds)
    engine = Engine(
        Upstream(
            route_of(config, resolver), config.models, token, lambda: serves if engine.has_answered else loads, times
        ),
        names={m: served_name(m, config.registry) for m in config.models} if config.server == "ollama" else {},
        folder=config.models_dir,
        file=config.model_file,
        answered_file=config.answered_file,
        load_seconds=config.load_seconds,
        context_length=config.context_length if config.server == "ollama" else 0,
        cut=metrics.prompts_cut.inc,
        clock=clock,
    )
    fallback = _fallback(config, engine, settings, metrics, clock, _at_once)
    return Hosted(engine, fallback, token, Peers(""), lambda: engine.given_up)


def _no_engine(
    config: Config,
    settings: SettingsFile,
    _metrics: Metrics,
    _clock: Callable[[], float],
    _resolver: AbstractResolver | None,
) -> Hosted:
    """What answers while the weights are on their way."""
    mock = MockProvider(lambda: settings.current.mock)
    waiting = NoEngine(config.models, mock, lambda: settings.current.fallback, time.time())
    return Hosted(waiting, waiting, TokenFile(None), Peers(""))


async def _at_once() -> None:
    """Lets every request go."""


def _fallback(
    config: Config,
    provider: Forwarding,
    settings: SettingsFile,
    metrics: Metrics,
    clock: Callable[[], float],
    admit: Callable[[], Awaitable[None]],
) -> Fallback:
    return Fallback(
        provider,
        MockProvider(lambda: settings.current.mock),
        lambda: settings.current.fallback,
        admit=admit,
        count=lambda result: metrics.provider_requests.labels(result).inc(),
        refused_seconds=config.refused_seconds,
        clocks=Clocks(clock, time.time),
    )


def _observe(runtime: Runtime) -> None:
    """Lets the gauges ask the parts when they are scraped, so that no part knows of metrics."""
    metrics = runtime.metrics
    metrics.running.set_function(lambda: runtime.admission.running)
    metrics.queued.set_function(lambda: runtime.admission.queued)
    metrics.held_bytes.set_function(lambda: runtime.admission.held_bytes)
    metrics.connections.set_function(lambda: len(runtime.connections.open))
    metrics.ready.set_function(lambda: float(not runtime.unready))
    if hosted := runtime.hosted:
        metrics.peers.set_function(lambda: hosted.peers.count)
        for circuit in hosted.fallback.circuits:
            metrics.circuit_open.labels(circuit.model).set_function(partial(hosted.fallback.is_open, circuit.model))
    metrics.info.labels(runtime.config.phase, runtime.config.revision).set(1)
