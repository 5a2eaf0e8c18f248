"""The table of seeded bugs fits the code: each can be planted, in exactly one place, and still parses."""

import ast
from pathlib import Path

import pytest

from tests.faults.mutants import MUTANTS, Mutant

LEAST = 40


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.bug)
def test_a_seeded_bug_can_be_planted(mutant: Mutant) -> None:
    text = Path(mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"{mutant.file} has it {text.count(mutant.old)} times"
    ast.parse(text.replace(mutant.old, mutant.new))
    missing = [n for n in mutant.noticed_by if not n.startswith("row:") and not Path(n).exists()]
    assert not missing
    assert mutant.noticed_by


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= LEAST
