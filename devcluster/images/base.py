"""Makes the lowest layer of our images from this machine's own programs: Python with its standard library, or nginx.

No package manager, daemon or network is needed. glibc only. It must not know what is put on top.
"""

import functools
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.images.archive import entry
from devcluster.images.bytecode import compile_tree

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"usr/local/lib/{PYTHON}"
SITE_PACKAGES = f"{LIBRARY}/site-packages"
# Parts of the standard library that no server imports.
_SKIPPED = frozenset(
    {"site-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data"}
    | {"distutils", "__pycache__"}
)
_APPLETS = (
    *(
        "sh",
        "ls",
        "cat",
        "echo",
        "sleep",
        "env",
        "id",
        "ps",
        "kill",
        "mkdir",
        "rm",
        "cp",
        "mv",
        "touch",
        "chmod",
        "tar",
    ),
    *(
        "nslookup",
        "ip",
        "top",
        "df",
        "mount",
        "grep",
        "head",
        "tail",
        "wc",
        "date",
        "stat",
        "true",
        "false",
        "dd",
        "nc",
    ),
    *("tr", "sort", "hostname", "free", "find", "vi", "test"),
)
# What name lookups load at run time, and what wheels may expect of any system (PEP 600).
_SYSTEM_LIBRARIES = (
    *("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2", "libgcc_s.so.1", "libstdc++.so.6", "libm.so.6"),
    *("libdl.so.2", "librt.so.1", "libpthread.so.0", "libutil.so.1", "libz.so.1", "libexpat.so.1"),
    "libgomp.so.1",  # PEP 600 does not grant it; the engine's wheel expects it all the same
)
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:10001:10001:app:/app:/bin/false\n"
    "nginx:x:10101:10101:nginx:/tmp:/bin/false\n",
    "etc/group": "root:x:0:\napp:x:10001:\nnginx:x:10101:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass
class _Contents:
    """Archive names: of files with where they come from, of links with their targets, of folders."""

    files: dict[str, Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def folders(self) -> set[str]:
        names = (*self.files, *self.links, *_TEXTS)
        parents = {str(parent) for name in names for parent in Path(name).parents if str(parent) != "."}
        return parents | {"tmp", "root", "var/tmp"} | {"var"}


def _libraries(binary: Path) -> set[Path]:
    output = subprocess.run(("ldd", str(binary)), capture_output=True, text=True, check=False).stdout
    return {Path(found) for found in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", output, re.MULTILINE)}


def _standard_library(root: Path) -> dict[str, Path]:
    files = {}
    for folder, subfolders, names in os.walk(root):
        # Not walked into at all: installed packages are many times the standard library.
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED and not name.startswith("config-")]
        for name in names:
            test_only = name.endswith(".so") and ("_test" in name or "tkinter" in name)
            if not name.endswith(".a") and not test_only:
                path = Path(folder, name)
                files[f"{LIBRARY}/{path.relative_to(root)}"] = path
    return files


def _python_files() -> dict[str, Path]:
    standard = _standard_library(Path(sysconfig.get_path("stdlib")).resolve())
    return {f"usr/local/bin/{PYTHON}": Path(sys.executable).resolve()} | standard


def _contents(files: Mapping[str, Path], links: Mapping[str, str]) -> _Contents:
    """Programs with every library that they load, and a shell."""
    if platform.libc_ver()[0] != "glibc":
        raise DevClusterError("images can be made without Docker only where glibc is used", "install Docker and kind")
    contents = _Contents(dict(files), dict(links))
    libraries: set[Path] = set()
    for name, path in files.items():
        if path.suffix == ".so" or "/bin/" in name or "/sbin/" in name:
            libraries |= _libraries(path)
    for libc in [library for library in libraries if library.name.startswith("libc.so")]:
        libraries |= {libc.parent / name for name in _SYSTEM_LIBRARIES if (libc.parent / name).exists()}
    triplet = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    for library in libraries:
        # The program names its loader by path; all else the loader finds in the system's own folder.
        loader = library.name.startswith("ld-linux")
        contents.files[str(library)[1:] if loader else f"lib/{triplet}/{library.name}"] = library.resolve()
    if _AUTHORITIES.exists():
        contents.files[str(_AUTHORITIES)[1:]] = _AUTHORITIES
    if busybox := shutil.which("busybox"):
        contents.files["bin/busybox"] = Path(busybox).resolve()
        contents.links |= {f"bin/{applet}": "busybox" for applet in _APPLETS}
    return contents


def _key(files: Mapping[str, Path]) -> str:
    """Changes when any file of the interpreter was replaced or touched."""
    digest = hashlib.sha256(sys.version.encode() + Path(__file__).read_bytes())
    for name, path in sorted(files.items()):
        status = path.stat()
        digest.update(f"\0{name}\0{path}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _byte_compiled(files: Mapping[str, Path], work: Path) -> dict[str, Path]:
    """Compiled modules of the standard library, which a container with a read-only root could not keep."""
    for name, path in files.items():
        if name.startswith(f"{LIBRARY}/") and path.suffix == ".py":
            copy = work / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    if not work.exists():
        return {}
    compile_tree(work / LIBRARY, f"/{LIBRARY}")
    return {str(path.relative_to(work)): path for path in (work / LIBRARY).rglob("*.pyc")}


def _write(target: Path, contents: _Contents) -> None:
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(contents.folders()):
            info = entry(name, 0o1777 if name in ("tmp", "var/tmp") else 0o755)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        for name, path in sorted(contents.files.items()):
            executable = path.stat().st_mode & 0o111 or "ld-linux" in name
            info = entry(name, 0o755 if executable else 0o644)
            info.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(info, file)
        for name, link in sorted(contents.links.items()):
            info = entry(name, 0o777)
            info.type, info.linkname = tarfile.SYMTYPE, link
            tar.addfile(info)
        for name, text in sorted(_TEXTS.items()):
            info = entry(name, 0o644)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))


@functools.cache
def python(folder: Path) -> Path:
    """The layer's tar in the cache `folder`, made if the interpreter changed since. Raises DevClusterError."""
    links = {"usr/local/bin/python3": PYTHON, "usr/local/bin/python": PYTHON}
    return _layer(folder, "base", _python_files(), links)


@functools.cache
def nginx(folder: Path) -> Path:
    """The same for nginx. Raises DevClusterError if there is none."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise DevClusterError("nginx is not installed, and the chat page's image holds it", "apt-get install nginx")
    return _layer(folder, "nginx", {"usr/sbin/nginx": Path(found).resolve()}, {})


def _layer(folder: Path, name: str, files: Mapping[str, Path], links: Mapping[str, str]) -> Path:
    target = folder / f"{name}-{_key(files)}.tar"
    if target.exists():
        return target
    contents = _contents(files, links)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        contents.files |= _byte_compiled(contents.files, Path(work, "compiled"))
        unfinished = Path(work, "base.tar")
        _write(unfinished, contents)
        unfinished.replace(target)
    return target
