"""Writes a container image as `docker save` does, the same bytes for the same contents. It must not know ours.

Docker, podman, skopeo and `ctr images import` read it.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EPOCH = "1970-01-01T00:00:00Z"
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class BuiltImage:
    """An image in a file: the name that a pod asks for, and the archive that holds it."""

    reference: str
    archive: Path


@dataclass(frozen=True)
class ImageConfig:
    """How a container of the image starts."""

    entrypoint: Sequence[str]
    user: str = ""
    workdir: str = "/"
    environment: Mapping[str, str] | None = None
    stop_signal: str = ""
    arch: str = "amd64"

    def document(self, layers: Sequence[str]) -> dict[str, Any]:
        """The image's configuration (OCI image specification) over layers given as hex SHA-256 of their tars."""
        environment = {"PATH": SEARCH_PATH} | dict(self.environment or {})
        container = {
            "Env": [f"{key}={value}" for key, value in environment.items()],
            "Entrypoint": list(self.entrypoint),
            "User": self.user,
            "WorkingDir": self.workdir,
        }
        if self.stop_signal:
            container["StopSignal"] = self.stop_signal
        return {
            "architecture": self.arch,
            "os": "linux",
            "created": EPOCH,
            "config": container,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in layers]},
            "history": [{"created": EPOCH, "created_by": "devcluster"} for _ in layers],
        }


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry(name: str, mode: int) -> tarfile.TarInfo:
    """A tar header that depends on nothing but name and mode: no owner, no time."""
    info = tarfile.TarInfo(name)
    info.mode = mode
    return info


def folder_layer(folder: Path, target: Path) -> None:
    """Write a folder's contents as a layer: sorted, owned by root, without times."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if path.is_symlink():
                info = entry(name, 0o777)
                info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(info)
            elif path.is_dir():
                info = entry(name, 0o755)
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info = entry(name, 0o755 if path.stat().st_mode & 0o111 else 0o644)
                info.size = path.stat().st_size
                with path.open("rb") as file:
                    tar.addfile(info, file)


def content_tag(config: ImageConfig, layers: Sequence[str]) -> str:
    """12 hex digits of everything in the image."""
    return hashlib.sha256(json.dumps(config.document(layers), sort_keys=True).encode()).hexdigest()[:12]


def write_archive(target: Path, reference: str, config: ImageConfig, layers: Sequence[Path]) -> None:
    """Write the archive under its final name only when it is complete."""
    digests = [sha256(layer) for layer in layers]
    blob = json.dumps(config.document(digests), sort_keys=True).encode()
    config_name = f"{hashlib.sha256(blob).hexdigest()}.json"
    paths = [f"{digest}/layer.tar" for digest in digests]
    manifest = json.dumps([{"Config": config_name, "RepoTags": [reference], "Layers": paths}]).encode()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as tar:
            for path, layer in zip(paths, layers, strict=True):
                info = entry(path, 0o644)
                info.size = layer.stat().st_size
                with layer.open("rb") as file:
                    tar.addfile(info, file)
            for name, data in ((config_name, blob), ("manifest.json", manifest)):
                info = entry(name, 0o644)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
