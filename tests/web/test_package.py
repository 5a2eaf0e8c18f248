"""The page as a Node package: types, units, size, and a lock file that names no place."""

import json
import re

import pytest

from tests.web import tools


@pytest.mark.parametrize("script", ["lint", "test"])
def test_a_script_of_the_package_passes(script: str) -> None:
    tools.run(("npm", "run", script), tools.packages())


def test_what_is_loaded_first_is_within_its_budget() -> None:
    tools.page()
    size = re.search(r"initial JavaScript: (\d+) bytes", tools.run(("npm", "run", "size"), tools.WEB))
    assert size
    assert 60_000 < int(size[1]) <= 140_000


def test_colours_for_code_are_not_loaded_first() -> None:
    page = (tools.page() / "index.html").read_text()
    assert "highlight" not in page
    assert list((tools.PAGE / "assets").glob("highlight-*.js.gz"))


def test_the_lock_file_names_no_address() -> None:
    lock = (tools.WEB / "package-lock.json").read_text()
    packages = json.loads(lock)["packages"]
    assert len(packages) > 100
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert all("integrity" in package for name, package in packages.items() if name)
