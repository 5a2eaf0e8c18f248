"""Compiles Python modules ahead of time, so that a container starts without compiling. It must not know what they do.

The compiled files carry a hash that the interpreter does not check ("unchecked-hash"): an image's sources never change,
and neither times nor the building machine's paths get into the image.
"""

import os
import subprocess
import sys
from pathlib import Path

from devcluster.errors import DevClusterError


def compile_tree(root: Path, installed: str) -> None:
    """Compile every module below `root`, as it will be found below the path `installed` in the image.

    A process of its own with fixed hashing makes the result the same every time. Modules that do not compile (templates
    and tests of packages for other versions) are left as they are, as pip does.
    """
    arguments = ("-q", "-q", "-f", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", installed, str(root))
    result = subprocess.run(
        (sys.executable, "-m", "compileall", *arguments),
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if not any(root.rglob("*.pyc")) and any(root.rglob("*.py")):
        raise DevClusterError(f"nothing below {root} could be compiled: {result.stdout[-300:]}{result.stderr[-300:]}")
