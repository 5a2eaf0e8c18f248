"""Builds the images by their Dockerfiles with Docker or Podman: `make images`. It must not know any cluster.

python -m devcluster.dockerfiles --registry registry.example.com/me --tag 1 --platforms linux/amd64,linux/arm64 --push
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devcluster.build import Programs
from devcluster.errors import DevClusterError
from devcluster.images import description
from devcluster.images.description import CHECKOUT
from devcluster.kubectl import find
from devcluster.progress import Progress, for_this_terminal

Engine = Literal["docker", "podman"]
# What each engine is asked to know that it can build for us.
PROBES: Mapping[Engine, tuple[tuple[str, ...], ...]] = {
    "docker": (("docker", "version", "--format", "{{.Server.Version}}"), ("docker", "buildx", "version")),
    "podman": (("podman", "info"),),
}
# Time that an engine has to answer a probe, in seconds.
PROBE_SECONDS = 20


@dataclass(frozen=True)
class Request:
    """What is asked for, the same for each image."""

    registry: str
    tag: str
    platforms: tuple[str, ...] = ()
    """Empty: this machine's own."""
    push: bool = False

    def reference(self, name: str) -> str:
        return f"{self.registry}/{name}:{self.tag}"


def choose() -> Engine:
    """The first engine that works. Raises DevClusterError that says what is the matter with each."""
    problems = []
    for engine, probes in PROBES.items():
        problem = next(filter(None, map(_problem, probes)), "") if shutil.which(engine) else "is not installed"
        if not problem:
            return engine
        problems.append(f"{engine}: {problem}")
    raise DevClusterError(
        "no container engine can build images\n  " + "\n  ".join(problems),
        "install Docker (with buildx) or Podman and start it; `make up` builds what it needs without either",
    )


def _problem(command: Sequence[str]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return f"`{' '.join(command[:2])}` does not answer"
    said = ended.stderr.strip().splitlines() or ["it fails"]
    return f"`{' '.join(command[:2])}`: {said[0]}" if ended.returncode else ""


def bases(dockerfile: str) -> dict[str, str]:
    """The base images that a Dockerfile names by an argument before its first stage, by that argument."""
    head = re.split(r"^FROM ", dockerfile, maxsplit=1, flags=re.MULTILINE)[0]
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", head, re.MULTILINE))


def pinned(reference: str, digest: str) -> str:
    """A reference that can only mean one image, and still says which tag that was."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise DevClusterError(f"the registry gave {digest[:80]!r} as the digest of {reference}", "look at the registry")
    return f"{reference.partition('@')[0]}@{digest}"


def commands(
    engine: Engine, name: str, dockerfile: Path, asked: Request, arguments: Mapping[str, str], labels: Mapping[str, str]
) -> list[list[str]]:
    """What builds one image, and publishes it if that is asked."""
    reference = asked.reference(name)
    options = ["--file", str(dockerfile)]
    options += [part for key, value in arguments.items() for part in ("--build-arg", f"{key}={value}")]
    options += [part for key, value in labels.items() for part in ("--label", f"{key}={value}")]
    if asked.platforms:
        options += ["--platform", ",".join(asked.platforms)]
    if engine == "docker":
        # Only a push can keep more than one platform; what it publishes says what it was made from.
        end = ["--push", "--provenance=mode=max", "--sbom=true"] if asked.push else ["--load"]
        return [["docker", "buildx", "build", *options, "--tag", reference, *end, str(CHECKOUT)]]
    several = len(asked.platforms) > 1
    # An old list of that name would be added to.
    made = [["podman", "manifest", "rm", "--ignore", reference]] if several else []
    made.append(["podman", "build", *options, "--manifest" if several else "--tag", reference, str(CHECKOUT)])
    if asked.push:
        push = ["podman", "manifest", "push", "--all"] if several else ["podman", "push"]
        made.append([*push, reference, f"docker://{reference}"])
    return made


def build(names: Sequence[str], asked: Request, pin: bool, progress: Progress) -> dict[str, str]:
    """Build the images; their references by name. With `pin` each base is used by the digest that it has now."""
    if len(asked.platforms) > 1 and not asked.push:
        raise DevClusterError("several platforms make a list that only a registry can hold", "add --push (PUSH=1)")
    described = description.load()
    if unknown := [name for name in names if name not in described]:
        raise DevClusterError(f"there is no image {unknown[0]!r}", f"there are {', '.join(described)}")
    engine = choose()
    crane = str(find(Programs(progress), "crane")) if pin else ""
    labels = {"org.opencontainers.image.version": asked.tag, "org.opencontainers.image.licenses": "Apache-2.0"}
    if commit := _output("git", "rev-parse", "HEAD"):
        labels["org.opencontainers.image.revision"] = commit
    for name in names or described:
        dockerfile = described[name].dockerfile
        found = bases(dockerfile.read_text()) if pin else {}
        arguments = {key: pinned(base, _output(crane, "digest", base)) for key, base in found.items()}
        with progress.step(f"image {name}", usual=60):
            for command in commands(engine, name, dockerfile, asked, arguments, labels):
                if subprocess.run(command, cwd=CHECKOUT, check=False).returncode:
                    raise DevClusterError(f"`{' '.join(command[:3])}` failed for {name}", "see what it says above")
    return {name: asked.reference(name) for name in names or described}


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m devcluster.dockerfiles", description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="which (default: all)")
    parser.add_argument("--registry", default="localhost", help="where they will lie, host and path")
    parser.add_argument("--tag", default="dev")
    parser.add_argument("--platforms", default="", help="for example linux/amd64,linux/arm64 (default: this machine's)")
    parser.add_argument("--push", action="store_true", help="publish them")
    parser.add_argument("--pin", action="store_true", help="use the bases by the digests that they have now")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    options = parser.parse_args(arguments)
    platforms = tuple(filter(None, options.platforms.split(",")))
    asked = Request(options.registry.rstrip("/").lower(), options.tag, platforms, options.push)
    try:
        made = build(options.images, asked, options.pin, for_this_terminal())
    except DevClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(json.dumps(made) if options.output == "json" else "\n".join(made.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
