"""The ConfigMap that runtime pods read their settings from. Pure."""

from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import BACKEND, child
from chatbot_operator.kinds import CONFIG_MAP
from chatbot_operator.names import SETTINGS_KEY
from chatbot_operator.settings import Settings
from chatbot_runtime.contract import AccessSettings, FallbackSettings, HfSettings, MockSettings, RuntimeSettings


def settings_text(chatbot: Chatbot, verified_revisions: tuple[str, ...], settings: Settings) -> str:
    """The settings file: everything that may change without a restart. Its exact text is what pods report a hash of."""
    spec = chatbot.spec
    file = RuntimeSettings(
        system_prompt=spec.system_prompt,
        mock=MockSettings(replies=spec.mock.replies, tokens_per_second=spec.mock.tokens_per_second),
        hf=_hf(chatbot, settings),
        fallback=FallbackSettings(
            to="mock" if effective.fallback_to(spec) == "mock" else "none",
            after_failures=spec.fallback.after_failures,
            retry_after_seconds=spec.fallback.retry_after_seconds,
        ),
        access=AccessSettings(
            mode=spec.access.mode or "Anonymous",
            requests_per_minute=spec.access.requests_per_minute,
            concurrent_requests=spec.access.concurrent_requests,
            trusted_hops=spec.access.trusted_hops,
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


def backend_config(chatbot: Chatbot, verified_revisions: tuple[str, ...], settings: Settings) -> dict[str, Any]:
    """The ConfigMap around that file."""
    data = {SETTINGS_KEY: settings_text(chatbot, verified_revisions, settings)}
    return child(chatbot, CONFIG_MAP, names.backend(chatbot.metadata.name), BACKEND, {"data": data})
