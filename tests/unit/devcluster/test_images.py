"""An image's bytes depend on its contents alone, and the Dockerfiles say the same as the description."""

import ast
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from devcluster.errors import DevClusterError
from devcluster.images import builder, description, page
from devcluster.images.archive import ImageConfig, content_tag, folder_layer, sha256, write_archive
from devcluster.images.description import CHECKOUT, ImageDescription
from devcluster.images.layers import source_files, sources_layer

CONFIG = ImageConfig(entrypoint=("python", "-m", "thing"), user="10001:10001", workdir="/app", environment={"A": "b"})


def package(folder: Path) -> Path:
    source = folder / "thing"
    (source / "sub").mkdir(parents=True)
    (source / "__init__.py").write_text("VALUES = {'a', 'b', 'c', 'd'}\n")
    (source / "sub" / "data.json").write_text("{}")
    (source / "sub" / "module.py").write_text("def f(x: int = 3) -> str:\n    return f'{x}'\n")
    return source


def names(layer: Path) -> set[str]:
    with tarfile.open(layer) as tar:
        return set(tar.getnames())


def test_a_layer_of_sources_is_the_same_bytes_wherever_and_whenever_it_is_built(tmp_path: Path) -> None:
    first = sources_layer([package(tmp_path / "here")], "/app", tmp_path / "cache-1")
    second = sources_layer([package(tmp_path / "there")], "/app", tmp_path / "cache-2")
    assert first.name == second.name
    assert sha256(first) == sha256(second)


def test_a_layer_of_sources_is_compiled_and_holds_no_cache_of_the_checkout(tmp_path: Path) -> None:
    source = package(tmp_path)
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "old.cpython-39.pyc").write_text("old")
    (source / ".hidden").write_text("")
    (source / "Dockerfile").write_text("")
    found = names(sources_layer([source], "/app", tmp_path / "cache"))
    compiled = {name for name in found if name.endswith(".pyc")}
    assert {"app/thing/__init__.py", "app/thing/sub/data.json"} <= found
    assert len(compiled) == 2
    assert not {name for name in found if "old." in name or "hidden" in name or "Dockerfile" in name}


def test_a_changed_source_changes_the_layer(tmp_path: Path) -> None:
    source = package(tmp_path)
    before = sources_layer([source], "/app", tmp_path / "cache")
    (source / "__init__.py").write_text("VALUES = {'e'}\n")
    assert sources_layer([source], "/app", tmp_path / "cache") != before


