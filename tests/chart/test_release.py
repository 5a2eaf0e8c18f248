"""A release of the chart names its images by digest. A real registry, crane and Helm; no cluster."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import release
from devcluster.errors import DevClusterError
from tests.support.helm import CHART, helm
from tests.support.image_registry import Registry

VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
IMAGES = (*release.OURS, *release.THEIRS)


def at(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values[key]
    return values


def test_the_published_chart_names_every_image_by_the_digest_that_the_registry_has(
    registry: Registry, chart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [at(yaml.safe_load((CHART / "values.yaml").read_text()), p)["repository"] for p in release.OURS]
    ours = [f"me/{name.rpartition('/')[2]}:{VERSION}" for name in names]
    digests = {name: registry.put(name, tmp_path) for name in (*ours, "ollama:1", "llama.cpp:1")}
    address = f"{registry.address}/Me"  # an owner's name may have capitals, a repository's may not
    push = f"oci://{registry.address}/charts"
    asked = [f"v{VERSION}", "--registry", address, "--chart", str(chart), "--output", str(tmp_path), "--push", push]
    assert release.main([*asked, "--plain-http"]) == 0
    assert capsys.readouterr().out.strip().endswith(f"chatbot-operator-{VERSION}.tgz")

    tool = helm("helm")
    tool(
        "pull", f"{push}/chatbot-operator", "--version", VERSION, "--plain-http", "--untar", "--untardir", str(tmp_path)
    )
    values = (tmp_path / "chatbot-operator/values.yaml").read_text()
    assert [at(yaml.safe_load(values), path)["digest"] for path in IMAGES] == list(digests.values())
    used = set(re.findall(r"image: \"?(\S+?)\"?$", rendered(tmp_path), re.MULTILINE))
    assert f"{registry.address}/me/chatbot-operator@{digests[ours[0]]}" in used
    assert all("@sha256:" in image for image in used)
    # Nothing else has changed, the comments included.
    kept = [line for line in values.splitlines() if not re.match(r"\s+(repository|tag|digest):", line)]
    assert kept == [
        line
        for line in (CHART / "values.yaml").read_text().splitlines()
        if not re.match(r"\s+(repository|tag|digest):", line)
    ]


def rendered(folder: Path) -> str:
    return helm("helm")("template", "chatbot-operator", str(folder / "chatbot-operator"))


def test_an_image_that_was_not_pushed_stops_the_release(
    registry: Registry, chart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        f"v{VERSION}",
        "--registry",
        f"{registry.address}/nobody",
        "--chart",
        str(chart),
        "--output",
        str(tmp_path),
    ]
    assert release.main(asked) == 1
    said = capsys.readouterr().err
    assert f"nobody/chatbot-operator:{VERSION} has no digest" in said
    assert "push the images first" in said
    assert not list(tmp_path.glob("*.tgz"))


@pytest.mark.parametrize("tag", ["v9.9.9", "main", "v1", "v1.2.3; rm -rf /"])
def test_a_tag_that_the_chart_does_not_state_is_refused(tag: str) -> None:
    with pytest.raises(DevClusterError, match="tag"):
        release.version_of(tag)
    assert release.version_of(f"refs/tags/v{VERSION}") == VERSION


def test_a_value_that_is_not_where_it_should_be_is_named() -> None:
    with pytest.raises(DevClusterError, match="'web:'"):
        release.replaced("images:\n  runtime:\n    tag: x\nother:\n  web:\n", "images.web", {"tag": "1"})
