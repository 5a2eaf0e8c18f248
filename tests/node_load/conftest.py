"""The fixtures of `tests/node`; these files have a cluster of their own, because they wear its nodes out."""

from tests.node.conftest import bot, chart, engine, hub, pytest_runtest_makereport, source

__all__ = ["bot", "chart", "engine", "hub", "pytest_runtest_makereport", "source"]
