"""What a bare machine lacks for these tests: nginx, Chromium, Playwright, the built page. It must not test anything."""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
PAGE = WEB / "dist"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PACKAGES = {"nginx": "nginx", "chromium": "chromium"}
INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends")
SOURCES = ("src", "public", "scripts", "index.html", "vite.config.ts", "package.json", "package-lock.json")


@contextmanager
def alone() -> Iterator[None]:
    """One process at a time installs or builds: tests may run in several."""
    with (Path(tempfile.gettempdir()) / f"chatbot-web-tests-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@cache
def program(name: str) -> str:
    """The path of a program, installed from the distribution if it is not there."""
    with alone():
        for attempt in (False, True):
            if found := shutil.which(name):
                return found
            for command in () if attempt else (("apt-get", "update"), (*INSTALL, PACKAGES[name], "fonts-liberation")):
                run(command)
    raise AssertionError(f"{name} cannot be installed; on Debian: apt-get install {PACKAGES[name]}")


def need_playwright() -> None:
    """Playwright for Python drives Debian's Chromium; its own browsers are not downloaded."""
    with alone():
        importlib.invalidate_caches()
        if importlib.util.find_spec("playwright") is None:
            pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            run((*pip, "--require-hashes", "-r", str(REQUIREMENTS)))
    importlib.invalidate_caches()


def packages() -> Path:
    """`web/` with what `npm ci` installs."""
    with alone():
        return _packages()


@cache
def page() -> Path:
    """The page as it is shipped, built anew if a source is newer."""
    with alone():
        return _page()


def _packages() -> Path:
    mark = WEB / "node_modules" / ".package-lock.json"
    if not mark.exists() or mark.stat().st_mtime < (WEB / "package-lock.json").stat().st_mtime:
        run(("npm", "ci"), WEB)
        mark.touch()
    return WEB


def _page() -> Path:
    built = PAGE / "index.html.gz"
    newest = max(path.stat().st_mtime for source in SOURCES for path in (WEB / source, *(WEB / source).rglob("*")))
    if not built.exists() or built.stat().st_mtime < newest:
        _packages()
        run(("npm", "run", "build"), WEB)
    return PAGE


def run(command: Sequence[str], folder: Path = ROOT) -> str:
    """A command's output; fails with it."""
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
