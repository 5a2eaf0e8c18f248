"""`python -m tests.faults`: runs rows of the table on a control plane of its own and writes the report."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.faults.harness import Result, Row, Scope, harness_on
from tests.faults.report import markdown
from tests.faults.table import chosen
from tests.support.cluster import fresh_control_plane

SEED = 20261125


def main() -> int:
    """Exit codes: 0 all rows passed, 1 a row failed, 2 a bad argument."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="ids, or what they begin with; default: all")
    parser.add_argument("--full", action="store_true", help="everything of each row instead of a seeded share")
    parser.add_argument("--seed", type=int, default=SEED, help="chooses the share (default: %(default)s)")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="only every N-th row, from the I-th on")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep every operator's log and calls in there")
    arguments = parser.parse_args()
    try:
        index, count = map(int, arguments.shard.split("/"))
        rows = chosen(arguments.rows)[index - 1 :: count]
    except (LookupError, ValueError) as error:
        parser.error(str(error))
    scope = Scope(arguments.seed, arguments.full)
    results = asyncio.run(_run(rows, scope, arguments.logs))
    text = markdown(results, scope)
    print(text)
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(text)
    return 1 if any(r.error for r in results) else 0


async def _run(rows: list[Row], scope: Scope, logs: Path | None) -> list[Result]:
    done = 0

    def told(result: Result) -> None:
        nonlocal done
        done += 1
        verdict = "FAILED" if result.error else "ok"
        print(f"{done:>3}/{len(rows)}  {result.row.id:<16} {verdict:<6} {result.seconds:6.1f} s", file=sys.stderr)

    with fresh_control_plane() as access, tempfile.TemporaryDirectory(prefix="faults-") as folder:
        async with harness_on(access, logs or Path(folder)) as harness:
            return await harness.run(rows, scope, told)


if __name__ == "__main__":
    sys.exit(main())
