"""Makes the upper layers of an image: locked packages, our sources. It must not know how they are put together."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.images.archive import folder_layer
from devcluster.images.base import SITE_PACKAGES
from devcluster.images.bytecode import compile_tree

# Recorded by installers, read by nobody, and different each time.
_INSTALLER_FILES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


def installer() -> list[str]:
    """A program that installs locked packages into a folder: pip here, uv, or pip of the interpreter behind a venv."""
    options = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
    pip = ["-m", "pip", "--disable-pip-version-check", "install", "--no-compile", "--quiet", *options]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, *pip]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable, *options]
    base = Path(sys.base_prefix, "bin", Path(sys.executable).name)
    if (
        base.exists()
        and subprocess.run((base, "-m", "pip", "--version"), capture_output=True, check=False).returncode == 0
    ):
        return [str(base), *pip]
    raise DevClusterError("neither pip nor uv is there to install packages into an image", "python -m ensurepip")


def packages_layer(requirements: Path, folder: Path) -> Path:
    """A layer with the packages of a hash-locked requirements file, made once per contents and Python version.

    Raises DevClusterError if they cannot be had or do not have the locked hashes.
    """
    recipe = (requirements.read_bytes(), sys.version.encode(), Path(__file__).read_bytes())
    key = hashlib.sha256(b"\0".join(recipe)).hexdigest()[:16]
    target = folder / f"packages-{requirements.stem}-{key}.tar"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        site = Path(work, "root", SITE_PACKAGES)
        command = [*installer(), "--target", str(site), "--requirement", str(requirements)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise DevClusterError(
                f"the packages of {requirements.name} cannot be installed:\n{result.stderr.strip()[-600:]}"
            )
        _drop_unneeded(site)
        compile_tree(site, f"/{SITE_PACKAGES}")
        unfinished = Path(work, "layer.tar")
        folder_layer(Path(work, "root"), unfinished)
        unfinished.replace(target)
    return target


def _drop_unneeded(site: Path) -> None:
    shutil.rmtree(site / "bin", ignore_errors=True)
    for path in list(site.rglob("*")):
        if path.name == "__pycache__":
            shutil.rmtree(path, ignore_errors=True)
        elif path.parent.suffix == ".dist-info" and path.name in _INSTALLER_FILES:
            path.unlink()


def source_files(source: Path) -> Iterator[Path]:
    """The files of a package that go into an image: all but caches, hidden files and Dockerfiles."""
    for path in sorted(source.rglob("*")):
        parts = path.relative_to(source).parts
        left_out = any(part.startswith(".") or part in ("__pycache__", "Dockerfile") for part in parts)
        if path.is_file() and not left_out:
            yield path


def sources_layer(sources: Sequence[Path], workdir: str, folder: Path) -> Path:
    """A layer with our packages below `workdir`, compiled; made anew when any file in them changes."""
    digest = hashlib.sha256(f"{sys.version}\0{workdir}".encode() + Path(__file__).read_bytes())
    for source in sources:
        for path in source_files(source):
            digest.update(
                f"\0{source.name}/{path.relative_to(source)}\0{path.stat().st_mode}\0{path.stat().st_size}\0".encode()
            )
            digest.update(path.read_bytes())
    target = folder / f"sources-{sources[0].name}-{digest.hexdigest()[:16]}.tar"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        root = Path(work, "root", workdir.lstrip("/"))
        for source in sources:
            for path in source_files(source):
                copy = root / source.name / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)  # with its mode: one may be a program
        compile_tree(root, workdir)
        unfinished = Path(work, "layer.tar")
        folder_layer(Path(work, "root"), unfinished)
        unfinished.replace(target)
    return target
