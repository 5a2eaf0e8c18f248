"""The operator's side of the pods' contract: GET /status of one pod. It must not know who asks or why."""

import asyncio
from dataclasses import dataclass

import aiohttp
from pydantic import ValidationError

from chatbot_runtime.contract import CONTRACT_VERSION, PodStatus

TIMEOUT_SECONDS = 2.0
LARGEST_BYTES = 64 * 1024
"""An answer is a few hundred bytes; a pod that lies must not fill our memory."""


@dataclass(frozen=True)
class PodReport:
    """What one pod said of itself, or why nothing usable came."""

    status: PodStatus | None = None
    problem: str = ""
    incompatible: bool = False
    """The pod speaks another version of the contract."""


class PodClient:
    """Reads /status. `ask` never raises for anything that a pod does."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def ask(self, *, ip: str, namespace: str, name: str) -> PodReport:
        """The report of the pod at `ip`, within two seconds."""
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
        return parse(body)


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    body = b""
    async for chunk in response.content.iter_chunked(8192):
        body += chunk
        if len(body) > LARGEST_BYTES:
            return None
    return body


def parse(body: bytes) -> PodReport:
    """A body as a report; fields that we do not know are ignored, a newer contract is not."""
    try:
        status = PodStatus.model_validate_json(body)
    except ValidationError:
        return PodReport(problem="its /status is not what this operator understands", incompatible=True)
    if status.contract_version != CONTRACT_VERSION:
        theirs = f"version {status.contract_version}, this operator version {CONTRACT_VERSION}"
        return PodReport(problem=f"its runtime speaks contract {theirs}", incompatible=True)
    return PodReport(status=status)