def test_an_archive_is_the_same_bytes_twice_and_names_its_layers(tmp_path: Path) -> None:
    source = package(tmp_path / "root")
    layer = tmp_path / "layer.tar"
    folder_layer(source, layer)
    for name in ("one.tar", "two.tar"):
        write_archive(tmp_path / name, "localhost/thing:1", CONFIG, [layer])
    assert sha256(tmp_path / "one.tar") == sha256(tmp_path / "two.tar")
    with tarfile.open(tmp_path / "one.tar") as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(tar.extractfile(manifest["Config"]))  # type: ignore[arg-type]
    assert manifest["RepoTags"] == ["localhost/thing:1"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{sha256(layer)}"]
    assert config["config"]["User"] == "10001:10001"
    assert not list(tmp_path.glob(".*"))


def test_the_tag_follows_the_layers_and_the_configuration() -> None:
    assert content_tag(CONFIG, ["a" * 64]) == content_tag(CONFIG, ["a" * 64])
    assert content_tag(CONFIG, ["a" * 64]) != content_tag(CONFIG, ["b" * 64])
    other = ImageConfig(entrypoint=("python",), user="10001:10001", workdir="/app")
    assert content_tag(CONFIG, ["a" * 64]) != content_tag(other, ["a" * 64])
    assert re.fullmatch("[0-9a-f]{12}", content_tag(CONFIG, []))


def test_a_description_without_a_field_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "images.toml"
    path.write_text('[images.x]\ndockerfile = "Dockerfile"\nrequirements = "r.txt"\n')
    with pytest.raises(DevClusterError, match=r"image x .* has no sources"):
        description.load(path, tmp_path)


def test_a_description_that_names_a_missing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("")
    path = tmp_path / "images.toml"
    fields = 'dockerfile = "D"\nrequirements = "r.txt"\nsources = ["none"]\nentrypoint = []\nuser = ""\nworkdir = "/"\n'
    path.write_text(f"[images.x]\n{fields}")
    with pytest.raises(DevClusterError, match="needs none"):
        description.load(path, tmp_path)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Instructions and their arguments, continued lines joined, comments left out."""
    text = re.sub(r"\\\n\s*", "", dockerfile.read_text())
    lines = (line.strip() for line in text.splitlines())
    parts = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return [(parts_[0].upper(), parts_[1]) for parts_ in parts]


def said_by(dockerfile: Path) -> dict[str, Any]:
    """What the last stage of a Dockerfile says about the image, and what its earlier stages install."""
    steps = instructions(dockerfile)
    stages = [index for index, (instruction, _) in enumerate(steps) if instruction == "FROM"]
    last = steps[stages[-1] :]
    copies = [argument.split() for instruction, argument in last if instruction == "COPY" and "--from" not in argument]
    requirements = [a.split()[0] for i, a in steps[: stages[-1]] if i == "COPY"]
    told = ("USER", "WORKDIR", "ENTRYPOINT", "STOPSIGNAL")
    only = {instruction: argument for instruction, argument in last if instruction in told}
    return {
        "requirements": requirements,
        "sources": [tuple(copy) for copy in copies],
        "environment": dict(a.split("=", 1) for i, a in last if i == "ENV"),
        "user": only["USER"],
        "workdir": only.get("WORKDIR", "/"),
        "stop_signal": only.get("STOPSIGNAL", ""),
        "entrypoint": json.loads(only["ENTRYPOINT"]),
    }


IMAGES = description.load().values()
PYTHON = [image for image in IMAGES if image.requirements is not None]


@pytest.mark.parametrize("image", PYTHON, ids=lambda image: image.name)
def test_a_dockerfile_makes_the_image_that_the_description_says(image: ImageDescription) -> None:
    assert said_by(image.dockerfile) == {
        "requirements": [str(image.requirements and image.requirements.relative_to(CHECKOUT))],
        "sources": [(str(source.relative_to(CHECKOUT)), source.name) for source in image.sources],
        "environment": dict(image.environment),
        "user": image.user,
        "workdir": image.workdir,
        "stop_signal": image.stop_signal,
        "entrypoint": list(image.entrypoint),
    }


@pytest.mark.parametrize("image", PYTHON, ids=lambda image: image.name)
def test_a_dockerfile_checks_hashes_runs_without_root_and_leaves_the_base_to_the_builder(
    image: ImageDescription,
) -> None:
    steps = instructions(image.dockerfile)
    assert steps[0][0] == "ARG"
    assert all(argument.startswith("${BASE}") for instruction, argument in steps if instruction == "FROM")
    assert any("--require-hashes" in argument for instruction, argument in steps if instruction == "RUN")
    uid, _, gid = image.user.partition(":")
    assert int(uid) > 0
    assert int(gid) > 0


@pytest.mark.parametrize("image", PYTHON, ids=lambda image: image.name)
def test_the_entry_point_is_a_module_or_a_program_that_the_image_holds(image: ImageDescription) -> None:
    name = image.entrypoint[-1]
    if image.entrypoint[:-1] == ("python", "-m"):
        source = next(source for source in image.sources if source.name == name)
        assert any(path.suffix == ".py" for path in source_files(source))
        return
    (program,) = (path for source in image.sources for path in source_files(source) if path.name == name)
    assert program.stat().st_mode & 0o111
    assert f"{image.workdir}/{program.parent.name}" in image.environment["PATH"].split(":")


def imported(module: Path) -> set[str]:
    """The first names of what a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.parametrize("image", PYTHON, ids=lambda image: image.name)
def test_an_image_holds_every_package_of_ours_that_its_modules_import(image: ImageDescription) -> None:
    modules = [path for source in image.sources for path in source_files(source) if path.suffix == ".py"]
    ours = {"bench", "chatbot_operator", "chatbot_runtime", "devcluster", "tests"}
    assert set().union(*map(imported, modules)) & ours <= {source.name for source in image.sources}


def test_an_optional_image_is_built_only_when_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "build", lambda name, _progress: f"{name} is built")
    assert list(builder.build_all()) == ["chatbot-runtime", "chatbot-operator", "chatbot-web"]
    assert list(builder.build_all(names=["chatbot-llama-server"])) == ["chatbot-llama-server"]


def test_the_dockerfile_of_the_page_makes_the_image_that_the_description_says() -> None:
    (image,) = [image for image in IMAGES if image.page is not None]
    said = said_by(image.dockerfile)
    steps = instructions(image.dockerfile)
    assert ("COPY", f"--from=page /web/dist {image.page_folder}") in steps
    assert ("RUN", "npm ci") in steps
    assert said["sources"] == []
    assert {key: said[key] for key in ("user", "workdir", "stop_signal", "entrypoint")} == {
        "user": image.user,
        "workdir": image.workdir,
        "stop_signal": image.stop_signal,
        "entrypoint": list(image.entrypoint),
    }


def test_the_page_is_built_again_only_when_a_source_of_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, built = tmp_path / "web", list[str]()
    for name in page.SOURCES:
        (source / name).mkdir(parents=True) if "." not in name else (source / name).write_text(name)
    (source / "src/App.tsx").write_text("one")

    def run(folder: Path, *command: str) -> None:
        built.append(" ".join(command[:2]))
        (folder / "dist").mkdir(exist_ok=True)
        (folder / "dist/index.html").write_text((folder / "src/App.tsx").read_text())

    monkeypatch.setattr(page, "_run", run)
    monkeypatch.setattr(page, "node_version", lambda: (20, 19, 0))
    first = page.page_layer(source, "/srv/page", tmp_path)
    assert page.page_layer(source, "/srv/page", tmp_path) == first
    assert built == ["npm ci", "npm run"]
    (source / "src/App.tsx").write_text("two")
    second = page.page_layer(source, "/srv/page", tmp_path)
    assert second != first
    with tarfile.open(second) as tar:
        assert tar.extractfile("srv/page/index.html").read() == b"two"  # type: ignore[union-attr]


def test_a_machine_without_node_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "node_version", lambda: (18, 19, 0))
    with pytest.raises(DevClusterError, match=r"Node.js 20.19"):
        page.page_layer(CHECKOUT / "web", "/srv/page", tmp_path)
