"""A seeded part of some rows of the table; `make faults` runs all of all. See table.py."""

import pytest

from tests.faults.harness import Result, Row
from tests.faults.table import ROWS, SHARE


@pytest.mark.timeout(900)  # the first one waits for all of them
@pytest.mark.parametrize("row", [r for r in ROWS if r.id in SHARE], ids=lambda r: r.id)
def test_nothing_is_lost(row: Row, results: dict[str, Result]) -> None:
    result = results[row.id]
    assert not result.error, f"{row.inject}: expected: {row.expect}\n{result.error}"
    assert result.tally.runs, "it checked nothing"
