"""`python -m charts.release`: packages the chart for one release, with its images named by digest, and publishes it.

It must not know how images are built.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from devcluster.build import Programs
from devcluster.errors import DevClusterError
from devcluster.kubectl import find
from devcluster.progress import for_this_terminal

CHART = Path(__file__).resolve().parent / "chatbot-operator"
OURS = ("image", "images.runtime", "images.web")
"""Values that describe an image of this project."""
THEIRS = ("images.ollama", "images.llamaServer")


def version_of(tag: str, chart: Path = CHART) -> str:
    """The version that a Git tag releases. Raises DevClusterError unless the chart has it already."""
    version = tag.removeprefix("refs/tags/").removeprefix("v")
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", version):
        raise DevClusterError(f"{tag!r} is not the tag of a release", "tag it v<major>.<minor>.<patch>")
    stated = yaml.safe_load((chart / "Chart.yaml").read_text())
    for field in ("version", "appVersion"):
        if str(stated[field]) != version:
            raise DevClusterError(
                f"the tag says {version} and {field} in {chart.name}/Chart.yaml says {stated[field]}",
                "change Chart.yaml and commit it before you tag",
            )
    return version


def digest(crane: str, reference: str) -> str:
    """What a registry has under that name now. Raises DevClusterError."""
    ended = subprocess.run([crane, "digest", reference], capture_output=True, text=True, check=False)
    found = ended.stdout.strip()
    if ended.returncode or not re.fullmatch(r"sha256:[0-9a-f]{64}", found):
        raise DevClusterError(f"{reference} has no digest: {ended.stderr.strip()[-300:]}", "push the images first")
    return found


def replaced(values: str, path: str, fields: Mapping[str, str]) -> str:
    """The text of values.yaml with an image's fields set; comments and order stay. Raises DevClusterError."""
    lines = values.splitlines(keepends=True)
    first, last = 0, len(lines)
    for depth, key in enumerate(path.split(".")):
        first = _line(lines, first, last, f"{'  ' * depth}{key}:")
        last = _end(lines, first + 1, last, depth)
        first += 1
    indent = "  " * (path.count(".") + 1)
    for name, value in fields.items():
        at = _line(lines, first, last, f"{indent}{name}:")
        lines[at] = f'{indent}{name}: "{value}"\n'
    return "".join(lines)


def _line(lines: Sequence[str], first: int, last: int, start: str) -> int:
    for at in range(first, last):
        if lines[at].startswith(start):
            return at
    raise DevClusterError(f"values.yaml has no line {start.strip()!r} where it should be", "see charts/release.py")


def _end(lines: Sequence[str], first: int, last: int, depth: int) -> int:
    for at in range(first, last):
        text = lines[at]
        if text.strip() and len(text) - len(text.lstrip()) <= 2 * depth and not text.lstrip().startswith("#"):
            return at
    return last


def filled(values: str, registry: str, version: str, crane: str) -> str:
    """values.yaml that names each image by the digest that its registry has for it now."""
    found: Any = yaml.safe_load(values)
    for path in (*OURS, *THEIRS):
        image = found
        for key in path.split("."):
            image = image[key]
        repository, tag = image["repository"], image["tag"]
        if path in OURS:
            repository, tag = f"{registry}/{repository.rpartition('/')[2]}", version
        fields = {"repository": repository, "tag": tag, "digest": digest(crane, f"{repository}:{tag}")}
        values = replaced(values, path, fields)
    return values


def release(version: str, registry: str, output: Path, chart: Path, push: str, *flags: str) -> Path:
    """Package the chart of a release; with `push`, an oci:// address, publish it too."""
    programs = Programs(for_this_terminal())
    helm, crane = (str(find(programs, name)) for name in ("helm", "crane"))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / chart.name
        shutil.copytree(chart, copy)
        values = copy / "values.yaml"
        values.write_text(filled(values.read_text(), registry, version, crane))
        _run(helm, "package", str(copy), "--version", version, "--app-version", version, "--destination", str(output))
    package = output / f"{chart.name}-{version}.tgz"
    if push:
        _run(helm, "push", str(package), push, *flags)
    return package


def _run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise DevClusterError(f"`helm {command[1]}` failed: {ended.stderr.strip()[-600:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m charts.release", description=__doc__)
    parser.add_argument("tag", help="the release's Git tag, for example v0.1.0")
    parser.add_argument("--registry", help="where the images lie, host and path; without it only the tag is looked at")
    parser.add_argument("--chart", type=Path, default=CHART, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder for the package (default: dist)")
    parser.add_argument("--push", default="", metavar="OCI", help="publish it, for example to oci://ghcr.io/me/charts")
    parser.add_argument("--plain-http", action="store_true", help="the chart's registry speaks no TLS")
    options = parser.parse_args(arguments)
    try:
        version = version_of(options.tag, options.chart)
        if not options.registry:
            print(version)
            return 0
        flags = ["--plain-http"] if options.plain_http else []
        registry = options.registry.rstrip("/").lower()
        print(release(version, registry, options.output, options.chart, options.push.lower(), *flags))
    except DevClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
