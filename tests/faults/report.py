"""The report of a run: Markdown, one table, failures first. Pure."""

import statistics
from collections.abc import Sequence

from tests.faults.harness import Result, Scope


def markdown(results: Sequence[Result], scope: Scope) -> str:
    """Every row with what was injected, how often, how fast it recovered, and what went wrong."""
    failed = [r for r in results if r.error]
    runs = sum(r.tally.runs for r in results)
    size = "all" if scope.full else "a seeded share"
    lines = [
        "# Faults",
        "",
        f"{len(results)} rows, {len(failed)} failed, {runs} runs; {size}, seed {scope.seed}.",
        "",
        "| row | injected | expected | runs | recovered, median / slowest | seconds | verdict |",
        "|---|---|---|--:|--:|--:|---|",
    ]
    for result in sorted(results, key=lambda r: (not r.error, r.row.id)):
        verdict = "**failed**" if result.error else "ok"
        notes = "".join(f"; {note}" for note in result.tally.notes)
        cells = (
            result.row.id,
            result.row.inject,
            result.row.expect,
            str(result.tally.runs),
            _recovery(result.tally.recovery),
            f"{result.seconds:.0f}",
            verdict + notes,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for result in failed:
        lines += ["", f"## {result.row.id}", "", "```", result.error, "```"]
    return "\n".join(lines) + "\n"


def _recovery(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f} / {max(seconds):.1f} s" if seconds else ""
