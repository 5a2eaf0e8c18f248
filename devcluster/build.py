"""Builds the cluster's Go programs into the user's cache folder, once per version. It must not know how they are run.

A program is rebuilt when anything changes that could change it: its module files and sources, the Go release, the
flags, the target. A finished program appears under its name by one atomic rename, so an interrupted build leaves
nothing that looks finished, and a lock file lets one build run at a time.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.layout import Level
from devcluster.progress import Progress

SOURCES = Path(__file__).resolve().parent / "programs"
BUILD_FLAGS = ("-trimpath", "-buildvcs=false")
RELEASE_VARIABLE = "DEVCLUSTER_KUBERNETES"
"""An environment variable: another release of Kubernetes than the newest one known here, such as 1.35."""
# A cold build of everything fills about this much of Go's caches and ours, in bytes.
DISK_NEEDED = 8 << 30


@dataclass(frozen=True)
class Program:
    """One Go program: its module family, its main package and how long a cold build takes on two cores, in seconds."""

    name: str
    family: str
    package: str
    usual: float
    tags: str = ""
    """Go's build tags, separated by commas."""

    @property
    def flags(self) -> tuple[str, ...]:
        return (*BUILD_FLAGS, f"-tags={self.tags}") if self.tags else BUILD_FLAGS


_KUBERNETES_SECONDS = {
    "kube-apiserver": 280,
    "kubectl": 27,
    "kube-controller-manager": 110,
    "kube-scheduler": 12,
    "kubelet": 57,
    "kube-proxy": 27,
}

PROGRAMS: Mapping[str, Program] = {
    p.name: p
    for p in (
        Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", 85),
        *(Program(n, "kubernetes", f"k8s.io/kubernetes/cmd/{n}", s) for n, s in _KUBERNETES_SECONDS.items()),
        Program("coredns", "coredns", ".", 150),
        Program("helm", "helm", "helm.sh/helm/v4/cmd/helm", 130),
        Program("crane", "crane", "github.com/google/go-containerregistry/cmd/crane", 10),
        # What follows only tests use.
        Program("helm3", "helm3", "helm.sh/helm/v3/cmd/helm", 80),
        # It also finds targets in every cloud; what checks rules needs none of their libraries.
        Program("promtool", "promtool", "github.com/prometheus/prometheus/cmd/promtool", 100, tags="remove_all_sd"),
        Program("kube-score", "kube-score", "github.com/zegl/kube-score/cmd/kube-score", 20),
        Program("dockerfile", "dockerfile", ".", 10),
        Program("actionlint", "actionlint", "github.com/rhysd/actionlint/cmd/actionlint", 10),
    )
}

_HELM = {"helm": "helm.sh/helm/v4", "helm3": "helm.sh/helm/v3"}

_CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler")
NEEDED: Mapping[Level, tuple[str, ...]] = {
    "control-plane": _CONTROL_PLANE,
    "node": (*_CONTROL_PLANE, "kubelet", "kube-proxy", "coredns"),
}


@dataclass(frozen=True)
class Toolchain:
    """What of the Go installation goes into a program: release, operating system, architecture."""

    go_version: str
    os: str
    arch: str


def cache_dir() -> Path:
    """The user's cache folder for this project (XDG Base Directory Specification)."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "chatbot-operator" / "devcluster"


def toolchain() -> Toolchain:
    """The Go installation on the PATH. Raises DevClusterError if there is none."""
    go = shutil.which("go")
    if go is None:
        raise DevClusterError(
            "Go is not installed (no `go` on the PATH)",
            "install Go 1.26 or newer: the cluster's programs are built once",
        )
    out = subprocess.run(
        [go, "env", "-json", "GOVERSION", "GOOS", "GOARCH"], capture_output=True, text=True, check=False
    )
    if out.returncode:
        raise DevClusterError(f"`go env` fails: {out.stderr.strip()}", "repair the Go installation")
    found = json.loads(out.stdout)
    return Toolchain(found["GOVERSION"], found["GOOS"], found["GOARCH"])


def required_version(go_mod: str, module: str) -> str:
    """The version that a go.mod requires of a module."""
    match = re.search(rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)", go_mod, re.MULTILINE)
    if match is None:
        raise DevClusterError(f"go.mod does not require {module}", "restore devcluster/programs from version control")
    return match[1]


def linker_flags(family: str, go_mod: str) -> str:
    """What the linker writes into a family's programs: no symbols, and the version they report about themselves."""
    flags = ["-s", "-w"]
    if family == "kubernetes":
        version = required_version(go_mod, "k8s.io/kubernetes")
        major, minor = version.removeprefix("v").split(".")[:2]
        values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        fixed = {"gitCommit": "0" * 40, "buildDate": "1970-01-01T00:00:00Z"}
        flags += [f"-X k8s.io/component-base/version.{k}={v}" for k, v in (values | fixed).items()]
        flags += [f"-X k8s.io/client-go/pkg/version.{k}={v}" for k, v in values.items()]
    elif family in _HELM:
        module = _HELM[family]
        flags.append(f"-X {module}/internal/version.version={required_version(go_mod, module)}")
    if family == "helm3":  # which Kubernetes `helm template` stands for; Helm 4 knows it by itself
        minor = required_version(go_mod, "k8s.io/client-go").split(".")[1]
        for package in ("pkg/chartutil", "pkg/lint/rules"):
            flags += [f"-X helm.sh/helm/v3/{package}.k8sVersion{k}={v}" for k, v in (("Major", 1), ("Minor", minor))]
    return " ".join(flags)


