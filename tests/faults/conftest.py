"""All rows that are asked for run side by side, once; each test then shows how its own row ended."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.__main__ import SEED
from tests.faults.harness import Result, Row, Scope, harness_on
from tests.faults.report import markdown
from tests.support.cluster import fresh_control_plane

REPORT = Path(".pytest_cache/faults.md")


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Result]]:
    """By id, of the rows whose tests were chosen."""
    rows: list[Row] = [
        item.callspec.params["row"]
        for item in request.session.items
        if hasattr(item, "callspec") and "row" in item.callspec.params
    ]
    scope = Scope(SEED, full=False)
    with fresh_control_plane() as access:
        found = asyncio.run(_run(access, tmp_path_factory.mktemp("faults"), rows, scope))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(markdown(found, scope))
    yield {result.row.id: result for result in found}


async def _run(access, folder: Path, rows: list[Row], scope: Scope) -> list[Result]:  # type: ignore[no-untyped-def]
    async with harness_on(access, folder) as harness:
        return await harness.run(rows, scope)
