"""Kubernetes quantities and label selectors, as pure functions."""

import re
from decimal import Decimal, InvalidOperation

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkKMGTP]?i?)")
_SET_TERM = re.compile(r"(\S+)\s+(notin|in)\s*\((.*)\)")
_TERM = re.compile(r"[^,(]+\([^)]*\)|[^,]+")


def parse_quantity(text: str) -> float:
    """The number that a quantity such as `100m`, `1.5Gi` or `2e3` stands for. Raises ValueError if it is none."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity")
    try:
        return float(Decimal(match[1]) * _SUFFIXES[match[2]])
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a quantity") from error


def _term_matches(term: str, labels: dict[str, str]) -> bool:
    if match := _SET_TERM.fullmatch(term):
        values = {value.strip() for value in match[3].split(",")}
        return (labels.get(match[1]) in values) == (match[2] == "in")
    if "!=" in term:
        key, value = term.split("!=", 1)
        return labels.get(key.strip()) != value.strip()
    if "=" in term:
        key, value = re.split("==?", term, maxsplit=1)
        return labels.get(key.strip()) == value.strip()
    return (term.lstrip("!").strip() in labels) != term.startswith("!")


def selects(selector: str, labels: dict[str, str]) -> bool:
    """Whether a label selector in its textual form (equality, set and existence terms) matches; an empty one does."""
    return all(_term_matches(term.strip(), labels) for term in _TERM.findall(selector))
