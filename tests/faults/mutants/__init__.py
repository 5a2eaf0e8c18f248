"""R10: seeded bugs of the operator's core, one row each, with what should notice. Pure data.

`python -m tests.faults.mutate` plants each in a copy of the tree and runs what should notice. `test_mutants.py` sees to
it that every row still fits the code.
"""

from tests.faults.mutants import decisions, machinery, objects, private
from tests.faults.mutants.base import Mutant

__all__ = ["MUTANTS", "Mutant"]

MUTANTS: tuple[Mutant, ...] = (*decisions.MUTANTS, *machinery.MUTANTS, *objects.MUTANTS, *private.MUTANTS)
