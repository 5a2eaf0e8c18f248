"""Can the provider be used: is the token good, are the models there. It must not know how questions are answered.

Asks no question to a model, and so costs nothing.
"""

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal

import aiohttp
from yarl import URL

from chatbot_runtime.circuit import BY_TOKEN
from chatbot_runtime.config import Config, ConfigError
from chatbot_runtime.contract import FallbackReason, VerificationStatus
from chatbot_runtime.errors import ApiError
from chatbot_runtime.hub import ENDPOINT, Hub, HubError
from chatbot_runtime.network import is_allowed, is_refused, open_session, trust
from chatbot_runtime.providers.base import ProviderError
from chatbot_runtime.providers.failures import failure
from chatbot_runtime.providers.servers import Route, route_of
from chatbot_runtime.providers.upstream_reading import parsed
from chatbot_runtime.settings import SettingsFile
from chatbot_runtime.token_file import TokenFile

log = logging.getLogger(__name__)

USABLE, NOT_USABLE, UNKNOWN = 0, 1, 3
LIST_SECONDS = 20.0
"""Longest wait for the list of models."""
MAX_LIST_BYTES = 8 * 1024 * 1024

TOKENS = f"{ENDPOINT}/settings/tokens"
REMEDIES: dict[FallbackReason, str] = {
    "TokenRejected": f"make a token at {TOKENS} and put it into the Secret",
    "AccessDenied": f"give the token access at {TOKENS}, or use another one",
    "ModelNotFound": "correct the model's name, or choose one that is served: "
    f"{ENDPOINT}/models?inference_provider=all&other=conversational",
    "RateLimited": "try again in some minutes",
    "ProviderUnavailable": "try again; is the network, or the proxy, open for it?",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `reason` and `remedy` only where it is not in order."""

    name: Literal["endpoint", "token", "inference", "model"]
    verdict: Literal["ok", "no", "unknown"]
    message: str
    reason: FallbackReason | None = None
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found, in the order of what needs what."""

    findings: tuple[Finding, ...]

    @property
    def fault(self) -> Finding | None:
        """The first that is not in order."""
        return next((finding for finding in self.findings if finding.verdict == "no"), None)

    @property
    def exit_code(self) -> int:
        """What the process ends with."""
        if self.fault is not None:
            return NOT_USABLE
        return UNKNOWN if any(finding.verdict == "unknown" for finding in self.findings) else USABLE

    def text(self) -> str:
        """For people: aligned, what helps below what is not in order."""
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.name:<10} {finding.verdict:<8} {finding.message}")
            if finding.remedy:
                lines.append(f"{'':<19} → {finding.remedy}")
        return "\n".join(lines)

    def json(self) -> str:
        """For scripts: one object."""
        fault = self.fault
        found = {"usable": {USABLE: True, NOT_USABLE: False}.get(self.exit_code), "reason": fault and fault.reason}
        return json.dumps(found | {"findings": [asdict(finding) for finding in self.findings]})


def check(config: Config, route: Route, token: TokenFile) -> Report:
    """Looks at all there is. Blocks. Has no secret in what it says. Raises ConfigError."""
    return Report(tuple(_findings(config, route, token)))


def check_config(config: Config) -> Report:
    """The same for a process of its own. Raises ConfigError."""
    route = route_of(config).under(SettingsFile(config.settings_file).current.hf)
    return check(config, route, TokenFile(config.token_file))


async def explain(config: Config, route: Callable[[], Route], token: TokenFile) -> VerificationStatus | None:
    """What the provider's refusal comes from, if that can be found out; the event loop goes on meanwhile."""
    try:
        report = await _in_thread(lambda: check(config, route(), token))
    except Exception as error:  # what explains a failure must not be one more
        log.warning("the provider could not be looked at: %s", type(error).__name__)
        return None
    fault = report.fault
    return None if fault is None else VerificationStatus(reason=fault.reason, message=f"{fault}.")


