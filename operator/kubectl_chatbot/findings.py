"""What a look at something came to: fine, doubtful, wrong, or not to be known. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failed", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. The message of what is not fine says what to do."""

    verdict: Verdict
    check: str
    message: str


@dataclass(frozen=True)
class Unknown:
    """Something that could not be read, and why."""

    reason: str


def ok(check: str, message: str) -> Finding:
    return Finding("ok", check, message)


def warning(check: str, message: str) -> Finding:
    return Finding("warning", check, message)


def failed(check: str, message: str) -> Finding:
    return Finding("failed", check, message)


def unknown(check: str, why: Unknown) -> Finding:
    return Finding("unknown", check, why.reason)


def plain(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """As a script reads them."""
    return [{"check": f.check, "result": f.verdict, "message": f.message} for f in findings]


def any_failed(findings: Iterable[Finding]) -> bool:
    return any(finding.verdict == "failed" for finding in findings)
