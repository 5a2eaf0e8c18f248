"""The operator's side of the pods' contract: GET /status of one pod. It must not know who asks or why."""

import asyncio
from collections.abc import Callable

import aiohttp

from chatbot_operator.reports import PodReport, parse

TIMEOUT_SECONDS = 2.0
LARGEST_BYTES = 64 * 1024
"""An answer is a few hundred bytes; a pod that lies must not fill our memory."""


class PodClient:
    """Reads /status. `ask` never raises for anything that a pod does."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def ask(self, *, ip: str, namespace: str, name: str, read: Callable[[bytes], PodReport] = parse) -> PodReport:
        """The report of the pod at `ip`, within two seconds. `read`: a body as a report."""
        host = f"[{ip}]" if ":" in ip else ip
        url = self._url.format(ip=host, namespace=namespace, name=name)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), self._session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    return PodReport(problem=f"its /status answered {response.status}")
                body = await _read(response)
        except TimeoutError:
            return PodReport(problem=f"its /status did not answer within {TIMEOUT_SECONDS:.0f} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return PodReport(problem=f"its /status cannot be reached ({type(error).__name__})")
        if body is None:
            return PodReport(problem=f"its /status is larger than {LARGEST_BYTES // 1024} KiB")
        return read(body)


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    body = b""
    async for chunk in response.content.iter_chunked(8192):
        body += chunk
        if len(body) > LARGEST_BYTES:
            return None
    return body
