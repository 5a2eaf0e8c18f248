"""The terminal: tables, colours, JSON. Colours only where a person looks. It must not know the cluster."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kubectl_chatbot.findings import Finding

STYLES = {
    "ok": "green",
    "warning": "yellow",
    "failed": "red",
    "unknown": "dim",
    "True": "green",
    "create": "green",
    "change": "yellow",
    "delete": "red",
    "keep": "dim",
}
_WIDE = 10_000


def console(*, stderr: bool = False) -> Console:
    """On a terminal as wide as it is; elsewhere lines are never broken."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDE
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def say(text: str) -> None:
    """One line of output."""
    console().print(text)


def tell(text: str, style: str = "") -> None:
    """One line beside the output: what is going on, and errors."""
    console(stderr=True).print(text, style=style or None)


def as_json(value: Any, *, line: bool = False) -> None:
    """Output for a script; as one line where there are several."""
    print(json.dumps(value, indent=None if line else 2, default=str), flush=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Aligned columns, as kubectl prints them; the last one is broken into lines where it is too long."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_edge=False, header_style="bold")
    for index, name in enumerate(head):
        last = index == len(head) - 1
        made.add_column(name, no_wrap=not last, overflow="fold", justify="right" if name in right else "left")
    for row in rows:
        made.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    _print(made)


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values, aligned."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_edge=False, show_header=False)
    made.add_column(no_wrap=True, style="bold")
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, Text(value))
    _print(made)


def findings(found: Iterable[Finding]) -> None:
    """One line for each; what is wrong says what to do."""
    table(("RESULT", "CHECK", "MESSAGE"), ((f.verdict, f.check, f.message) for f in found))


def _print(made: Table) -> None:
    """Without the blanks that fill a table's last column."""
    out = console()
    if out.is_terminal:
        out.print(made)
        return
    with out.capture() as captured:
        out.print(made)
    print("\n".join(line.rstrip() for line in captured.get().rstrip("\n").splitlines()))
