"""`make test`: runs every check in turn, shows each runner's own output, and ends with a summary of what was skipped
and why. Exit code 0: all passed."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.build import PROGRAMS, Programs
from devcluster.errors import DevClusterError
from devcluster.progress import Plain

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PYTHON = sys.executable

LINT: tuple[tuple[str, ...], ...] = (
    (str(BIN / "ruff"), "format", "--check", "."),
    (str(BIN / "ruff"), "check", "."),
    (str(BIN / "mypy"),),
    (str(BIN / "lint-imports"), "--no-cache"),
    (PYTHON, "-m", "chatbot_operator.api.crd", "--check"),
    (PYTHON, "-m", "chatbot_operator.api.reference", "--check"),
    (PYTHON, "-m", "tests.reference", "--check"),
    (PYTHON, "-m", "charts.generate", "--check"),
    (PYTHON, "-m", "pytest", "-q", "tests/unit/api/test_examples.py"),
)
LEVELS = ("unit", "stress", "web", "control-plane", "chart", "security", "faults", "node", "node-load", "devcluster")
WITHOUT_CLUSTER = {"lint", "unit", "stress", "web"}
# Two lanes of two workers keep two cores busy; with more, every wait grows longer and nothing ends earlier.
WORKERS = dict.fromkeys(("unit", "web", "control-plane", "chart", "security"), ("-n", "2", "--dist", "loadfile"))


@dataclass
class Result:
    """How one step ended."""

    name: str
    ok: bool
    seconds: float
    passed: int = 0
    skipped: Counter[str] | None = None


def lint() -> Result:
    """All gates, also after one has failed."""
    started, ok = time.monotonic(), True
    for command in LINT:
        print(f"\n$ {' '.join(Path(c).name if c.startswith('/') else c for c in command)}", flush=True)
        ok &= subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    return Result("lint", ok, time.monotonic() - started)


def programs() -> Result:
    """The cluster's programs, built before any test waits for them: the first time takes a quarter of an hour."""
    started, ok = time.monotonic(), True
    try:
        Programs(Plain()).ensure(PROGRAMS)
    except DevClusterError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        ok = False
    return Result("programs", ok, time.monotonic() - started)


@dataclass
class Level:
    """Folders of tests by pytest, in a run of its own: one's leftovers cannot reach another. The first names it."""

    name: str
    beside: tuple[str, ...] = ()
    output: int | None = None
    """A file to write to, while another step has the screen."""

    def start(self) -> "Level":
        self._started = time.monotonic()
        self._report = ROOT / ".pytest_cache" / f"{self.name}.xml"
        self._report.parent.mkdir(exist_ok=True)
        self._report.unlink(missing_ok=True)
        workers = WORKERS.get(self.name, ())
        folders = map(folder_of, (self.name, *self.beside))
        command = (PYTHON, "-m", "pytest", "-q", f"--junit-xml={self._report}", *workers, *folders)
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=self.output, stderr=self.output)
        return self

    def result(self) -> Result:
        """Wait for its end."""
        code = self._process.wait()
        result = Result(
            ", ".join((self.name, *self.beside)), code == 0, time.monotonic() - self._started, skipped=Counter()
        )
        if self._report.exists():
            for case in ET.parse(self._report).getroot().iter("testcase"):  # noqa: S314 - written by our own pytest
                skipped = case.find("skipped")
                if skipped is not None:
                    result.skipped = (result.skipped or Counter()) + Counter([skipped.get("message", "no reason")])
                elif case.find("failure") is None and case.find("error") is None:
                    result.passed += 1
        return result

    def stop(self) -> None:
        """End it as Ctrl-C would, so that its clusters go."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()


def folder_of(name: str) -> str:
    """Where the tests of a level are."""
    return f"tests/{name.replace('-', '_')}"


def level(name: str, *beside: str) -> Result:
    """Run one level with the screen to itself; those beside it in the same run, so that nobody waits for its last."""
    print(f"\n$ pytest {' '.join(map(folder_of, (name, *beside)))}", flush=True)
    return Level(name, beside=beside).start().result()


def everything() -> list[Result]:
    """All steps, in two lanes that take about as long: what keeps the processor busy beside what mostly waits. The
    second is shown after. The fault rows are by themselves: they look at what is written in a moment of rest."""
    built = programs()
    with tempfile.TemporaryDirectory() as folder:
        behind = Lane(("node", "web"), Path(folder))
        behind.start()
        try:
            shown = [lint(), level("unit"), level("control-plane", "chart", "security")]
            behind.join()
        finally:
            behind.stop()
        behind.show()
    return [built, *shown, *behind.results, level("faults")]


class Lane(threading.Thread):
    """Levels that run one after the other while others have the screen; each writes to a file of its own."""

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        super().__init__(daemon=True)
        self.results: list[Result] = []
        self._files = {name: folder / name for name in names}
        self._running: Level | None = None
        self._stopped = False

    def run(self) -> None:
        for name, file in self._files.items():
            with file.open("wb") as output:
                if self._stopped:
                    return
                self._running = Level(name, output=output.fileno()).start()
                self.results.append(self._running.result())

    def stop(self) -> None:
        """End what runs, and begin nothing more."""
        self._stopped = True
        if self._running is not None:
            self._running.stop()
        self.join()

    def show(self) -> None:
        """What they have written."""
        for name, file in self._files.items():
            print(f"\n$ pytest {folder_of(name)}\n{file.read_text(errors='replace')}", flush=True)


def some(names: list[str]) -> list[Result]:
    """The named steps, in that order."""
    built = [programs()] if {*names} - WITHOUT_CLUSTER else []
    return [*built, *(lint() if name == "lint" else level(name) for name in names)]


def main(names: list[str]) -> int:
    """Run the named steps, or all."""
    os.chdir(ROOT)
    unknown = set(names) - {"lint", *LEVELS}
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; known are lint, {', '.join(LEVELS)}", file=sys.stderr)
        return 2
    results = some(names) if names else everything()
    print("\nsummary")
    for result in results:
        verdict = "ok" if result.ok else "FAILED"
        count = f"{result.passed:>5} passed" if result.skipped is not None else " " * 12
        skipped = result.skipped or Counter()
        print(f"  {result.name:<32} {verdict:<7} {count}  {skipped.total():>3} skipped  {result.seconds:6.0f} s")
        for reason, times in skipped.most_common():
            print(f"  {'':<32} skipped {times}: {reason}")
    return 0 if all(r.ok for r in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
