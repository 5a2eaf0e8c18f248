"""The ConfigMaps that pods read their settings from. Pure."""

from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, WEB, child
from chatbot_operator.desired.nginx import CONF_KEY, PAGE_KEY, Page, WebServer, nginx_conf, page_text
from chatbot_operator.desired.service import HTTP_PORT, INTERNAL_PORT
from chatbot_operator.kinds import CONFIG_MAP
from chatbot_operator.names import SETTINGS_KEY
from chatbot_operator.revision import list_hash
from chatbot_operator.settings import Settings
from chatbot_runtime.contract import AccessSettings, FallbackSettings, HfSettings, MockSettings, RuntimeSettings

MAX_REQUESTS_PER_ADDRESS = 200
"""Requests at once that one client address may have in one page pod: it keeps one from taking all of the pod's 1000.
What a client may ask of the chatbot is the runtime's business."""


def settings_text(
    chatbot: Chatbot,
    verified_revisions: tuple[str, ...],
    settings: Settings,
    *,
    behind_web: bool = False,
    downloads: bool = False,
) -> str:
    """The settings file: everything that may change without a restart. Its exact text is what pods report a hash of.

    `behind_web`: requests come through the page's nginx, which adds whom it got them from. `downloads`: a downloader
    runs, whose progress the pods show.
    """
    spec = chatbot.spec
    file = RuntimeSettings(
        download=_downloader(chatbot) if downloads else "",
        system_prompt=spec.system_prompt,
        mock=MockSettings(replies=spec.mock.replies, tokens_per_second=spec.mock.tokens_per_second),
        hf=_hf(chatbot, settings),
        fallback=FallbackSettings(
            to="mock" if effective.fallback_to(spec) == "mock" else "none",
            by_phase=spec.fallback.to is None,
            after_failures=spec.fallback.after_failures,
            retry_after_seconds=spec.fallback.retry_after_seconds,
        ),
        access=AccessSettings(
            mode=spec.access.mode or "Anonymous",
            requests_per_minute=spec.access.requests_per_minute,
            concurrent_requests=spec.access.concurrent_requests,
            trusted_hops=spec.access.trusted_hops + behind_web,
            shared_addresses=effective.shared_addresses(spec),
            cors_origins=spec.access.cors_origins,
        ),
        verified_revisions=verified_revisions,
    )
    return file.model_dump_json(by_alias=True, indent=2)


def _hf(chatbot: Chatbot, settings: Settings) -> HfSettings:
    """In every phase: pods of the one before still read it while they finish their answers."""
    hf = chatbot.spec.hf
    return HfSettings(
        timeout_seconds=hf.timeout_seconds,
        requests_per_minute=hf.requests_per_minute,
        allowed_hosts=settings.allowed_hosts,
    )


def _downloader(chatbot: Chatbot) -> str:
    name = names.download(chatbot.metadata.name, list_hash(chatbot.spec))
    return f"{name}.{chatbot.metadata.namespace}.svc:{INTERNAL_PORT}"


def backend_config(
    chatbot: Chatbot,
    verified_revisions: tuple[str, ...],
    settings: Settings,
    *,
    behind_web: bool = False,
    downloads: bool = False,
) -> dict[str, Any]:
    """The ConfigMap around that file."""
    text = settings_text(chatbot, verified_revisions, settings, behind_web=behind_web, downloads=downloads)
    data = {SETTINGS_KEY: text}
    return child(chatbot, CONFIG_MAP, names.backend(chatbot.metadata.name), BACKEND, {"data": data})


def web_config(chatbot: Chatbot, conf: str) -> dict[str, Any]:
    """nginx's configuration, which a pod reads when it starts, and what the page is told, which it rereads."""
    data = {CONF_KEY: conf, PAGE_KEY: page_text(_page(chatbot))}
    return child(chatbot, CONFIG_MAP, names.web(chatbot.metadata.name), WEB, {"data": data})


def nginx_text(chatbot: Chatbot, backend_address: str) -> str:
    """nginx.conf for this Chatbot. The backend is named by its Service's address: nginx looks a name up once, at its
    start, and would not start without an answer."""
    spec = chatbot.spec
    shared = spec.expose.type == "ClusterIP" or effective.shared_addresses(spec) or spec.access.trusted_hops > 0
    return nginx_conf(
        WebServer(
            backend_host=f"[{backend_address}]" if ":" in backend_address else backend_address,
            backend_port=HTTP_PORT,
            max_requests_per_address=None if shared else MAX_REQUESTS_PER_ADDRESS,
            backend_is_replaced=spec.backend.rollout == "Replace",
        )
    )


def _page(chatbot: Chatbot) -> Page:
    web = chatbot.spec.web
    return Page(
        chatbot=chatbot.metadata.name,
        title=web.title,
        greeting=web.greeting,
        suggestions=web.suggestions,
        access=chatbot.spec.access.mode or "Anonymous",
        suspended=chatbot.spec.suspend,
    )
