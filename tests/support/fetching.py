"""What a fetch of a model tells of itself, and how it is refused. No test logic here."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from chatbot_runtime.downloads.base import DownloadError
from tests.support.runtime_process import until


class Told:
    """What a fetch tells of its progress."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.completed: list[int] = []
        self.verified = 0

    @property
    def total(self) -> int:
        """What it said last."""
        return self.totals[-1] if self.totals else 0

    def expect(self, total_bytes: int) -> None:
        self.totals.append(total_bytes)

    def have(self, completed_bytes: int) -> None:
        assert completed_bytes <= self.total
        self.completed.append(completed_bytes)

    def verifying(self) -> None:
        self.verified += 1


async def refusal(work: Awaitable[Any]) -> DownloadError:
    with pytest.raises(DownloadError) as refused:
        await work
    assert str(refused.value).endswith(".")
    return refused.value


async def is_so(condition: Any, what: str) -> None:
    """Waits without keeping the event loop from its work."""
    await asyncio.to_thread(until, condition, what)
