"""Kubernetes quantities: parse, compare, print. Pure."""

import re
from decimal import Decimal
from math import ceil

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
}
_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([KMGTPE]i)|([numkMGTPE])|[eE]([+-]?\d+))?$")
GIBIBYTE = Decimal(2**30)


def quantity(text: str | int | float) -> Decimal:
    """The value of a quantity in its base unit (cores, bytes, pieces).

    The grammar is that of k8s.io/apimachinery's resource.Quantity. Raises ValueError for anything else.
    """
    match = _QUANTITY.match(str(text).strip())
    if not match:
        raise ValueError(f"{str(text)[:40]!r} is not a quantity; write one such as 500m, 2 or 4Gi")
    number, binary, decimal, exponent = match.groups()
    value = Decimal(number)
    if binary:
        return value * _BINARY[binary]
    if exponent:
        return value.scaleb(int(exponent))
    return value * _DECIMAL[decimal or ""]


def same_quantity(one: object, other: object) -> bool:
    """Whether two texts name the same amount: 1024Mi and 1Gi do."""
    try:
        return quantity(str(one)) == quantity(str(other))
    except ValueError:
        return False


def cpu_text(cores: Decimal) -> str:
    """Cores as a quantity, in thousandths rounded up: 1.4 is 1400m."""
    milli = ceil(cores * 1000)
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def memory_text(size: Decimal) -> str:
    """Bytes as a quantity, in the largest binary unit that is exact: 3968Mi."""
    whole = ceil(size)
    for unit, factor in reversed(_BINARY.items()):
        if whole and whole % factor == 0:
            return f"{whole // factor}{unit}"
    return str(whole)