async def _in_thread(work: Callable[[], Report]) -> Report:
    """In a thread that nobody waits for when the process ends, as they do for those of the loop's own pool."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Report] = loop.create_future()

    def tell(report: Report | None, error: Exception | None) -> None:
        if result.done():
            return
        if report is not None:
            result.set_result(report)
        else:
            result.set_exception(error or RuntimeError())

    def run() -> None:
        outcome: tuple[Report | None, Exception | None]
        try:
            outcome = work(), None
        except Exception as error:
            outcome = None, error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, *outcome)

    threading.Thread(target=run, name="check", daemon=True).start()
    return await result


def hub_endpoint() -> URL:
    """The Hub's address: HF_ENDPOINT, or its own. Raises ConfigError."""
    with suppress(ValueError):
        url = URL((os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/"))
        if url.scheme in ("http", "https") and url.host and url.raw_user is None and url.raw_password is None:
            return url
    raise ConfigError("HF_ENDPOINT: it must be a URL with http:// or https://, without user and password")


def _findings(config: Config, route: Route, token: TokenFile) -> Iterator[Finding]:
    try:
        route.check()
    except ProviderError as error:
        yield _no("endpoint", error.reason, str(error).rstrip("."), "ask the administrator, or change the base URL")
        return
    yield Finding("endpoint", "ok", f"{route.host} ({route.server.name})")
    if token.state == "unreadable" or (token.state != "ok" and route.server.needs_token):
        yield _no("token", "TokenRejected", token.problem, "")
        return
    if not route.server.needs_token:
        yield from asyncio.run(_listed(config, route, token.value))
        return
    endpoint = hub_endpoint()
    if not is_allowed(endpoint, route.allowed_hosts) or is_refused(endpoint.raw_host or ""):
        yield Finding("token", "unknown", f"{endpoint.host} knows more, but is not among the allowed hosts")
        return
    context = trust(config.ca_file) if endpoint.scheme == "https" else None
    yield from _by_hub(config, Hub(endpoint, token.value, route.allowed_hosts, context))


def _by_hub(config: Config, hub: Hub) -> Iterator[Finding]:
    try:
        account = hub.account()
    except HubError as error:
        yield _of_error("token", error)
        return
    yield Finding("token", "ok", f"of {account.name}, role {account.role}")
    if account.inference:
        yield Finding("inference", "ok", "the token may call Inference Providers")
    else:
        remedy = f"give it the permission 'Make calls to Inference Providers' at {TOKENS}"
        yield _no("inference", "AccessDenied", "the token may not call Inference Providers", remedy)
    for model in config.models:
        try:
            yield _model(hub, model)
        except HubError as error:
            yield _of_error("model", error)


def _model(hub: Hub, model: str) -> Finding:
    name, _, wanted = model.partition(":")
    facts = hub.model(name)
    if not facts.access:
        message = f"{name} is gated, and the token's account has no access"
        return _no("model", "AccessDenied", message, f"ask for access at {ENDPOINT}/{name}")
    served = ", ".join(facts.providers)
    if not facts.providers:
        return _no("model", "ModelNotFound", f"{name} exists, but no provider answers chats with it now")
    if wanted and wanted not in (*facts.providers, "fastest", "cheapest", "preferred"):
        return _no("model", "ModelNotFound", f"{name} is not served by {wanted}", f"choose one of {served}")
    return Finding("model", "ok", f"{name}, served by {served}")


async def _listed(config: Config, route: Route, token: str) -> list[Finding]:
    """What another server says that it has."""
    try:
        async with asyncio.timeout(LIST_SECONDS):
            names = await _names(config, route, token)
    except ProviderError as error:
        if error.reason == "ModelNotFound":  # 404: it has no list
            return [Finding("model", "unknown", f"{route.host} has no list of its models")]
        if error.reason in BY_TOKEN:
            return [_no("token", error.reason, str(error).rstrip("."), f"put a token of {route.host} into the Secret")]
        return [_of_error("endpoint", error)]
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        return [_of_error("endpoint", HubError("ProviderUnavailable", f"{route.host}: {type(error).__name__}"))]
    models = [
        Finding("model", "ok", f"{model}, served by {route.host}")
        if model in names
        else _no("model", "ModelNotFound", f"{route.host} does not list {model}", "correct the model's name")
        for model in config.models
    ]
    return [Finding("token", "ok", "is taken" if token else "none, and none is needed"), *models]


async def _names(config: Config, route: Route, token: str) -> set[str]:
    async with open_session(
        context=route.context, resolver=route.resolver, connect_seconds=config.connect_seconds
    ) as session:
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})
        async with session.get(
            route.url / "models", headers=headers, proxy=route.proxy, allow_redirects=False
        ) as response:
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > MAX_LIST_BYTES:
                    raise ProviderError("ProviderUnavailable", f"{route.host} sent more than fits.")
            if response.status != 200:
                error = failure(response.status, body, response.headers, host=route.host, token=token, model="")
                raise ProviderError("ProviderUnavailable", str(error)) if isinstance(error, ApiError) else error
    data = parsed(body, route.host).get("data")
    entries = data if isinstance(data, list) else []
    return {entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)}


def _no(
    name: Literal["endpoint", "token", "inference", "model"],
    reason: FallbackReason,
    message: str,
    remedy: str | None = None,
) -> Finding:
    return Finding(name, "no", message, reason, REMEDIES[reason] if remedy is None else remedy)


def _of_error(name: Literal["endpoint", "token", "model"], error: HubError | ProviderError) -> Finding:
    message = str(error).rstrip(".")
    if error.reason in ("ProviderUnavailable", "RateLimited"):
        return Finding(name, "unknown", message, error.reason, REMEDIES[error.reason])
    return _no(name, error.reason, message)
