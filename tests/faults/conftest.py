"""All rows that are asked for run side by side, once; each test then shows how its own row ended."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.__main__ import SEED
from tests.faults.harness import Result, Row, Scope, harness_on
from tests.faults.report import markdown
from tests.support.cluster import ClusterAccess, fresh_control_plane

REPORT = Path(".pytest_cache/faults.md")


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """By id, of the rows whose tests were chosen."""
    chosen = (getattr(item, "callspec", None) for item in request.session.items)
    rows: list[Row] = [call.params["row"] for call in chosen if call and "row" in call.params]
    scope = Scope(SEED, full=False)
    with fresh_control_plane() as access:
        found = asyncio.run(_run(access, tmp_path_factory.mktemp("faults"), rows, scope))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(markdown(found, scope))
    return {result.row.id: result for result in found}


async def _run(access: ClusterAccess, folder: Path, rows: list[Row], scope: Scope) -> list[Result]:
    async with harness_on(access, folder) as harness:
        return await harness.run(rows, scope)
