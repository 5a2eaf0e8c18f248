"""Finds out what this machine lacks for a cluster, and the one command that helps. It must not change anything."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devcluster import build, cgroups, engines, packages, state
from devcluster.errors import DevClusterError
from devcluster.images import page
from devcluster.images.layers import installer
from devcluster.layout import Level
from devcluster.processes import CAP_NET_ADMIN, CAP_SYS_ADMIN, has_capabilities
from devcluster.progress import Silent

Verdict = Literal["ok", "missing", "note"]


@dataclass(frozen=True)
class Check:
    """One finding. "missing" stands in the way of the asked level, "note" does not."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def _go() -> Check:
    try:
        tools = build.toolchain()
    except DevClusterError as error:
        return Check("Go", "missing", error.problem, error.remedy)
    return Check("Go", "ok", f"{tools.go_version} {tools.os}/{tools.arch}")


def _node() -> Check:
    version = page.node_version()
    found = ".".join(map(str, version)) or "not there"
    if version < (20, 19):
        return Check("Node.js", "missing", f"{found}; 20.19 or newer builds the chat page", page.REMEDY)
    return Check("Node.js", "ok", found)


def _programs(level: Level) -> Check:
    try:
        lacking = build.Programs(Silent()).missing(build.NEEDED[level])
    except DevClusterError as error:
        return Check("programs", "note", error.problem)
    if not lacking:
        return Check("programs", "ok", "all built")
    minutes = sum(build.PROGRAMS[name].usual for name in lacking) / 60
    return Check("programs", "note", f"{len(lacking)} still to build: up to {minutes:.0f} min", "`up` builds them once")


def _disk(level: Level) -> Iterator[Check]:
    needs = {"cache": (build.cache_dir(), build.DISK_NEEDED if _programs(level).verdict == "note" else 1 << 30)}
    needs["state"] = (state.state_root(), 2 << 30 if level == "node" else 512 << 20)
    for name, (folder, needed) in needs.items():
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        found = f"{free / (1 << 30):.1f} GiB free for {folder}, {needed / (1 << 30):.1f} needed"
        verdict: Verdict = "ok" if free >= needed else "missing"
        yield Check(f"disk for {name}", verdict, found, "" if verdict == "ok" else "free some space")


def _number() -> Check:
    claims = state.Numbers().claims()
    routes = Path("/proc/net/route").read_text()
    free = state.free_number({claim.number for claim in claims}, routes)
    if free is None:
        return Check("addresses", "missing", "no range of 10.200 to 10.255 is free", "stop a cluster with `down`")
    return Check("addresses", "ok", f"{len(claims)} cluster(s) here, the next gets 10.{200 + free}.0.0/16")


def _node_checks() -> Iterator[Check]:
    root = has_capabilities(CAP_NET_ADMIN, CAP_SYS_ADMIN)
    found = "may make namespaces, mounts and networks" if root else "may not make namespaces, mounts and networks"
    yield Check("root", "ok" if root else "missing", f"user {os.geteuid()} {found}", "" if root else "run it with sudo")
    lacking = sorted(cgroups.missing_controllers(cgroups.MOUNTS.read_text()))
    found = f"no {', '.join(lacking)}" if lacking else "all controllers are there"
    yield Check("control groups", "missing" if lacking else "ok", found, "mount them" if lacking else "")
    absent = packages.missing()
    if not absent:
        yield Check("packages", "ok", "containerd, runc, CNI plugins and tools are there")
    else:
        by_itself = root and packages.is_debian_like(packages.os_release())
        remedy = "`up` installs them" if by_itself else packages.remedy(absent)
        yield Check("packages", "note" if by_itself else "missing", f"missing: {' '.join(absent)}", remedy)
    try:
        yield Check("installer", "ok", f"images get their packages by {Path(installer()[0]).name}")
    except DevClusterError as error:
        yield Check("installer", "missing", error.problem, error.remedy)


def examine(level: Level) -> list[Check]:
    """Every check that matters for a cluster of this level."""
    docker = "works" if engines.docker_works() else "does not answer"
    kind = "is there" if shutil.which("kind") else "is not there"
    checks = [_go(), *([_node()] if level == "node" else []), _programs(level), *_disk(level), _number()]
    if level == "node":
        checks += _node_checks()
    return [*checks, Check("Docker and kind", "note", f"Docker {docker}, kind {kind}; both are optional")]
