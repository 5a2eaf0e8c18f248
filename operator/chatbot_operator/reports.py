"""What a pod said of itself: a /status body -> PodReport. Pure; it must not know how the body came."""

from dataclasses import dataclass

from pydantic import ValidationError

from chatbot_runtime.contract import CONTRACT_VERSION, PodStatus


@dataclass(frozen=True)
class PodReport:
    """What one pod said of itself, or why nothing usable came."""

    status: PodStatus | None = None
    problem: str = ""
    incompatible: bool = False
    """The pod speaks another version of the contract."""


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
