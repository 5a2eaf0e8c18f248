"""What the Hub knows of a model's files: commit, sizes, digests. It must not know volumes, nor fetch a file's bytes.

It speaks through the Hub's client library. Every request of that library is looked at before it leaves: it may go to
the Hub only, and to no address that is refused.
"""

import contextlib
import logging
import os
import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from yarl import URL

from chatbot_runtime.config import ConfigError
from chatbot_runtime.contract import DownloadReason
from chatbot_runtime.downloads.base import DownloadError
from chatbot_runtime.downloads.partial import Wanted
from chatbot_runtime.network import is_refused, proxy_for
from chatbot_runtime.providers.failures import retry_after, scrubbed
from chatbot_runtime.references import HfReference
from chatbot_runtime.token_file import TokenFile

if TYPE_CHECKING:
    import httpx2

LISTED = 10
"""Files that are named if the one asked for does not exist."""
READ_SECONDS = 30.0
_HARNESSES = "/api/agent-harnesses"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT = re.compile(r"[0-9a-f]{40}")


class _Unreachable(Exception):
    """A request that is not let out; the message is for people."""


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Asks the Hub at `endpoint`. `find` blocks. `has_token_file`: a token that is not there yet may come."""

    endpoint: URL
    token: TokenFile
    has_token_file: bool
    context: ssl.SSLContext
    connect_seconds: float
    stall_seconds: float

    def find(self, reference: HfReference) -> tuple[Wanted, ...]:
        """All files of a model, of one and the same commit. Raises DownloadError."""
        first, *others = zip(reference.paths, reference.places, strict=True)
        found = [self._file(reference, reference.revision, *first)]
        found += [self._file(reference, found[0].commit, *other) for other in others]
        return tuple(found)

    def _file(self, reference: HfReference, revision: str, path: str, place: Any) -> Wanted:
        hub = self._library()
        url = hub.hf_hub_url(reference.repository, path, revision=revision, endpoint=str(self.endpoint))
        name = f"hf://{reference.repository}/{path}@{revision}"
        facts = self._asked(
            reference,
            path,
            lambda: hub.get_hf_file_metadata(url, token=self.token.value or False, timeout=self._timeout()),
        )
        digest, commit = facts.etag or "", facts.commit_hash or ""
        if (
            facts.size is None
            or not _GIT.fullmatch(commit)
            or not (_SHA256.fullmatch(digest) or _GIT.fullmatch(digest))
        ):
            raise DownloadError(
                "DownloadFailed",
                f"{name}: {self.endpoint.host} says neither commit nor size nor digest of it, so it cannot be "
                "verified: is it a Hugging Face Hub?",
            )
        return Wanted(
            name=name,
            place=place,
            url=hub.hf_hub_url(reference.repository, path, revision=commit, endpoint=str(self.endpoint)),
            commit=commit,
            size=facts.size,
            sha256=digest if len(digest) == 64 else "",
            git=digest if len(digest) == 40 else "",
        )

    def _asked(self, reference: HfReference, path: str, question: Any) -> Any:
        import httpx2
        from huggingface_hub import errors

        repository, host = reference.repository, self.endpoint.host
        try:
            return question()
        except errors.GatedRepoError:
            self._denied(f"{repository} is gated, and {self._who} has no access: ask for it at its page of the Hub")
        except errors.DisabledRepoError:
            raise DownloadError("ModelNotFound", f"{repository} was taken down by the Hub") from None
        except errors.RepositoryNotFoundError:
            self._no_repository(repository)
        except errors.RevisionNotFoundError:
            text = (
                f"{repository} has no revision {reference.revision}: name a branch, a tag or a commit, or none for main"
            )
            raise DownloadError("ModelNotFound", text) from None
        except errors.RemoteEntryNotFoundError:
            there = self._listed(reference)
            raise DownloadError("ModelNotFound", f"{repository} has no file {path}{there}") from None
        except errors.HFValidationError:
            raise DownloadError("ModelNotFound", f"{repository} is no name that the Hub could know") from None
        except errors.HfHubHTTPError as error:
            raise of_status(error.response.status_code, error.response.headers, str(host), self._who) from None
        except _Unreachable as error:
            raise DownloadError("SourceUnreachable", str(error)) from None
        except ConfigError as error:
            raise DownloadError("DownloadFailed", str(error)) from None
        except (httpx2.HTTPError, OSError, ValueError, TypeError, AttributeError) as error:
            # Its message may hold addresses of proxies; the kind says enough.
            text = f"{host} does not answer ({type(error).__name__}): may it be reached from here, or by a proxy?"
            raise DownloadError("SourceUnreachable", text) from None

    @property
    def _who(self) -> str:
        return "the token's account" if self.token.value else f"nobody without a token ({self.token.problem})"

    def _denied(self, text: str) -> NoReturn:
        raise DownloadError("AccessDenied", text) from None

    def _no_repository(self, repository: str) -> NoReturn:
        """The Hub does not say whether one exists that may not be seen."""
        if self.token.value:
            text = f"{repository} does not exist, or is private and the token may not read it"
            raise DownloadError("ModelNotFound", text) from None
        text = f"{repository} does not exist, or is private and there is no token"
        if self.has_token_file:
            self._denied(f"{text}: {self.token.problem}")
        raise DownloadError("ModelNotFound", f"{text}: check the name, or give a token") from None

    def _listed(self, reference: HfReference) -> str:
        """The files that the repository has in place of the one that it has not, as far as they can be had."""
        hub = self._library()
        with contextlib.suppress(Exception):  # it is help for an error that is told anyway
            api = hub.HfApi(str(self.endpoint))
            info = api.model_info(
                reference.repository,
                revision=reference.revision,
                token=self.token.value or False,
                timeout=self._timeout(),
            )
            names = sorted(s.rfilename for s in info.siblings or () if s.rfilename.endswith(".gguf"))
            if not names:
                return ", and no other .gguf file: it may not be made for llama.cpp"
            shown = ", ".join(scrubbed(name, self.token.value) for name in names[:LISTED])
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            return f" at {reference.revision}; it has {shown}{more}"
        return f" at {reference.revision}"

    def _timeout(self) -> float:
        return min(self.stall_seconds, READ_SECONDS)

    def _library(self) -> Any:
        # Read when the library is imported, and never again.
        os.environ |= {
            "HF_ENDPOINT": str(self.endpoint),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
        }
        import huggingface_hub

        for library in ("httpx2", "httpcore2", "huggingface_hub"):
            logging.getLogger(library).setLevel(logging.WARNING)
        huggingface_hub.set_client_factory(self._client)
        return huggingface_hub

    def _client(self) -> "httpx2.Client":
        import httpx2

        return httpx2.Client(
            verify=self.context,
            follow_redirects=False,
            timeout=httpx2.Timeout(self._timeout(), connect=self.connect_seconds),
            event_hooks={"request": [self._guard]},
        )

    def _guard(self, request: "httpx2.Request") -> None:
        """Lets a request go to the Hub only, and never to an address that is refused."""
        url = URL(str(request.url))
        if url.origin() != self.endpoint.origin():
            raise _Unreachable(
                f"{self.endpoint.host} leads to {url.host}, which is not asked: set CHATBOT_HUB_URL to it"
            )
        if url.path.endswith(_HARNESSES):
            raise _Unreachable("which program runs this is nobody's business")
        # A time-out given with a question counts for each of its steps, and would let connecting take as long.
        request.extensions["timeout"] = dict(request.extensions.get("timeout", {})) | {"connect": self.connect_seconds}
        if proxy_for(url) is not None:
            return
        found = [str(info[4][0]) for info in socket.getaddrinfo(url.raw_host, url.port, type=socket.SOCK_STREAM)]
        if any(map(is_refused, found)):
            raise _Unreachable(f"{url.host} lies at an address that is never connected to")
        if url.scheme == "http":  # with TLS another address than this could not show the host's certificate
            request.url = request.url.copy_with(host=found[0])


def of_status(status: int, headers: Any, host: str, who: str) -> DownloadError:
    """What a refusal of the Hub, or of the store that it leads to, means."""
    reason: DownloadReason = "SourceUnreachable"
    if status == 401:
        reason, text = "TokenRejected", f"does not let in {who}: a token may be missing, mistyped, expired or revoked"
    elif status == 403:
        reason, text = "AccessDenied", f"denies access to {who}"
    elif status == 404:
        text = "does not have the file's content"
    elif status == 429:
        text = "was asked too often"
    else:
        text = "fails"
    return DownloadError(reason, f"{host} {text} (HTTP {status})", retry_after(status, headers))
