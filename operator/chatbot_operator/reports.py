"""What a pod said of itself: a /status body -> PodReport. Pure; it must not know how the body came."""

from dataclasses import dataclass

from pydantic import ValidationError

from chatbot_runtime.contract import CONTRACT_VERSION, DownloadStatus, PodStatus


@dataclass(frozen=True)
class PodReport:
    """What one pod said of itself, or why nothing usable came."""

    status: PodStatus | None = None
    download: DownloadStatus | None = None
    """What a downloader's pod says in place of `status`."""
    problem: str = ""
    incompatible: bool = False
    """The pod speaks another version of the contract."""


def parse(body: bytes) -> PodReport:
    """The report of a backend's pod; fields that we do not know are ignored, a newer contract is not."""
    return _parsed(body, PodStatus)


def parse_download(body: bytes) -> PodReport:
    """The same of a downloader's pod."""
    return _parsed(body, DownloadStatus)


def _parsed(body: bytes, shape: type[PodStatus] | type[DownloadStatus]) -> PodReport:
    try:
        status = shape.model_validate_json(body)
    except ValidationError:
        return PodReport(problem="its /status is not what this operator understands", incompatible=True)
    if status.contract_version != CONTRACT_VERSION:
        theirs = f"version {status.contract_version}, this operator version {CONTRACT_VERSION}"
        return PodReport(problem=f"its runtime speaks contract {theirs}", incompatible=True)
    return PodReport(download=status) if isinstance(status, DownloadStatus) else PodReport(status=status)
