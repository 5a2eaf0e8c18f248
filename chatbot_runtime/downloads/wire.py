"""The bytes of a file by HTTP, from an offset on. It must not know volumes, nor what the bytes are.

Redirects are followed by hand: each host's address is looked at, and the token goes to the Hub alone.
"""

import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from chatbot_runtime.config import ConfigError
from chatbot_runtime.downloads.base import DownloadError
from chatbot_runtime.downloads.hub_files import of_status
from chatbot_runtime.downloads.partial import BLOCK_BYTES
from chatbot_runtime.network import is_refused, open_session, proxy_for

MAX_REDIRECTS = 5
AGENT = "chatbot-runtime"
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Body:
    """An answer whose bytes begin at `begins`: 0 if the server cannot begin where it was asked to."""

    begins: int
    host: str
    _content: aiohttp.StreamReader

    async def read(self) -> bytes:
        """Further bytes; none at the end. Raises DownloadError."""
        with _told(self.host):
            return await self._content.read(BLOCK_BYTES)


class Wire:
    """Fetches from `hub`, and from wherever it leads."""

    def __init__(
        self,
        hub: URL,
        context: ssl.SSLContext,
        connect_seconds: float,
        stall_seconds: float,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._hub = hub.origin()
        self._session = open_session(context=context, resolver=resolver, connect_seconds=connect_seconds)
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_seconds, sock_connect=connect_seconds, sock_read=stall_seconds
        )

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    @contextlib.asynccontextmanager
    async def opened(self, url: str, offset: int, size: int, token: str) -> AsyncIterator[Body]:
        """The bytes of a file of `size` bytes from `offset` on. Raises DownloadError."""
        response = await self._followed(URL(url, encoded=True), offset, token)
        try:
            host = response.url.host or ""
            begins = _begins(response, offset)
            given = response.content_length
            if given is not None and given != size - begins:
                raise DownloadError("SourceUnreachable", f"{host} sends {given} bytes in place of {size - begins}")
            yield Body(begins, host, response.content)
        finally:
            response.close()  # what is left of a body that nobody wants would have to be read first

    async def _followed(self, url: URL, offset: int, token: str) -> aiohttp.ClientResponse:
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._asked(url, offset, token)
            if response.status not in _REDIRECTS:
                break
            response.close()
            url = self._next(url, response.headers.get("Location", ""))
        else:
            raise DownloadError("SourceUnreachable", f"{self._hub.host} leads from one address to another without end")
        if response.status not in (200, 206):
            response.close()
            raise _refusal(response, url, self._hub)
        return response

    async def _asked(self, url: URL, offset: int, token: str) -> aiohttp.ClientResponse:
        if is_refused(url.host or ""):
            raise DownloadError("SourceUnreachable", f"{url.host} is an address that is never connected to")
        headers = {"Accept-Encoding": "identity", "User-Agent": AGENT}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        if token and url.origin() == self._hub:
            headers["Authorization"] = f"Bearer {token}"
        try:
            proxy = proxy_for(url)
        except ConfigError as error:
            raise DownloadError("DownloadFailed", str(error)) from None
        with _told(url.host or ""):
            return await self._session.get(
                url,
                headers=headers,
                proxy=proxy,
                allow_redirects=False,
                timeout=self._timeout,
                read_bufsize=BLOCK_BYTES,
            )

    def _next(self, url: URL, location: str) -> URL:
        try:
            found = url.join(URL(location, encoded=True))  # signed addresses are not to be quoted anew
        except ValueError:
            found = URL()
        if found.scheme not in ("http", "https") or not found.host or found.raw_user is not None:
            raise DownloadError("SourceUnreachable", f"{url.host} leads to what is no address")
        if url.scheme == "https" and found.scheme == "http":
            raise DownloadError("SourceUnreachable", f"{url.host} leads to {found.host} without TLS, which is refused")
        return found


def _begins(response: aiohttp.ClientResponse, offset: int) -> int:
    if response.status == 200:
        return 0
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != offset:
        raise DownloadError("SourceUnreachable", f"{response.url.host} answers with other bytes than it was asked for")
    return offset


def _refusal(response: aiohttp.ClientResponse, url: URL, hub: URL) -> DownloadError:
    status, host = response.status, url.host or ""
    if url.origin() == hub:
        return of_status(status, response.headers, host, "us")
    if status == 401:  # it got no token, so none was rejected
        status = 403
    return of_status(status, response.headers, host, "this file, though the Hub leads there: is something between?")


@contextlib.contextmanager
def _told(host: str) -> Iterator[None]:
    """What a failure of the connection means."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError:
        raise DownloadError("SourceUnreachable", f"{host} cannot be connected to in time") from None
    except TimeoutError:
        raise DownloadError("SourceUnreachable", f"{host} has stopped sending") from None
    except aiohttp.ClientConnectorDNSError:
        raise DownloadError(
            "SourceUnreachable", f"{host} cannot be found: is its name right, and does DNS work?"
        ) from None
    except aiohttp.ClientSSLError:
        text = f"{host} shows a certificate that is not trusted: give its authority with CHATBOT_CA_FILE"
        raise DownloadError("SourceUnreachable", text) from None
    except aiohttp.ClientConnectorError:
        raise DownloadError("SourceUnreachable", f"{host} cannot be connected to") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # Its message may hold a signed address or a proxy's password; the kind says enough.
        raise DownloadError("SourceUnreachable", f"{host} broke off ({type(error).__name__})") from None
