"""The generated CustomResourceDefinition: current, described, limited, with the models' defaults."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatbot_operator.api import Chatbot, ChatbotSpec, ChatbotStatus, crd
from chatbot_operator.api.generated import REPOSITORY
from chatbot_operator.api.reference import rules
from chatbot_operator.api.schema import defaulted
from tests.support.schemas import is_leaf, nodes

SCHEMA = crd.object_schema()
NODES = [(path, node) for path, node in nodes(SCHEMA) if not path.startswith(".metadata")]


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY / "operator",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("module", ["chatbot_operator.api.crd", "chatbot_operator.api.reference"])
def test_the_generated_files_are_what_the_models_generate(module: str) -> None:
    result = run(module, "--check")
    assert (result.returncode, result.stderr) == (0, "")


def test_the_check_names_a_file_that_somebody_edited_and_leaves_it_alone(tmp_path: Path) -> None:
    assert run("chatbot_operator.api.crd", "--root", str(tmp_path)).returncode == 0
    edited = tmp_path / crd.PATHS[1]
    edited.write_text(edited.read_text() + "# mine\n")
    result = run("chatbot_operator.api.crd", "--check", "--root", str(tmp_path))
    assert result.returncode == 1
    assert result.stderr == f"{crd.PATHS[1]} is not current: run python -m chatbot_operator.api.crd\n"
    assert edited.read_text().endswith("# mine\n")


def test_the_chart_carries_the_same_bytes() -> None:
    first, second = ((REPOSITORY / path).read_bytes() for path in crd.PATHS)
    assert first == second


def test_the_yaml_says_what_the_definition_says_and_holds_no_anchors() -> None:
    assert yaml.safe_load(crd.rendered()) == crd.definition()
    tokens = {type(token) for token in yaml.scan(crd.rendered())}
    assert not tokens & {yaml.AnchorToken, yaml.AliasToken}


@pytest.mark.parametrize(("path", "node"), NODES, ids=[path for path, _ in NODES])
def test_every_node_says_what_it_is_for_and_shows_a_value(path: str, node: dict[str, Any]) -> None:
    assert node["description"].endswith((".", "`"))
    if is_leaf(node) and node.get("type") != "boolean" and path not in {".apiVersion", ".kind"}:
        assert "default" in node or "enum" in node or "Example: " in node["description"]


LIMITED = [(path, node) for path, node in NODES if path not in {".apiVersion", ".kind"}]


@pytest.mark.parametrize(("path", "node"), LIMITED, ids=[path for path, _ in LIMITED])
def test_every_string_list_and_map_is_limited(path: str, node: dict[str, Any]) -> None:
    kind = node.get("type", "string")
    if kind == "string":
        assert node.keys() & {"maxLength", "enum", "format"}
    elif kind == "array":
        assert "maxItems" in node
    elif kind == "object":
        assert "properties" in node or "maxProperties" in node


def test_the_largest_spec_that_the_limits_allow_fits_into_one_object() -> None:
    # etcd takes 1.5 MiB, the annotation of a client-side apply 256 KiB.
    assert largest(SCHEMA["properties"]["spec"]) < 128 * 1024


def largest(node: dict[str, Any]) -> int:
    """Characters of the largest JSON of this node, keys of maps at 63 characters."""
    if "properties" in node:
        return 2 + sum(len(name) + 4 + largest(child) for name, child in node["properties"].items())
    if "items" in node:
        return 2 + int(node["maxItems"]) * (largest(node["items"]) + 1)
    if "additionalProperties" in node:
        return 2 + int(node["maxProperties"]) * (largest(node["additionalProperties"]) + 63 + 4)
    if "enum" in node:
        return max(len(value) for value in node["enum"]) + 2
    return int(node["maxLength"]) + 2 if "maxLength" in node else 20


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        inner = {key: without_empty(child) for key, child in value.items()}
        return {key: child for key, child in inner.items() if child not in ("", [], {})}
    return value


def test_models_and_schema_have_the_same_defaults() -> None:
    from_schema = defaulted(SCHEMA["properties"]["spec"] | {"default": {}})
    assert without_empty(ChatbotSpec(phase="mock").manifest()) == {"phase": "mock"} | without_empty(from_schema)
    assert without_empty(ChatbotStatus().manifest()) == defaulted(SCHEMA["properties"]["status"])


def test_no_default_chooses_a_member_of_a_one_of() -> None:
    local = SCHEMA["properties"]["spec"]["properties"]["local"]["properties"]
    assert local["source"]["default"] == {}
    assert not any("default" in member for member in local["source"]["properties"].values())


def test_every_block_that_is_merged_field_by_field_has_a_default() -> None:
    """Else Kubernetes up to 1.35 refuses the null that it makes of one that server-side apply has emptied."""
    without = [
        path
        for path, node in blocks(SCHEMA["properties"]["spec"], "spec")
        if node.get("x-kubernetes-map-type") != "atomic" and node.get("default") != {}
    ]
    assert without == []


def blocks(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, child in node.get("properties", {}).items():
        if "properties" in child:
            yield f"{path}.{name}", child
            yield from blocks(child, f"{path}.{name}")


def test_only_the_phase_is_required() -> None:
    assert SCHEMA["properties"]["spec"]["required"] == ["phase"]
    assert Chatbot.model_validate({"metadata": {"name": "demo"}, "spec": {"phase": "mock"}}).spec.phase == "mock"


def test_a_status_counts_as_unseen_before_the_first_visit() -> None:
    status = SCHEMA["properties"]["status"]
    assert status["default"] == {}
    assert status["properties"]["observedGeneration"]["default"] == -1


def test_every_rule_has_a_message_in_a_full_sentence_and_no_message_stands_twice_on_one_field() -> None:
    seen = [(path, rule["message"]) for path, rule in rules(SCHEMA)]
    assert len(seen) == len(set(seen))
    for path, message in seen:
        assert message.endswith("."), path
        assert len(message) <= 2048, path


def test_no_rule_or_pattern_stands_on_a_string_that_could_hold_a_password() -> None:
    urls = {".spec.hf.baseURL", ".spec.network.httpProxy", ".spec.network.httpsProxy", ".spec.access.corsOrigins[]"}
    urls |= {".spec.local.source.download.registry", ".spec.network.noProxy"}
    found = {path: node for path, node in NODES if path in urls}
    assert found.keys() == urls
    for path, node in found.items():
        assert not node.keys() & {"pattern", "x-kubernetes-validations", "enum"}, path
