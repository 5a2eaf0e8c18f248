"""OpenAI-compatible servers: how they differ, and the way to the one that is asked. It must not know requests."""

import ssl
from dataclasses import dataclass, replace

from aiohttp.abc import AbstractResolver
from yarl import URL

from chatbot_runtime.config import Config
from chatbot_runtime.contract import FallbackReason, HfSettings
from chatbot_runtime.network import is_allowed, is_refused, proxy_for, trust
from chatbot_runtime.providers.base import ProviderError


@dataclass(frozen=True, slots=True)
class Server:
    """What differs between OpenAI-compatible servers.

    `called`: what people call it; empty: its host's name. `answers_as_asked`: the model in its answers is the one that
    was asked for, whatever it calls it. `tells_usage`: it knows `stream_options.include_usage`. `missing_model_codes`:
    codes of a 400 that mean that it has not the model. `telling`: words in a refusal that mean more than its status.
    `too_long`: what it calls a prompt that does not fit. `down`: the reason when nobody listens. `renames`: parameters
    that it knows by another name.
    """

    name: str
    called: str = ""
    needs_token: bool = False
    answers_as_asked: bool = False
    tells_usage: bool = False
    missing_model_codes: frozenset[str] = frozenset()
    telling: tuple[tuple[str, FallbackReason], ...] = ()
    too_long: str = ""
    down: FallbackReason = "ProviderUnavailable"
    renames: tuple[tuple[str, str], ...] = ()


ROUTER_HOST = "router.huggingface.co"
ROUTER = Server(
    "router",
    needs_token=True,
    answers_as_asked=True,
    tells_usage=True,
    missing_model_codes=frozenset({"model_not_found", "model_not_supported"}),
)
OPENAI = Server("openai", missing_model_codes=frozenset({"model_not_found"}))
OLLAMA = Server(
    "ollama",
    called="the engine (Ollama)",
    answers_as_asked=True,
    tells_usage=True,
    telling=(
        ("does not support chat", "ModelNotFound"),  # so it calls a model whose file is gone or damaged
        ("timed out waiting for", "ModelNotReady"),
        ("server busy", "ProviderUnavailable"),
    ),
    down="EngineDown",
    renames=(("max_completion_tokens", "max_tokens"),),
)
LLAMA_SERVER = Server(
    "llama.cpp",
    called="the engine (llama.cpp)",
    answers_as_asked=True,
    tells_usage=True,
    telling=(("Loading model", "ModelNotReady"),),
    too_long="exceed_context_size_error",
    down="EngineDown",
)
SERVERS = {server.name: server for server in (ROUTER, OPENAI, OLLAMA, LLAMA_SERVER)}


def server_at(url: URL) -> Server:
    """The row of the server at `url`."""
    return ROUTER if url.host == ROUTER_HOST else OPENAI


@dataclass(frozen=True, slots=True)
class Route:
    """The one server that is asked, and the way there."""

    url: URL
    server: Server
    allowed_hosts: tuple[str, ...]
    context: ssl.SSLContext | None = None
    proxy: URL | None = None
    resolver: AbstractResolver | None = None

    @property
    def host(self) -> str:
        """As people call it."""
        return self.server.called or self.url.host_port_subcomponent or ""

    def under(self, settings: HfSettings) -> "Route":
        """The same way under the administrator's list of now."""
        hosts = settings.allowed_hosts
        return self if hosts is None or hosts == self.allowed_hosts else replace(self, allowed_hosts=hosts)

    def check(self) -> None:
        """Raises ProviderError if nothing may be sent there."""
        if not is_allowed(self.url, self.allowed_hosts):
            message = f"{self.host} may not be asked: the administrator has not allowed it."
            raise ProviderError("AccessDenied", message)
        if is_refused(self.url.raw_host or ""):
            raise ProviderError("AccessDenied", f"{self.host} is never asked: no model is served at such an address.")


def route_of(config: Config, resolver: AbstractResolver | None = None) -> Route:
    """The server that is asked, and the way there. Raises ConfigError."""
    url = URL(config.base_url)
    if config.phase == "local":  # beside us: no list of hosts, no proxy and no name lies between
        own = (url.host_port_subcomponent or "",)
        return Route(url=url, server=SERVERS[config.server], allowed_hosts=own, resolver=resolver)
    return Route(
        url=url,
        server=SERVERS.get(config.server) or server_at(url),
        allowed_hosts=config.allowed_hosts,
        context=trust(config.ca_file) if url.scheme == "https" else None,
        proxy=proxy_for(url),
        resolver=resolver,
    )
