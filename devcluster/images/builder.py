"""Builds our images from their description: base, packages, sources, one archive. It must not know any cluster.

runtime = build("chatbot-runtime", progress)
runtime.reference     # localhost/chatbot-runtime:<12 hex digits of its contents>
"""

import platform
from collections.abc import Iterable
from pathlib import Path

from devcluster.build import cache_dir
from devcluster.errors import DevClusterError
from devcluster.images import base, description
from devcluster.images.archive import BuiltImage, ImageConfig, content_tag, sha256, write_archive
from devcluster.images.description import ImageDescription
from devcluster.images.layers import packages_layer, sources_layer
from devcluster.images.page import page_layer
from devcluster.progress import Progress, Silent

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Versions of an archive or layer that are kept, so that a switch back and forth costs nothing.
KEPT_VERSIONS = 3


def build(name: str, progress: Progress | None = None, folder: Path | None = None) -> BuiltImage:
    """Build one described image, or find it built. Raises DevClusterError if there is no such image or a part fails."""
    described = description.load()
    if name not in described:
        raise DevClusterError(f"there is no image {name!r}", f"there are {', '.join(described)}")
    return build_described(described[name], progress or Silent(), folder or cache_dir() / "images")


def build_all(progress: Progress | None = None, names: Iterable[str] | None = None) -> dict[str, BuiltImage]:
    """Every usual image (or those named) by its name."""
    return {name: build(name, progress) for name in (names or description.usual())}


def build_described(image: ImageDescription, progress: Progress, folder: Path) -> BuiltImage:
    with progress.step(f"image {image.name}") as step:
        step.detail(f"base: this machine's {image.base}")
        layers = [base.python(folder) if image.base == "python" else base.nginx(folder)]
        if image.requirements is not None:
            step.detail(f"packages of {image.requirements.name}")
            layers.append(packages_layer(image.requirements, folder))
        if image.sources:
            step.detail("sources")
            layers.append(sources_layer(image.sources, image.workdir, folder))
        if image.page is not None:
            step.detail("the chat page")
            layers.append(page_layer(image.page, image.page_folder, folder))
        config = ImageConfig(
            entrypoint=image.entrypoint,
            user=image.user,
            workdir=image.workdir,
            stop_signal=image.stop_signal,
            environment=image.environment,
            arch=ARCHITECTURES.get(platform.machine(), platform.machine()),
        )
        tag = content_tag(config, [sha256(layer) for layer in layers])
        archive = folder / f"{image.name}-{tag}.tar"
        if not archive.exists():
            write_archive(archive, image.reference(tag), config, layers)
            for made in (archive, *layers):
                _drop_old(folder, made.stem.rpartition("-")[0])
    return BuiltImage(image.reference(tag), archive)


def _drop_old(folder: Path, stem: str) -> None:
    versions = [path for path in folder.glob(f"{stem}-*.tar") if path.stem.rpartition("-")[0] == stem]
    for path in sorted(versions, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_VERSIONS:]:
        path.unlink(missing_ok=True)
