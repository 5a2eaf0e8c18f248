"""All rows, in the order of the design: hold it against quality.md."""

from collections.abc import Sequence

from tests.faults.harness import Row
from tests.faults.rows import api_server, objects, operator, specs

ROWS: Sequence[Row] = (*operator.ROWS, *api_server.ROWS, *objects.ROWS, *specs.ROWS)


def chosen(patterns: Sequence[str]) -> list[Row]:
    """The rows whose id begins with one of the patterns; all without any. Raises LookupError for one without a row."""
    for pattern in patterns:
        if not any(row.id.startswith(pattern) for row in ROWS):
            raise LookupError(f"no row begins with {pattern!r}; there are {', '.join(row.id for row in ROWS)}")
    return [row for row in ROWS if not patterns or row.id.startswith(tuple(patterns))]
