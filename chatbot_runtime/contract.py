"""What operator and runtime tell each other: the settings file one writes, the /status the other answers.

Shared by both images, so it must import nothing but pydantic and the standard library.
Both sides ignore fields they do not know: an older operator meets newer pods and the other way round.
"""

import hashlib
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

CONTRACT_VERSION = 1
"""Raised when a field changes its meaning or goes away; a new field does not raise it."""

Phase = Literal["mock", "hf", "local"]
SecretState = Literal["notNeeded", "missing", "empty", "unreadable", "ok"]
"""What a pod sees of a mounted Secret. One that does not exist and one without entries look alike: missing."""
FallbackReason = Literal[
    "RateLimited",
    "ProviderUnavailable",
    "TokenRejected",
    "AccessDenied",
    "ModelNotFound",
    "ModelNotReady",
    "EngineDown",
]


DownloadReason = Literal[
    "Downloaded",
    "ModelNotFound",
    "TokenRejected",
    "AccessDenied",
    "StorageFull",
    "SourceUnreachable",
    "DigestMismatch",
    "Interrupted",
    "DownloadFailed",
]
"""How a download ended, or what it waits for."""
PERMANENT: frozenset[DownloadReason] = frozenset({"ModelNotFound", "StorageFull", "DownloadFailed"})
"""Reasons that another try cannot mend: they end the whole Job at once."""
PERMANENT_EXIT = 42
"""Exit code of a downloader that ends for one of them."""
BY_TOKEN: frozenset[DownloadReason] = frozenset({"TokenRejected", "AccessDenied"})
"""Reasons that another token, or a permission given meanwhile, may end: a downloader waits for that."""


def _known(reason: Any) -> Any:
    """A newer runtime may have reasons that this side does not know: it is the provider, somehow."""
    return "ProviderUnavailable" if isinstance(reason, str) and reason not in get_args(FallbackReason) else reason


SaidReason = Annotated[FallbackReason, BeforeValidator(_known)]
"""A reason as the other side says it."""


def _known_end(reason: Any) -> Any:
    return "DownloadFailed" if isinstance(reason, str) and reason not in get_args(DownloadReason) else reason


SaidDownloadReason = Annotated[DownloadReason, BeforeValidator(_known_end)]


class _Message(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class MockSettings(_Message):
    """How the demo provider answers. `replies` empty: the built-in set."""

    replies: tuple[str, ...] = ()
    tokens_per_second: float = Field(default=30, gt=0)


class HfSettings(_Message):
    """How the endpoint of phase hf is used.

    `timeout_seconds`: to the first byte of an answer. `requests_per_minute`: over all replicas. `allowed_hosts`: where
    prompts and the token may go; None: as the process was told at its start.
    """

    timeout_seconds: float = Field(default=60, gt=0, le=86_400, allow_inf_nan=False)
    requests_per_minute: int = Field(default=60, ge=1)
    allowed_hosts: tuple[str, ...] | None = None


class FallbackSettings(_Message):
    """Who answers when the provider cannot (circuit breaker).

    `by_phase`: nobody has chosen `to`, and pods of another phase than the wanted one keep what is usual in theirs.
    """

    to: Literal["mock", "none"] = "mock"
    by_phase: bool = False
    after_failures: int = Field(default=3, ge=1)
    retry_after_seconds: float = Field(default=30, ge=0)


class AccessSettings(_Message):
    """Who may ask, and how much; per client and pod.

    A client is its API key, else its address. `trusted_hops`: all proxies between client and pod that append to
    X-Forwarded-For. `shared_addresses`: what a pod sees as an address may stand for many clients, so that only the
    limits of the whole pod apply to those without a key.
    """

    mode: Literal["APIKey", "Anonymous"] = "Anonymous"
    requests_per_minute: int = Field(default=60, ge=1)
    concurrent_requests: int = Field(default=4, ge=1)
    trusted_hops: int = Field(default=0, ge=0)
    shared_addresses: bool = False
    cors_origins: tuple[str, ...] = ()


class RuntimeSettings(_Message):
    """The mounted settings.json: everything that may change without a restart.

    What decides the provider is environment, and so a new revision of the pods.
    """

    download: str = ""
    """`host:port` of the downloader's state while one runs; empty: none does."""
    system_prompt: str = ""
    mock: MockSettings = MockSettings()
    hf: HfSettings = HfSettings()
    fallback: FallbackSettings = FallbackSettings()
    access: AccessSettings = AccessSettings()
    verified_revisions: tuple[str, ...] = ()


class CircuitStatus(_Message):
    """One circuit breaker; `since` in seconds since the epoch."""

    model: str
    state: Literal["closed", "open", "halfOpen"]
    reason: SaidReason | None = None
    since: float | None = None


class VerificationStatus(_Message):
    """Whether this pod's own provider has answered a question."""

    verified: bool = False
    reason: str | None = None
    message: str = ""


class PodStatus(_Message):
    """The body of `GET /status` on the internal port (8001)."""

    contract_version: int = CONTRACT_VERSION
    chatbot: str
    phase: Phase
    revision: str
    ready: bool
    settings_hash: str
    settings_error: str = ""
    token: SecretState = "notNeeded"  # noqa: S105 - a state, no token
    keys: SecretState = "notNeeded"
    model: str = ""
    fallback: SaidReason | None = None
    circuits: tuple[CircuitStatus, ...] = ()
    verification: VerificationStatus = VerificationStatus()


class DownloadStatus(_Message):
    """The body of `GET /status` of a downloader's pod (8001).

    `percent`, `total_bytes` and `seconds_left` are None while not known. `reason` and `message`: why nothing comes now.
    """

    contract_version: int = CONTRACT_VERSION
    chatbot: str
    list_hash: str
    state: Literal["starting", "downloading", "verifying", "waiting", "done", "failed"] = "starting"
    model: str = ""
    percent: float | None = Field(default=None, ge=0, le=100)
    completed_bytes: int = Field(default=0, ge=0)
    total_bytes: int | None = Field(default=None, ge=0)
    bytes_per_second: float = Field(default=0, ge=0)
    seconds_left: float | None = Field(default=None, ge=0)
    reason: SaidDownloadReason | None = None
    message: str = ""


class DownloadedModel(_Message):
    """One model whose weights are whole.

    `digest`: `sha256:` and 64 hex digits. `bytes_per_token`: memory that each token of the context takes; 0: not known.
    """

    name: str
    digest: str
    size_bytes: int = Field(ge=0)
    bytes_per_token: int = Field(default=0, ge=0)


class DownloadResult(_Message):
    """A downloader's last words: the termination message of its container, at most 4096 bytes."""

    list_hash: str
    reason: SaidDownloadReason
    message: str = ""
    models: tuple[DownloadedModel, ...] = ()


_DOWNLOAD = re.compile(r'^  "download": ".*",$', re.MULTILINE)


def settings_hash(text: str) -> str:
    """The short name (12 hex digits) of a settings file's text, wherever a download's progress may be read.

    That is only shown: nobody has to wait until every pod knows of it.
    """
    return hashlib.sha256(_DOWNLOAD.sub('  "download": "",', text).encode()).hexdigest()[:12]
