"""Makes the layer with the chat page's files, by the page's own build. It must not know what serves them."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.images.archive import folder_layer

SOURCES = (
    *("src", "public", "scripts", "index.html", "vite.config.ts", "tsconfig.json"),
    *("package.json", "package-lock.json", ".npmrc"),
)
REMEDY = "install Node.js 20.19 or newer (https://nodejs.org)"


def node_version() -> tuple[int, ...]:
    """Of the Node.js on the PATH; empty if there is none."""
    if not shutil.which("node") or not shutil.which("npm"):
        return ()
    result = subprocess.run(("node", "--version"), capture_output=True, text=True, check=False)
    numbers = result.stdout.strip().removeprefix("v").split(".")
    return tuple(int(number) for number in numbers if number.isdigit())


def page_layer(source: Path, target_folder: str, folder: Path) -> Path:
    """The built page below `target_folder`, made anew when a source of it changes. Raises DevClusterError."""
    digest = hashlib.sha256(target_folder.encode() + Path(__file__).read_bytes())
    for path in page_files(source):
        digest.update(f"\0{path.relative_to(source)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    target = folder / f"page-{digest.hexdigest()[:16]}.tar"
    if target.exists():
        return target
    if node_version() < (20, 19):
        raise DevClusterError("Node.js 20.19 or newer is needed to build the chat page", REMEDY)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        # In a copy: two may build at once, and the checkout stays as it is.
        copy = Path(work, "web")
        for path in page_files(source):
            (copy / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy / path.relative_to(source))
        _run(copy, "npm", "ci", "--no-audit", "--no-fund")
        _run(copy, "npm", "run", "build")
        root = Path(work, "root", target_folder.lstrip("/"))
        root.parent.mkdir(parents=True)
        (copy / "dist").rename(root)
        unfinished = Path(work, "layer.tar")
        folder_layer(Path(work, "root"), unfinished)
        unfinished.replace(target)
    return target


def page_files(source: Path) -> Iterator[Path]:
    """What the page is built from."""
    for name in SOURCES:
        path = source / name
        yield from sorted(p for p in (path.rglob("*") if path.is_dir() else (path,)) if p.is_file())


def _run(folder: Path, *command: str) -> None:
    environment = os.environ | {"CI": "true"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        said = (result.stdout + result.stderr).strip()[-800:]
        raise DevClusterError(f"`{' '.join(command)}` failed in the chat page's sources: {said}", REMEDY)
