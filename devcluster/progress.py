"""Shows how far long work is: a bar on a terminal, plain lines elsewhere. It must not know what the work is."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

# A step that usually takes longer than this is announced before it starts, in seconds.
ANNOUNCE_AFTER = 3.0
# How often plain output repeats that a step is still running, in seconds.
REMINDER = 30.0


class Step(Protocol):
    """One running piece of work."""

    def detail(self, text: str) -> None:
        """Say what the step is doing now; call it as often as you like."""


class Progress(Protocol):
    """Where work reports to."""

    def step(self, text: str, usual: float | None = None) -> AbstractContextManager[Step]:
        """Run a piece of work; `usual` is how long it usually takes, in seconds."""

    def note(self, text: str) -> None:
        """Say one thing that stays on the screen."""


class _QuietStep:
    def detail(self, text: str) -> None:
        pass


class Silent:
    """Reports nothing."""

    @contextmanager
    def step(self, text: str, usual: float | None = None) -> Iterator[Step]:  # noqa: ARG002 - as in Progress
        yield _QuietStep()

    def note(self, text: str) -> None:
        pass


class _PlainStep:
    def __init__(self, out: TextIO, text: str, usual: float | None) -> None:
        self._out, self._text, self._usual = out, text, usual
        self._started = self._said = time.monotonic()

    def detail(self, text: str) -> None:
        now = time.monotonic()
        if now - self._said >= REMINDER:
            self._said = now
            expected = f" of about {self._usual:.0f} s" if self._usual else ""
            print(f"         {self._text}: {now - self._started:.0f} s{expected}, {text}", file=self._out, flush=True)


class Plain:
    """One line at the end of each step, and reminders during long ones."""

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out

    @contextmanager
    def step(self, text: str, usual: float | None = None) -> Iterator[Step]:
        started = time.monotonic()
        if usual and usual >= ANNOUNCE_AFTER:
            print(f"         {text} (usually about {usual:.0f} s)", file=self._out, flush=True)
        yield _PlainStep(self._out, text, usual)
        print(f"{time.monotonic() - started:6.1f} s {text}", file=self._out, flush=True)

    def note(self, text: str) -> None:
        print(f"         {text}", file=self._out, flush=True)


class _BarStep:
    def __init__(self, bar: RichProgress, task: object, usual: float | None) -> None:
        self._bar, self._task, self._usual, self._started = bar, task, usual, time.monotonic()

    def detail(self, text: str) -> None:
        elapsed = time.monotonic() - self._started
        # A bar that waits just below its end is honest about work that takes longer than usual.
        done = min(elapsed, 0.97 * self._usual) if self._usual else None
        self._bar.update(self._task, detail=text, completed=done)  # type: ignore[arg-type]


class Bar:
    """A bar for the running step, which becomes one line when it is done."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    @contextmanager
    def step(self, text: str, usual: float | None = None) -> Iterator[Step]:
        started = time.monotonic()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[usual]}[dim]{task.fields[detail]}"),
        )
        with RichProgress(*columns, console=self._console, transient=True) as bar:
            label = f"of about {usual:.0f} s  " if usual else ""
            task = bar.add_task(text, total=usual, usual=label, detail="")
            yield _BarStep(bar, task, usual)
        self._console.print(f"{time.monotonic() - started:6.1f} s {text}")

    def note(self, text: str) -> None:
        self._console.print(f"         {text}")


def for_this_terminal() -> Progress:
    """A bar if standard error is a terminal, else plain lines."""
    return Bar() if sys.stderr.isatty() else Plain()
