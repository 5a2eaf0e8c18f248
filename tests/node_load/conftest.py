"""The fixtures of `tests/node`; these files have a cluster of their own, because they wear its nodes out."""

from tests.node.conftest import bot, chart, pytest_runtest_makereport

__all__ = ["bot", "chart", "pytest_runtest_makereport"]
