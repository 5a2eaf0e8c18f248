"""An image registry on this machine, with images of one small file in it. No test logic here."""

import io
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster.build import Programs
from devcluster.processes import wait_until
from devcluster.progress import Plain


@dataclass(frozen=True)
class Registry:
    """It knows nothing but what was put there."""

    address: str
    crane: str

    def put(self, name: str, folder: Path) -> str:
        """An image of one file; its digest."""
        layer = folder / "layer.tar"
        with tarfile.open(layer, "w") as tar:
            info = tarfile.TarInfo("name")
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
        target = f"{self.address}/{name}"
        subprocess.run(
            [self.crane, "append", "--new_layer", layer, "--new_tag", target], check=True, capture_output=True
        )
        return subprocess.run([self.crane, "digest", target], check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def serving() -> Iterator[Registry]:
    """One that runs until the end of the block."""
    crane = str(Programs(Plain()).ensure(["crane"])["crane"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = (crane, "registry", "serve", "--address", f"127.0.0.1:{port}")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until("the registry answers", answers, 10.0)
        yield Registry(f"127.0.0.1:{port}", crane)
    finally:
        process.terminate()
        process.wait(timeout=10)
