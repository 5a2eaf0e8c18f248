"""The command line of modules that generate files: write them, or check that they are current.

Knows nothing of what the files hold.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def main(module: str, files: Mapping[str, str], arguments: Sequence[str] | None = None) -> int:
    """Write `files` (path below the repository -> text), or with --check name those that differ; the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=f"Generate {', '.join(files)}.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is not current")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="the folder that holds them (default: this one)")
    options = parser.parse_args(arguments)
    stale = [path for path, text in files.items() if not _is_current(options.root / path, text)]
    for path in stale:
        if options.check:
            print(f"{path} is not current: run python -m {module}", file=sys.stderr)
            continue
        (options.root / path).parent.mkdir(parents=True, exist_ok=True)
        (options.root / path).write_text(files[path], encoding="utf-8")
        print(f"wrote {path}")
    return 1 if options.check and stale else 0


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
