"""What the Hugging Face Hub knows of a token and of a model. Off the hot path; it must not know chats or who asks.

Uses the Hub's client library, as `downloads.hub_files` does; it is imported when the first question is asked. Every
request of that library is looked at before it leaves: it may go to the allowed hosts only, and follows no redirect.
"""

import logging
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yarl import URL

from chatbot_runtime.contract import FallbackReason
from chatbot_runtime.network import is_allowed, is_refused, proxy_for
from chatbot_runtime.providers.failures import scrubbed

if TYPE_CHECKING:
    import httpx2
    import huggingface_hub

ENDPOINT = "https://huggingface.co"
SECONDS = 10.0
"""Longest wait for one answer of the Hub."""
INFERENCE = "inference.serverless"
"""What the names of the permissions for inference begin with."""
CHAT = "conversational"
_PROVIDER = re.compile(r"[A-Za-z0-9._-]{1,64}")


class HubError(Exception):
    """The Hub does not say what was asked. The message holds nothing that it sent."""

    def __init__(self, reason: FallbackReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Account:
    """Whose token it is. `inference`: it may be used for that."""

    name: str
    role: str
    inference: bool


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`access`: the token may use it. `providers`: those that answer chats with it now."""

    gated: bool
    access: bool
    providers: tuple[str, ...]


class Hub:
    """Asks the Hub at `endpoint`. Its methods block, and raise HubError."""

    def __init__(self, endpoint: URL, token: str, allowed: tuple[str, ...], context: ssl.SSLContext | None) -> None:
        self._endpoint = endpoint
        self._token = token
        self._allowed = allowed
        self._context = context
        self._api: huggingface_hub.HfApi | None = None

    def account(self) -> Account:
        """Whose token it is."""
        told = self._asked("the account", lambda api: api.whoami(token=self._token))
        access = _part(_part(told, "auth"), "accessToken")
        name, role = (
            scrubbed(value, self._token)[:100] or "unknown" for value in (told.get("name"), access.get("role"))
        )
        return Account(name, role, role != "fineGrained" or _may_infer(access))

    def model(self, name: str) -> ModelFacts:
        """What there is to know of a model."""
        info = self._asked(
            f"the model {name}",
            lambda api: api.model_info(
                name, token=self._token or False, timeout=SECONDS, expand=["gated", "inferenceProviderMapping"]
            ),
        )
        providers = tuple(
            mapping.provider
            for mapping in info.inference_provider_mapping or ()
            if mapping.status == "live" and mapping.task == CHAT and _PROVIDER.fullmatch(mapping.provider)
        )
        return ModelFacts(bool(info.gated), not info.gated or self._has_access(name), providers)

    def _has_access(self, name: str) -> bool:
        try:
            self._asked(f"the model {name}", lambda api: api.auth_check(name, token=self._token or False))
        except HubError as error:
            if error.reason == "AccessDenied":
                return False
            raise
        return True

    def _asked(self, what: str, question: Any) -> Any:
        import httpx2
        from huggingface_hub import errors

        try:
            return question(self._opened())
        except HubError:
            raise
        except errors.GatedRepoError:
            raise HubError("AccessDenied", f"{what} is gated, and the token's account has no access") from None
        except errors.RepositoryNotFoundError:
            text = f"{what} does not exist, or is private and the token may not read it"
            raise HubError("ModelNotFound", text) from None
        except errors.HFValidationError:
            raise HubError("ModelNotFound", f"{what} has no name that the Hub could know: owner/name") from None
        except errors.HfHubHTTPError as error:
            raise _of_status(error.response.status_code) from None
        except (httpx2.HTTPError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            # Its message may hold addresses of proxies; the kind says enough.
            raise HubError("ProviderUnavailable", f"the Hub did not answer ({type(error).__name__})") from None

    def _opened(self) -> "huggingface_hub.HfApi":
        if self._api is None:
            import huggingface_hub

            for library in ("httpx2", "httpcore2", "huggingface_hub"):
                logging.getLogger(library).setLevel(logging.WARNING)
            huggingface_hub.set_client_factory(self._client)
            self._api = huggingface_hub.HfApi(str(self._endpoint))
        return self._api

    def _client(self) -> "httpx2.Client":
        import httpx2

        return httpx2.Client(
            verify=self._context or ssl.create_default_context(),
            follow_redirects=False,
            timeout=SECONDS,
            event_hooks={"request": [self._guard], "response": [_refuse_redirects]},
        )

    def _guard(self, request: "httpx2.Request") -> None:
        """Lets a request go to an allowed host only, and never to an address that is refused."""
        url = URL(str(request.url))
        if not is_allowed(url, self._allowed):
            raise HubError("ProviderUnavailable", f"{url.host} may not be asked: it is not among the allowed hosts")
        if proxy_for(url) is not None:
            return
        found = [str(info[4][0]) for info in socket.getaddrinfo(url.raw_host, url.port, type=socket.SOCK_STREAM)]
        if any(map(is_refused, found)):
            raise HubError("ProviderUnavailable", f"{url.host} lies at an address that is never connected to")
        if url.scheme == "http":  # with TLS another address than this could not show the host's certificate
            request.url = request.url.copy_with(host=found[0])


def _refuse_redirects(response: "httpx2.Response") -> None:
    if response.is_redirect:
        raise HubError("ProviderUnavailable", "the Hub redirects, which is not followed")


def _of_status(status: int) -> HubError:
    if status == 401:
        return HubError("TokenRejected", "the Hub does not know the token: it was revoked, has expired, or is mistyped")
    if status == 403:
        return HubError("AccessDenied", "the Hub denies access with this token")
    if status == 429:
        return HubError("RateLimited", "the Hub was asked too often: try again in some minutes")
    return HubError("ProviderUnavailable", f"the Hub failed (HTTP {status})")


def _may_infer(access: Mapping[str, Any]) -> bool:
    """Whether a fine-grained token has a permission for inference, of the account itself or of an organisation."""
    grained = _part(access, "fineGrained")
    scoped = [scope.get("permissions") for scope in grained.get("scoped") or () if isinstance(scope, dict)]
    granted = [name for names in (grained.get("global"), *scoped) for name in names or ()]
    return any(isinstance(name, str) and name.startswith(INFERENCE) for name in granted)


def _part(value: Any, name: str) -> Mapping[str, Any]:
    part = value.get(name) if isinstance(value, dict) else None
    return part if isinstance(part, dict) else {}
