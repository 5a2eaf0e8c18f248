"""How far a download is. Pure: the clock is given. It must not know where models come from, nor who asks.

Written by one thread, and read by the same.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from chatbot_runtime.contract import DownloadReason, DownloadResult, DownloadStatus
from chatbot_runtime.downloads.base import Progress
from chatbot_runtime.downloads.volume import human

WINDOW_SECONDS = 10.0
"""The speed is that of the last so many seconds."""
_SAMPLE_SECONDS = 0.25
_BEFORE_THE_END = 99.9
"""Percent: 100 is said only when all is verified."""
MAX_RESULT_BYTES = 4096
"""What a container's termination message may have."""


class ProgressMeter:
    """The progress of a whole list of models."""

    def __init__(
        self, chatbot: str, list_hash: str, models: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._chatbot = chatbot
        self._list_hash = list_hash
        self._clock = clock
        self._models = {name: _Model(self, name) for name in models}
        self._current: _Model | None = None
        self._state: Any = "starting"
        self._reason: DownloadReason | None = None
        self._message = ""
        self._gained = 0
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])

    def of(self, name: str) -> Progress:
        """A try for one model begins: who fetches it tells its progress to what is returned."""
        self._current = model = self._models[name]
        model.first = True
        self._tell("starting")
        self._samples = deque([(self._clock(), self._gained)])
        return model

    def waits(self, message: str, reason: DownloadReason | None = None) -> None:
        """Nothing comes for a while."""
        self._tell("waiting", reason, message)

    def done(self) -> None:
        """All is there and verified."""
        self._current = None
        self._tell("done", "Downloaded")

    def failed(self, reason: DownloadReason, message: str) -> None:
        """This process gives up."""
        self._tell("failed", reason, message)

    @property
    def completed(self) -> int:
        """Bytes of all models that are on the volume."""
        return sum(model.completed for model in self._models.values())

    @property
    def total(self) -> int | None:
        """Bytes of all models; None as long as one has not said its size."""
        totals = [model.total for model in self._models.values()]
        return None if None in totals else sum(total or 0 for total in totals)

    def status(self) -> DownloadStatus:
        """What `/status` says."""
        completed, total = self.completed, self.total
        speed = self._speed()
        left = None
        if self._state == "done":
            left = 0.0
        elif total is not None and speed > 0:
            left = (total - completed) / speed
        return DownloadStatus(
            chatbot=self._chatbot,
            list_hash=self._list_hash,
            state=self._state,
            model=self._current.name if self._current else "",
            percent=self._percent(completed, total),
            completed_bytes=completed,
            total_bytes=total,
            bytes_per_second=round(speed, 1),
            seconds_left=None if left is None else round(left, 1),
            reason=self._reason,
            message=self._message,
        )

    def moved(self, gained: int, state: str) -> None:
        """A model has told something."""
        if self._state != state:
            self._tell(state)
        self._gained += max(0, gained)
        now = self._clock()
        if now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, self._gained))
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW_SECONDS:
            self._samples.popleft()

    def _tell(self, state: str, reason: DownloadReason | None = None, message: str = "") -> None:
        self._state, self._reason, self._message = state, reason, message

    def _percent(self, completed: int, total: int | None) -> float | None:
        if self._state == "done":
            return 100.0
        if not total:
            return None
        return min(math.floor(1000 * completed / total) / 10, _BEFORE_THE_END)

    def _speed(self) -> float:
        if self._state != "downloading":
            return 0.0
        now = self._clock()
        then, gained = next(
            (sample for sample in reversed(self._samples) if sample[0] <= now - WINDOW_SECONDS), self._samples[0]
        )
        return (self._gained - gained) / max(now - then, _SAMPLE_SECONDS)


class _Model:
    """One model of the list; what its source tells."""

    def __init__(self, meter: ProgressMeter, name: str) -> None:
        self._meter = meter
        self.name = name
        self.total: int | None = None
        self.completed = 0
        self.first = True

    def expect(self, total_bytes: int) -> None:
        self.total = max(total_bytes, 0)
        self._meter.moved(0, "downloading")

    def have(self, completed_bytes: int) -> None:
        before = self.completed
        self.completed = max(completed_bytes, 0)
        if self.total is not None:
            self.completed = min(self.completed, self.total)
        # What an earlier try has left was not won now, and says nothing of the speed.
        self._meter.moved(0 if self.first else self.completed - before, "downloading")
        self.first = False

    def verifying(self) -> None:
        self._meter.moved(0, "verifying")


def line(status: DownloadStatus) -> tuple[str, dict[str, Any]]:
    """A line for the log: words, and the same as facts."""
    facts = {
        "model": status.model or None,
        "percent": status.percent,
        "completed": status.completed_bytes,
        "total": status.total_bytes,
        "speed": round(status.bytes_per_second),
        "left": None if status.seconds_left is None else round(status.seconds_left),
    }
    if status.state in ("starting", "waiting"):
        return " ".join(filter(None, (status.state, status.message))), facts
    of = "" if status.total_bytes is None else f" of {human(status.total_bytes)}"
    words = [f"{human(status.completed_bytes)}{of}"]
    if status.percent is not None:
        words.insert(0, f"{status.percent:g} %")
    if status.state == "downloading":
        words.append(f"{human(status.bytes_per_second)}/s")
        if status.seconds_left is not None:
            words.append(f"{status.seconds_left:.0f} s left")
    return f"{status.state} {', '.join(words)}", facts


def last_words(result: DownloadResult) -> bytes:
    """A result as JSON that fits into a termination message; its message is cut if it must be."""
    text = result.model_dump_json(by_alias=True).encode()
    if len(text) <= MAX_RESULT_BYTES:
        return text
    message = result.message
    while message:
        message = message[: len(message) * 9 // 10]
        text = result.model_copy(update={"message": message + "…"}).model_dump_json(by_alias=True).encode()
        if len(text) <= MAX_RESULT_BYTES:
            return text
    return last_words(result.model_copy(update={"models": result.models[:-1], "message": "…"}))
