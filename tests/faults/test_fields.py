"""The table of fields covers the schema: every field of the spec is changed by the sequences, or waits for a phase."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.fields import FIELDS, LATER, random_spec
from tests.faults.harness import Scope
from tests.support.schemas import is_leaf, nodes


def _spec_schema() -> dict[str, Any]:
    (file,) = Path("crds").glob("*.yaml")
    version = yaml.safe_load(file.read_text())["spec"]["versions"][0]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def _covered(path: str) -> bool:
    known = [f.path for f in FIELDS] + list(LATER)
    return any(path == k or path.startswith((f"{k}.", f"{k}[")) for k in known)


@pytest.mark.parametrize("path", sorted(p.lstrip(".") for p, schema in nodes(_spec_schema()) if is_leaf(schema)))
def test_a_field_of_the_spec_is_in_the_table_or_waits_for_something(path: str) -> None:
    assert _covered(path)


def test_no_row_names_a_field_that_there_is_not() -> None:
    known = {p.lstrip(".") for p, _ in nodes(_spec_schema())}
    assert {f.path for f in FIELDS} <= known
    assert set(LATER) <= known


def test_random_specs_are_the_same_for_a_seed() -> None:
    scope = Scope(7, full=False)
    assert random_spec(scope.rng("x"), 5) == random_spec(scope.rng("x"), 5)
