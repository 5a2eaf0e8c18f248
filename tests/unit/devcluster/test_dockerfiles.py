"""`make images`: which engine builds, what it is told, and what holds for every Dockerfile."""

import json
import re
import sys
from pathlib import Path

import pytest

from devcluster.dockerfiles import Request, bases, build, choose, commands, pinned
from devcluster.errors import DevClusterError
from devcluster.images import description, sizes
from devcluster.images.description import CHECKOUT
from devcluster.progress import Silent
from tests.unit.devcluster.test_images import instructions

DOCKERFILES = sorted({image.dockerfile for image in description.load().values()})
BOTH = ("linux/amd64", "linux/arm64")
each = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)


@each
def test_what_a_dockerfile_copies_is_in_the_checkout_and_in_what_the_engine_is_given(dockerfile: Path) -> None:
    hidden = (CHECKOUT / ".dockerignore").read_text().split()
    copied = [a.split()[:-1] for i, a in instructions(dockerfile) if i == "COPY" and "--from" not in a]
    assert copied
    for source in (name for names in copied for name in names):
        assert (CHECKOUT / source).exists(), source
        assert source.rstrip("/") not in hidden


@each
def test_the_last_stage_installs_no_compiler_and_runs_as_a_user_by_number(dockerfile: Path) -> None:
    steps = instructions(dockerfile)
    last = steps[max(index for index, (name, _) in enumerate(steps) if name == "FROM") :]
    installed = " ".join(argument for name, argument in last if name == "RUN")
    assert not re.search(r"\b(gcc|g\+\+|clang|build-essential|make|cargo|golang|npm|pip)\b", installed)
    assert last[0][1] == "${BASE}"
    users = [argument for name, argument in last if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    assert [name for name, _ in last].index("USER") > max(i for i, (n, _) in enumerate(last) if n in {"COPY", "FROM"})


@each
def test_every_stage_starts_from_a_base_that_an_argument_can_pin_or_from_an_earlier_stage(dockerfile: Path) -> None:
    found = bases(dockerfile.read_text())
    assert all(":" in reference and "@" not in reference for reference in found.values())
    starts = [a.split() for i, a in instructions(dockerfile) if i == "FROM"]
    used = {word.strip("${}") for words in starts for word in words if word.startswith("${")}
    assert used == set(found)
    assert len(starts) == sum(any(w.startswith("${") for w in words) for words in starts)


def test_the_slim_bases_are_the_defaults() -> None:
    found = {name: base for path in DOCKERFILES for name, base in bases(path.read_text()).items()}
    assert found["NODE"].endswith("-slim")
    assert all("slim" in b or "unprivileged" in b for path in DOCKERFILES for b in bases(path.read_text()).values())


def test_a_base_is_pinned_only_by_a_real_digest() -> None:
    digest = "sha256:" + "a1" * 32
    assert pinned("python:3.11-slim", digest) == f"python:3.11-slim@{digest}"
    with pytest.raises(DevClusterError, match=r"python:3\.11-slim"):
        pinned("python:3.11-slim", "")


def test_podman_makes_a_new_list_of_platforms_and_pushes_all_of_it() -> None:
    asked = Request("example.com/me", "1", BOTH, push=True)
    remove, made, push = commands("podman", "chatbot-web", CHECKOUT / "web/Dockerfile", asked, {}, {})
    assert remove[:3] == ["podman", "manifest", "rm"]
    assert made[made.index("--manifest") + 1] == "example.com/me/chatbot-web:1"
    assert made[made.index("--platform") + 1] == "linux/amd64,linux/arm64"
    assert push[-3:] == ["--all", "example.com/me/chatbot-web:1", "docker://example.com/me/chatbot-web:1"]


def test_several_platforms_without_a_push_are_refused_before_anything_is_built() -> None:
    with pytest.raises(DevClusterError, match="PUSH=1"):
        build([], Request("localhost", "dev", BOTH), False, Silent())


def stand_in(folder: Path, name: str, code: str) -> None:
    """A program of that name, in Python."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport json, os, sys\n{code}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    # The machine's own engines, if it has any, are out of sight.
    monkeypatch.setattr("shutil.which", lambda name: str(folder / name) if (folder / name).exists() else None)
    return folder


def test_without_an_engine_the_error_names_what_is_the_matter_with_each(programs: Path) -> None:
    stand_in(programs, "docker", "sys.exit('Cannot connect to the Docker daemon')")
    with pytest.raises(DevClusterError) as error:
        choose()
    assert "docker: `docker version`: Cannot connect to the Docker daemon" in error.value.problem
    assert "podman: is not installed" in error.value.problem
    assert "make up" in error.value.remedy


def test_podman_is_taken_where_docker_has_no_buildx(programs: Path) -> None:
    stand_in(programs, "docker", "sys.exit('no such command' if sys.argv[1] == 'buildx' else 0)")
    stand_in(programs, "podman", "")
    assert choose() == "podman"


def test_docker_is_told_the_pinned_bases_the_platforms_and_to_publish(programs: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    stand_in(programs, "docker", f"open({str(said)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')")
    # What a registry would say: another digest for each image.
    stand_in(programs, "crane", "print('sha256:' + sys.argv[2].encode().hex().ljust(64, '0')[:64])")
    asked = Request("example.com/me", "1.2.3", BOTH, push=True)
    assert build(["chatbot-web"], asked, True, Silent()) == {"chatbot-web": "example.com/me/chatbot-web:1.2.3"}
    (told,) = [line for line in map(json.loads, said.read_text().splitlines()) if line[:2] == ["buildx", "build"]]
    given = dict(told[i + 1].split("=", 1) for i, word in enumerate(told) if word == "--build-arg")
    assert given == {name: f"{b}@sha256:{b.encode().hex().ljust(64, '0')[:64]}" for name, b in web_bases().items()}
    assert told[told.index("--platform") + 1] == "linux/amd64,linux/arm64"
    assert "--push" in told
    assert "org.opencontainers.image.version=1.2.3" in told
    assert (told[-1], told[told.index("--file") + 1]) == (str(CHECKOUT), str(CHECKOUT / "web/Dockerfile"))


def web_bases() -> dict[str, str]:
    return bases((CHECKOUT / "web/Dockerfile").read_text())


def test_a_failed_build_ends_with_the_image_that_failed(programs: Path) -> None:
    stand_in(programs, "docker", "sys.exit(1 if 'build' in sys.argv else 0)")
    with pytest.raises(DevClusterError, match="failed for chatbot-runtime"):
        build([], Request("localhost", "dev"), False, Silent())


def test_a_size_in_the_readme_that_is_far_from_what_is_measured_is_told() -> None:
    said = sizes.stated(sizes.README.read_text())
    assert set(said) == set(description.load())
    assert sizes.differences(said, said) == []
    larger = {name: sizes.Size(size.unpacked * 13 // 10, size.packed) for name, size in said.items()}
    assert len(sizes.differences(said, larger)) == len(said)
    assert sizes.differences(said, {}) == [f"{name} is only in the README" for name in said]
