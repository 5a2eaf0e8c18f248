"""One seeded bug as data. Pure."""

from dataclasses import dataclass

CORE = "operator/chatbot_operator"
UNIT = "tests/unit/operator"


@dataclass(frozen=True)
class Mutant:
    """One bug: in `file`, `old` becomes `new`. `noticed_by` are paths for pytest, or rows as `row:ID`."""

    bug: str
    file: str
    old: str
    new: str
    noticed_by: tuple[str, ...]
    survives: str = ""
    """Why nothing needs to notice it."""


def mutant(bug: str, file: str, old: str, new: str, *noticed_by: str) -> Mutant:
    paths = tuple(n if n.startswith("row:") else f"{UNIT}/{n}" for n in noticed_by)
    return Mutant(bug, f"{CORE}/{file}", old, new, paths)
