"""A program is built again exactly when something could change it; a failed build leaves nothing behind."""

import dataclasses
import os
import stat
from pathlib import Path

import pytest

from devcluster.build import (
    PROGRAMS,
    RELEASE_VARIABLE,
    Programs,
    Toolchain,
    build_key,
    family_sources,
    linker_flags,
    required_version,
)
from devcluster.errors import DevClusterError
from devcluster.progress import Silent

GO = Toolchain("go1.26.0", "linux", "amd64")
MOD = b"module m\n\nrequire go.etcd.io/etcd/server/v3 v3.6.16\n"
SOURCES = {"go.mod": MOD, "go.sum": b"sum"}


def key(sources: dict[str, bytes] = SOURCES, tools: Toolchain = GO) -> str:
    return build_key(PROGRAMS["etcd"], sources, tools)


def test_the_same_inputs_give_the_same_key() -> None:
    assert key() == key(dict(reversed(SOURCES.items())))


@pytest.mark.parametrize("name", ["go.mod", "go.sum"])
def test_a_changed_module_file_changes_the_key(name: str) -> None:
    assert key(SOURCES | {name: SOURCES[name] + b"\n// more"}) != key()


def test_an_added_source_file_changes_the_key() -> None:
    assert key(SOURCES | {"main.go": b"package main"}) != key()


@pytest.mark.parametrize("change", [{"go_version": "go1.27.0"}, {"os": "darwin"}, {"arch": "arm64"}])
def test_another_go_or_target_changes_the_key(change: dict[str, str]) -> None:
    assert key(tools=dataclasses.replace(GO, **change)) != key()


def test_programs_of_one_family_have_keys_of_their_own() -> None:
    sources = family_sources("kubernetes")
    assert build_key(PROGRAMS["kubelet"], sources, GO) != build_key(PROGRAMS["kubectl"], sources, GO)


def test_a_build_tag_changes_the_key() -> None:
    program, sources = PROGRAMS["promtool"], family_sources("promtool")
    assert build_key(dataclasses.replace(program, tags=""), sources, GO) != build_key(program, sources, GO)
    assert "-tags=remove_all_sd" in program.flags


def test_helm_3_stands_for_the_kubernetes_that_its_client_is_of() -> None:
    flags = linker_flags("helm3", "require helm.sh/helm/v3 v3.22.0\nrequire k8s.io/client-go v0.37.0\n")
    assert "-X helm.sh/helm/v3/internal/version.version=v3.22.0" in flags
    assert "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37" in flags


def test_kubernetes_reports_the_version_that_its_module_file_requires() -> None:
    flags = linker_flags("kubernetes", "require k8s.io/kubernetes v1.36.1\n")
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.1" in flags
    assert "-X k8s.io/client-go/pkg/version.gitMinor=36" in flags


def test_a_requirement_is_found_on_its_own_line_and_in_a_block() -> None:
    assert required_version("require example.com/a v1.2.3\n", "example.com/a") == "v1.2.3"
    assert (
        required_version("require (\n\texample.com/b v1\n\texample.com/a v1.2.3 // indirect\n)", "example.com/a")
        == "v1.2.3"
    )
    with pytest.raises(DevClusterError, match=r"example\.com/c"):
        required_version("require example.com/a v1.2.3\n", "example.com/c")


def test_every_program_has_committed_module_files() -> None:
    for family in {program.family for program in PROGRAMS.values()}:
        assert {"go.mod", "go.sum"} <= family_sources(family).keys()


def test_another_release_of_kubernetes_is_built_beside_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = family_sources("kubernetes")
    monkeypatch.setenv(RELEASE_VARIABLE, "1.35")
    older = family_sources("kubernetes")
    assert required_version(older["go.mod"].decode(), "k8s.io/kubernetes").startswith("v1.35.")
    kubelet = PROGRAMS["kubelet"]
    assert build_key(kubelet, older, GO) != build_key(kubelet, newest, GO)
    monkeypatch.setenv(RELEASE_VARIABLE, "1.9")
    with pytest.raises(DevClusterError, match=r"1\.9: no such release of Kubernetes") as told:
        family_sources("kubernetes")
    assert "1.34, 1.35" in told.value.remedy


def test_the_releases_that_the_readme_names_are_those_that_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = Path("README.md").read_text()
    for release in ("", "1.35", "1.34"):
        monkeypatch.setenv(RELEASE_VARIABLE, release)
        version = required_version(family_sources("kubernetes")["go.mod"].decode(), "k8s.io/kubernetes")
        assert version.removeprefix("v") in readme


def fake_go(folder: Path, build: str) -> None:
    """A `go` on the PATH that knows its environment and runs a shell script for `go build`."""
    script = folder / "go"
    env = '{"GOVERSION": "go1.26.0", "GOOS": "linux", "GOARCH": "amd64"}'
    script.write_text(f"#!/bin/sh\nif [ \"$1\" = env ]; then echo '{env}'; exit 0; fi\n{build}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


OUTPUT = 'while [ "$1" != -o ]; do shift; done; out=$2'


def test_a_failed_build_says_what_go_said_and_leaves_nothing_that_looks_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_go(tmp_path, f'{OUTPUT}; echo half > "$out"; echo "main.go:1: it is broken" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    programs = Programs(Silent(), tmp_path / "cache")
    with pytest.raises(DevClusterError, match="it is broken"):
        programs.ensure(["etcd"])
    assert programs.missing(["etcd"]) == ["etcd"]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != "build.lock"]


def test_a_program_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(tmp_path, f'echo built >> {tmp_path}/log; {OUTPUT}; echo "#!/bin/sh" > "$out"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    first = Programs(Silent(), tmp_path / "cache").ensure(["etcd"])
    second = Programs(Silent(), tmp_path / "cache").ensure(["etcd"])
    assert first == second
    assert first["etcd"].exists()
    assert (tmp_path / "log").read_text().splitlines() == ["built"]


def test_without_go_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DevClusterError, match=r"install Go 1\.26"):
        Programs(Silent(), tmp_path / "cache").path("etcd")