def build_key(program: Program, sources: Mapping[str, bytes], tools: Toolchain) -> str:
    """16 hex digits that change whenever the built program could: sources, Go, flags, target."""
    flags = linker_flags(program.family, sources["go.mod"].decode())
    parts = [program.package, *program.flags, flags, tools.go_version, tools.os, tools.arch]
    digest = hashlib.sha256("\0".join(parts).encode())
    for name in sorted(sources):
        digest.update(f"\0{name}\0{len(sources[name])}\0".encode() + sources[name])
    return digest.hexdigest()[:16]


def family_folder(family: str) -> Path:
    """Where the module of a family is. Raises DevClusterError for a release of Kubernetes that is not known here."""
    release = os.environ.get(RELEASE_VARIABLE, "") if family == "kubernetes" else ""
    folder = SOURCES / (f"{family}-{release}" if release else family)
    if not folder.is_dir():
        known = sorted(p.name.partition("-")[2] for p in SOURCES.glob("kubernetes-*"))
        raise DevClusterError(
            f"{RELEASE_VARIABLE}={release}: no such release of Kubernetes is known here",
            f"set it to one of {', '.join(known)}, or leave it out for the newest",
        )
    return folder


def family_sources(family: str) -> dict[str, bytes]:
    """The files of a module family: go.mod, go.sum and, if it has a main package of its own, its Go files."""
    folder = family_folder(family)
    names = ("go.mod", "go.sum", *sorted(p.name for p in folder.glob("*.go")))
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


class Programs:
    """Paths of built programs; builds what is missing when it is asked for."""

    def __init__(self, progress: Progress, root: Path | None = None) -> None:
        self._progress = progress
        self._root = root or cache_dir() / "programs"
        self._toolchain: Toolchain | None = None

    def path(self, name: str) -> Path:
        """Where the program is or will be once it is built."""
        program = PROGRAMS[name]
        if self._toolchain is None:
            self._toolchain = toolchain()
        key = build_key(program, family_sources(program.family), self._toolchain)
        return self._root / f"{name}-{key}" / name

    def missing(self, names: Iterable[str]) -> list[str]:
        return [n for n in names if not self.path(n).exists()]

    def ensure(self, names: Iterable[str]) -> dict[str, Path]:
        """Build what is missing and return every path. Raises DevClusterError if a build fails."""
        wanted = list(names)
        if self.missing(wanted):
            self._require_disk()
            with self._lock():
                todo = self.missing(wanted)
                if len(todo) > 1:
                    minutes = sum(PROGRAMS[n].usual for n in todo) / 60
                    self._progress.note(
                        f"building {len(todo)} programs once into {self._root} "
                        f"(up to {minutes:.0f} min; seconds if Go has them in its own cache)"
                    )
                for name in todo:
                    self._build(PROGRAMS[name], self.path(name))
        return {name: self.path(name) for name in wanted}

    def _require_disk(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._root).free
        if free < DISK_NEEDED:
            raise DevClusterError(
                f"the build needs {DISK_NEEDED >> 30} GiB of disk and {self._root} has {free / (1 << 30):.1f} GiB free",
                "free some space or set XDG_CACHE_HOME (and Go's GOCACHE) to a folder on another disk",
            )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._root / "build.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with self._progress.step("waiting for another build of the same programs"):
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _build(self, program: Program, target: Path) -> None:
        sources = family_sources(program.family)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".unfinished")
        command = [
            "go",
            "build",
            "-v",
            *program.flags,
            "-ldflags",
            linker_flags(program.family, sources["go.mod"].decode()),
        ]
        environment = os.environ | {"GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        with (
            self._progress.step(f"building {program.name}", usual=program.usual) as step,
            subprocess.Popen(
                [*command, "-o", str(unfinished), program.package],
                cwd=family_folder(program.family),
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            assert process.stderr is not None  # noqa: S101 - given as PIPE above
            lines: list[str] = []
            for count, line in enumerate(process.stderr, start=1):
                lines.append(line.rstrip())
                step.detail(f"{count} packages, {line.strip()[:60]}")
            if process.wait():
                unfinished.unlink(missing_ok=True)
                said = "\n  ".join(lines[-8:])
                raise DevClusterError(f"`go build {program.package}` failed:\n  {said}", "correct what Go says above")
        unfinished.rename(target)
