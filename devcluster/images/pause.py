"""Builds the image of the process that holds each pod together. It must not know any other image."""

import hashlib
import subprocess
import tempfile
from pathlib import Path

from devcluster.build import cache_dir
from devcluster.errors import DevClusterError
from devcluster.images.archive import BuiltImage, ImageConfig, folder_layer, write_archive
from devcluster.node_files import PAUSE_IMAGE

SOURCE = Path(__file__).with_name("pause.c")


def build() -> BuiltImage:
    """The image, compiled once per version of its source. Raises DevClusterError without a C compiler."""
    key = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    archive = cache_dir() / "images" / f"pause-{key}.tar"
    if archive.exists():
        return BuiltImage(PAUSE_IMAGE, archive)
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as work:
        root = Path(work, "root")
        root.mkdir()
        command = ("gcc", "-Os", "-static", "-s", "-o", str(root / "pause"), str(SOURCE))
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            raise DevClusterError(
                f"the pause program cannot be compiled: {said}", "install gcc and libc6-dev"
            ) from error
        layer = Path(work, "layer.tar")
        folder_layer(root, layer)
        write_archive(archive, PAUSE_IMAGE, ImageConfig(entrypoint=("/pause",), user="65535:65535"), [layer])
    return BuiltImage(PAUSE_IMAGE, archive)
