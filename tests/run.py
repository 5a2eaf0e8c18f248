"""`make test`: runs every check in turn, shows each runner's own output, and ends with a summary of what was skipped
and why. Exit code 0: all passed."""

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

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
    (PYTHON, "-m", "pytest", "-q", "tests/unit/api/test_examples.py"),
)
LEVELS = ("unit", "control-plane", "node")
# A file has a control plane of its own and mostly waits for it: two at once take little more than half the time.
WORKERS = {"control-plane": ("-n", "2", "--dist", "loadfile")}


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


def level(name: str) -> Result:
    """One folder of tests by pytest."""
    started = time.monotonic()
    report = ROOT / ".pytest_cache" / f"{name}.xml"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    folder = f"tests/{name.replace('-', '_')}"
    print(f"\n$ pytest {folder}", flush=True)
    # A run of its own for each level: one's leftovers cannot reach another.
    command = (PYTHON, "-m", "pytest", "-q", f"--junit-xml={report}", *WORKERS.get(name, ()), folder)
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    result = Result(name, code == 0, time.monotonic() - started, skipped=Counter())
    if report.exists():
        for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - written by our own pytest
            skipped = case.find("skipped")
            if skipped is not None:
                result.skipped = (result.skipped or Counter()) + Counter([skipped.get("message", "no reason")])
            elif case.find("failure") is None and case.find("error") is None:
                result.passed += 1
    return result


def main(names: list[str]) -> int:
    """Run the named steps, or all."""
    os.chdir(ROOT)
    unknown = set(names) - {"lint", *LEVELS}
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; known are lint, {', '.join(LEVELS)}", file=sys.stderr)
        return 2
    results = [lint() if name == "lint" else level(name) for name in names or ("lint", *LEVELS)]
    print("\nsummary")
    for result in results:
        verdict = "ok" if result.ok else "FAILED"
        count = f"{result.passed:>5} passed" if result.name != "lint" else " " * 12
        skipped = result.skipped or Counter()
        print(f"  {result.name:<14} {verdict:<7} {count}  {skipped.total():>3} skipped  {result.seconds:6.0f} s")
        for reason, times in skipped.most_common():
            print(f"  {'':<14} skipped {times}: {reason}")
    return 0 if all(r.ok for r in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
