"""`python -m tests.faults.mutate`: plants each seeded bug in a copy of the tree and runs what should notice (R10)."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "node_modules", "__pycache__", ".*_cache", ".hypothesis")
CAUGHT = 0.95
"""Share that must be caught."""
SECONDS = 600


def main() -> int:
    """Exit codes: 0 enough were caught, 1 too few."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutate", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only bugs whose description has one of these words")
    parser.add_argument("--rows", action="store_true", help="run rows of the fault table where no unit test noticed")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the table there too")
    arguments = parser.parse_args()
    mutants = [m for m in MUTANTS if not arguments.words or any(w in m.bug for w in arguments.words)]
    rows, caught = [], 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        for target in sorted({n for m in mutants for n in m.noticed_by if not n.startswith("row:")}):
            # A test that fails without any bug would notice every one.
            assert not _fails(tree, ["-m", "pytest", "-q", target]), f"{target} fails as it is"
        for number, mutant in enumerate(mutants, 1):
            by = _noticed(tree, mutant, rows=arguments.rows)
            caught += bool(by)
            rows.append((mutant, by))
            print(f"{number:>3}/{len(mutants)}  {by or 'SURVIVES':<28}  {mutant.bug}", file=sys.stderr, flush=True)
    text = _markdown(rows, caught)
    print(text)
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(text)
    return 0 if caught >= CAUGHT * len(mutants) else 1


def _noticed(tree: Path, mutant: Mutant, *, rows: bool) -> str:
    """What noticed it, or nothing."""
    file = tree / mutant.file
    original = file.read_text()
    assert original.count(mutant.old) == 1, f"{mutant.bug}: the code has changed"
    file.write_text(original.replace(mutant.old, mutant.new))
    try:
        for target in mutant.noticed_by:
            row = target.removeprefix("row:")
            if row != target and not rows:
                continue
            command = ["-m", "tests.faults", row] if row != target else ["-m", "pytest", "-q", "-x", target]
            if _fails(tree, command):
                return row if row != target else Path(target).name
    finally:
        file.write_text(original)
    return ""


def _fails(tree: Path, command: list[str]) -> bool:
    environ = os.environ | {"PYTHONPATH": f"{tree / 'operator'}:{tree}", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=tree, env=environ, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode == 1  # anything above is no failed test


def _markdown(rows: list[tuple[Mutant, str]], caught: int) -> str:
    lines = [
        "# Seeded bugs",
        "",
        f"{caught} of {len(rows)} caught.",
        "",
        "| bug | file | noticed by |",
        "|---|---|---|",
    ]
    for mutant, by in sorted(rows, key=lambda r: bool(r[1])):
        lines.append(f"| {mutant.bug} | {Path(mutant.file).name} | {by or f'**survives**: {mutant.survives}'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
