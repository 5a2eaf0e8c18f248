"""When a model is tried again. Pure. It must not know how it is fetched."""

from dataclasses import dataclass

from chatbot_runtime.contract import PERMANENT
from chatbot_runtime.downloads.base import DownloadError

MAX_PAUSE = 60.0
"""Seconds, where the source does not say how long."""


@dataclass(slots=True)
class Patience:
    """The tries for one model. `retries`: failures in a row, without bytes won in between, that are borne."""

    retries: int
    failed: int = 0
    most: int = 0

    def pause(self, error: DownloadError, completed: int) -> float | None:
        """Seconds until the next try; None: there is none. `completed`: bytes that are there now."""
        if error.reason in PERMANENT:
            return None
        if completed > self.most and error.reason != "DigestMismatch":
            self.failed = 0
        self.most = max(self.most, completed)
        self.failed += 1
        if self.failed > self.retries:
            return None
        return error.retry_after or min(2.0 ** (self.failed - 1), MAX_PAUSE)
