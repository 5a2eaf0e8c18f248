"""Reads `images.toml`, the one description of what is in each image. It must not build anything."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from devcluster.errors import DevClusterError

DESCRIPTION = Path(__file__).resolve().parent.parent / "images.toml"
CHECKOUT = DESCRIPTION.parent.parent
REPOSITORY = "localhost"


@dataclass(frozen=True)
class ImageDescription:
    """One image: what is in it, and how a container of it starts."""

    name: str
    dockerfile: Path
    base: Literal["python", "nginx"]
    requirements: Path | None
    """Locked packages."""
    sources: tuple[Path, ...]
    page: Path | None
    """The sources of a page that is built."""
    page_folder: str
    entrypoint: tuple[str, ...]
    user: str
    workdir: str
    stop_signal: str
    environment: Mapping[str, str]
    optional: bool
    """Built and loaded only when it is named: most clusters do without it."""

    def reference(self, tag: str) -> str:
        """The name that a pod asks for; no registry answers to it, so nothing is ever pulled."""
        return f"{REPOSITORY}/{self.name}:{tag}"


def _one(name: str, table: Mapping[str, Any], checkout: Path) -> ImageDescription:
    base = table.get("base", "python")
    try:
        description = ImageDescription(
            name=name,
            dockerfile=checkout / table["dockerfile"],
            base=base,
            requirements=checkout / table["requirements"] if base == "python" else None,
            sources=tuple(checkout / source for source in table["sources"]) if base == "python" else (),
            page=checkout / table["page"] if base == "nginx" else None,
            page_folder=table["page_folder"] if base == "nginx" else "",
            entrypoint=tuple(table["entrypoint"]),
            user=table["user"],
            workdir=table.get("workdir", "/"),
            stop_signal=table.get("stop_signal", ""),
            environment=dict(table.get("environment", {})),
            optional=table.get("optional", False),
        )
    except KeyError as error:
        raise DevClusterError(f"image {name} in {DESCRIPTION.name} has no {error.args[0]}", "add it") from error
    for path in filter(None, (description.requirements, description.page, *description.sources)):
        if not path.exists():
            raise DevClusterError(f"image {name} needs {path.relative_to(checkout)}, which is not there")
    return description


def load(path: Path = DESCRIPTION, checkout: Path = CHECKOUT) -> dict[str, ImageDescription]:
    """Every described image by its name. Raises DevClusterError for a missing field or path."""
    tables = tomllib.loads(path.read_text())["images"]
    return {name: _one(name, table, checkout) for name, table in tables.items()}


def usual() -> dict[str, ImageDescription]:
    """Those that every cluster gets: all but the optional ones."""
    return {name: image for name, image in load().items() if not image.optional}
