"""All rows, in the order of the design: hold it against quality.md."""

from collections.abc import Sequence

from tests.faults.harness import Row
from tests.faults.rows import answers, api_server, leases, neighbours, objects, operator, specs, upgrades

ROWS: Sequence[Row] = (
    *operator.ROWS,
    *leases.ROWS,
    *upgrades.ROWS,
    *api_server.ROWS,
    *answers.ROWS,
    *objects.ROWS,
    *neighbours.ROWS,
    *specs.ROWS,
)


SHARE = frozenset(
    (
        *("A1-smallest", "A3", "A7", "A8", "A9", "A10", "A12"),
        *("B1", "B2", "B3", "B4-list", "B5", "B6", "B7", "B7-restart", "B8-once", "B9", "B10", "B11", "B13", "B14"),
        *("R3-500", "R3-429", "R3-reset", "R3-answer-lost"),
        *("C2", "C3", "C4", "C5", "C6", "C9", "C10", "C12", "C13"),
        *("D2", "D6", "D6-page", "D6-phases", "D7", "D8", "D14"),
    )
)
"""What `make test` runs a seeded part of: one row at least of each kind of trouble, in about three minutes."""


def chosen(patterns: Sequence[str]) -> list[Row]:
    """The rows whose id begins with one of the patterns; all without any. Raises LookupError for one without a row."""
    for pattern in patterns:
        if not any(row.id.startswith(pattern) for row in ROWS):
            raise LookupError(f"no row begins with {pattern!r}; there are {', '.join(row.id for row in ROWS)}")
    return [row for row in ROWS if not patterns or row.id.startswith(tuple(patterns))]
