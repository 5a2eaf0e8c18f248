"""`python -m devcluster.images.sizes [--check]`: writes how large our images are into the README, or compares.

It measures what the builder without Docker makes; it must not know how that is done.
"""

import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.images import builder, description
from devcluster.images.description import CHECKOUT
from devcluster.progress import for_this_terminal

README = CHECKOUT / "README.md"
BEGIN, END = "<!-- Sizes, by `make sizes`. -->\n", "<!-- End of the sizes. -->"
MB = 1_000_000
# How far the README may be from what is measured, as a part of it: machines have different bases.
TOLERANCE = 0.15


@dataclass(frozen=True)
class Size:
    """One image in bytes: on a node, and about as a registry sends it."""

    unpacked: int
    packed: int


def measure(archive: Path) -> Size:
    """The size of an archive's layers, and of the same packed."""
    unpacked = packed = 0
    packer = zlib.compressobj(level=1, wbits=31)
    with archive.open("rb") as file:
        while block := file.read(1 << 20):
            unpacked += len(block)
            packed += len(packer.compress(block))
    return Size(unpacked, packed + len(packer.flush()))


def table(sizes: Mapping[str, Size]) -> str:
    rows = [f"| `{name}` | {size.unpacked / MB:.0f} MB | {size.packed / MB:.0f} MB |" for name, size in sizes.items()]
    return "\n".join(["| image | on a node | to download |", "|---|---|---|", *rows]) + "\n"


def stated(readme: str) -> dict[str, Size]:
    """What the README says. Raises DevClusterError if it says nothing."""
    _, begin, rest = readme.partition(BEGIN)
    text, end, _ = rest.partition(END)
    if not (begin and end):
        raise DevClusterError(f"{README.name} has no table of sizes", f"put {BEGIN.strip()} and {END} where it belongs")
    rows = re.findall(r"^\| `(\S+)` \| (\d+) MB \| (\d+) MB \|$", text, re.MULTILINE)
    return {name: Size(int(unpacked) * MB, int(packed) * MB) for name, unpacked, packed in rows}


def differences(said: Mapping[str, Size], measured: Mapping[str, Size]) -> list[str]:
    """A sentence for each figure that is too far from what was measured."""
    found = []
    for name in {**said, **measured}:
        if name not in said or name not in measured:
            found.append(f"{name} is only {'measured' if name in measured else 'in the README'}")
            continue
        old, new = said[name], measured[name]
        for what, there, here in (("unpacked", old.unpacked, new.unpacked), ("packed", old.packed, new.packed)):
            if abs(there - here) > max(TOLERANCE * here, MB):
                found.append(f"{name}, {what}: {there / MB:.0f} MB in the README, {here / MB:.0f} MB measured")
    return found


def main(arguments: Sequence[str]) -> int:
    try:
        built = builder.build_all(for_this_terminal(), description.load())
        sizes = {name: measure(image.archive) for name, image in built.items()}
        readme = README.read_text()
        wrong = differences(stated(readme), sizes)
    except DevClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if "--check" in arguments:
        print("\n".join([*wrong, "run `make sizes`"]) if wrong else table(sizes), end="\n" if wrong else "")
        return 1 if wrong else 0
    before, _, rest = readme.partition(BEGIN)
    README.write_text(before + BEGIN + "\n" + table(sizes) + "\n" + END + rest.partition(END)[2])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
