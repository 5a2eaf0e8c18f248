"""The manifests in examples/."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from chatbot_operator.api import API_VERSION, KIND, crd, parse_chatbot
from chatbot_operator.api.generated import REPOSITORY
from tests.support.schemas import nodes

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.yaml"))
SPEC = crd.object_schema()["properties"]["spec"]


def load(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load(path.read_text())
    return manifest


def paths_in(value: Any, node: dict[str, Any], path: str = "") -> set[str]:
    """Every schema path that `value` uses. Raises KeyError on a field that the schema does not have."""
    if "properties" in node:
        pairs = [(f"{path}.{name}", child, node["properties"][name]) for name, child in value.items()]
    elif "items" in node:
        pairs = [(f"{path}[]", child, node["items"]) for child in value]
    elif "additionalProperties" in node:
        pairs = [(f"{path}.*", child, node["additionalProperties"]) for child in value.values()]
    else:
        return set()
    return {name for name, _, _ in pairs}.union(*(paths_in(child, inner, name) for name, child, inner in pairs))


def test_there_is_one_example_for_each_way_to_get_answers() -> None:
    assert [path.stem for path in EXAMPLES] == [
        "full",
        "hf",
        "local-claim",
        "local-gguf",
        "local-image",
        "local-ollama",
        "mock",
        "production",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_parses_and_round_trips(path: Path) -> None:
    manifest = load(path)
    assert (manifest["apiVersion"], manifest["kind"]) == (API_VERSION, KIND)
    chatbot = parse_chatbot(manifest)
    again = parse_chatbot({"metadata": manifest["metadata"], "spec": chatbot.spec.manifest()})
    assert again == chatbot


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_uses_only_fields_that_exist(path: Path) -> None:
    assert paths_in(load(path)["spec"], SPEC)


def test_together_the_examples_show_every_field() -> None:
    shown = set[str]().union(*(paths_in(load(path)["spec"], SPEC) for path in EXAMPLES))
    assert {path for path, _ in nodes(SPEC)} - shown == set()


def test_the_full_example_shows_every_field_but_the_members_that_exclude_one_another() -> None:
    full = paths_in(load(REPOSITORY / "examples" / "full.yaml")["spec"], SPEC)
    excluded = (".local.source.claim", ".local.source.image", ".expose.gatewayRef")
    assert all(path.startswith(excluded) for path in {path for path, _ in nodes(SPEC)} - full)
