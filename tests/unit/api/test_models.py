"""Parsing Chatbots."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError

from chatbot_operator.api import Chatbot, ChatbotSpec, ChatbotStatus, Condition, InvalidChatbot, crd, parse_chatbot
from tests.support.schemas import is_leaf, nodes, objects_of

SPEC = crd.object_schema()["properties"]["spec"]
STATUS = crd.object_schema()["properties"]["status"]
SECRET = "hf_S3cretThatMustNotBePrinted"


def manifest(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "demo", "namespace": "chat"}, "spec": {"phase": "mock", **spec}}


def as_stored(value: Any) -> Any:
    """As the model keeps it: quantities as text."""
    if isinstance(value, dict):
        quantities = {"cpu", "memory", "ephemeral-storage", "size"}
        return {k: str(v) if k in quantities else as_stored(v) for k, v in value.items()}
    return [as_stored(item) for item in value] if isinstance(value, list) else value


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(k in whole and contains(whole[k], v) for k, v in part.items())
    return bool(whole == part)


def test_attributes_are_the_fields_in_snake_case() -> None:
    spec = parse_chatbot(
        manifest(
            local={"source": {"download": {}}, "resources": {"requests": {"ephemeral-storage": "1Gi"}}},
            expose={"loadBalancerSourceRanges": ["203.0.113.0/24"]},
            pods={"nodeSelector": {"a": "b"}},
        )
    ).spec
    assert spec.local.source is not None
    assert spec.local.source.download is not None
    assert spec.local.source.download.backoff_limit == 4
    assert spec.local.resources.requests.ephemeral_storage == "1Gi"
    assert spec.local.resources.requests.memory == "4Gi"
    assert spec.backend.autoscaling.target_cpu_percent == 70
    assert spec.expose.load_balancer_source_ranges == ("203.0.113.0/24",)
    assert spec.hf.base_url == "https://router.huggingface.co/v1"
    assert spec.access.keys_secret_ref is None
    assert spec.pods.node_selector == {"a": "b"}


def test_a_chatbot_cannot_be_changed() -> None:
    chatbot = parse_chatbot(manifest())
    with pytest.raises(ValidationError, match="frozen"):
        chatbot.spec.phase = "hf"  # type: ignore[misc]


def test_fields_of_a_newer_definition_are_ignored() -> None:
    assert parse_chatbot(manifest(future={"a": 1}, mock={"alsoFuture": 2})) == parse_chatbot(manifest())


def test_a_written_null_means_absent() -> None:
    assert parse_chatbot(manifest(local=None, hf={"baseURL": None}, backend={"replicas": None})) == parse_chatbot(
        manifest()
    )


def test_metadata_is_read_as_the_api_server_writes_it() -> None:
    raw = manifest() | {
        "metadata": {
            "name": "demo",
            "namespace": "chat",
            "uid": "1b1d",
            "generation": 3,
            "resourceVersion": "42",
            "creationTimestamp": "2026-01-31T12:00:00Z",
            "deletionTimestamp": "2026-01-31T13:00:00Z",
            "annotations": {"chatbot-operator.dev/paused": "true"},
            "managedFields": [{"manager": "kubectl"}],
        }
    }
    metadata = parse_chatbot(raw).metadata
    assert (metadata.namespace, metadata.uid, metadata.generation, metadata.resource_version) == (
        "chat",
        "1b1d",
        3,
        "42",
    )
    assert metadata.deletion_timestamp is not None
    assert metadata.annotations == {"chatbot-operator.dev/paused": "true"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "metadata: Field required; spec: Field required"),
        ({"metadata": {}, "spec": {"phase": "mock"}}, "metadata.name: Field required"),
        ({"metadata": {"name": "demo"}, "spec": {}}, "spec.phase: Field required"),
        (manifest(phase="cloud"), "spec.phase: Input should be 'mock', 'hf' or 'local'"),
        (
            manifest(mock={"tokensPerSecond": 0}),
            "spec.mock.tokensPerSecond: Input should be greater than or equal to 1",
        ),
        (
            manifest(local={"storage": {"size": "20 GB"}}),
            "spec.local.storage.size: must be a quantity such as 500m, 2, 512Mi or 20Gi",
        ),
        (
            manifest(local={"resources": {"requests": {"cpu": 1.5}}}),
            "spec.local.resources.requests.cpu: Input should be a valid string",
        ),
        (
            manifest(pods={"tolerations": [{}, {"operator": "Maybe"}]}),
            "spec.pods.tolerations[1].operator: Input should be 'Exists' or 'Equal'",
        ),
    ],
)
def test_a_parse_error_names_the_field_and_the_problem(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidChatbot) as caught:
        parse_chatbot(raw)
    assert str(caught.value) == message


LEAVES = [(path, node) for path, node in nodes(SPEC) if is_leaf(node)]


@pytest.mark.parametrize(("path", "node"), LEAVES, ids=[path for path, _ in LEAVES])
def test_a_wrong_value_of_any_field_is_refused_by_its_path_and_never_printed(path: str, node: dict[str, Any]) -> None:
    wrong: Any = [SECRET] if node.get("type", "string") == "string" else {"x": SECRET}
    with pytest.raises(InvalidChatbot) as caught:
        parse_chatbot(manifest(**nested(path.removeprefix("."), wrong)))
    expected = f"spec{path.replace('[]', '[0]').replace('.*', '.example.com/key')}: "
    assert expected in str(caught.value)
    assert SECRET not in str(caught.value)


def nested(path: str, value: Any) -> dict[str, Any]:
    """The object in which `path` has this value."""
    name, _, rest = path.partition(".")
    inner = nested(rest, value) if rest and rest != "*" else {"example.com/key": value} if rest else value
    return {name.removesuffix("[]"): [inner] if name.endswith("[]") else inner}


@given(spec=objects_of(SPEC))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_spec_that_the_schema_allows_is_parsed_kept_and_round_trips(spec: dict[str, Any]) -> None:
    parsed = parse_chatbot(manifest() | {"spec": spec}).spec
    assert contains(parsed.manifest(), as_stored(spec))
    assert ChatbotSpec.model_validate(parsed.manifest()) == parsed


@given(status=objects_of(STATUS))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_status_that_the_schema_allows_is_read_back_as_it_was_written(status: dict[str, Any]) -> None:
    parsed = parse_chatbot(manifest() | {"status": status}).status
    assert parsed == ChatbotStatus.model_validate(status)
    assert ChatbotStatus.model_validate(parsed.manifest()) == parsed


@pytest.mark.parametrize("status", [{"servingPhase": "cloud"}, {"conditions": [{"type": "Ready"}]}, []])
def test_a_status_that_cannot_be_read_counts_as_absent(status: Any) -> None:
    assert parse_chatbot(manifest() | {"status": status}).status == ChatbotStatus()


def test_conditions_are_found_by_type_and_written_as_kubernetes_does() -> None:
    written = {
        "type": "Ready",
        "status": "False",
        "observedGeneration": 2,
        "lastTransitionTime": "2026-01-31T12:00:00Z",
        "reason": "RollingOut",
        "message": "1 of 2 pods are new.",
    }
    chatbot = Chatbot.model_validate(manifest() | {"status": {"conditions": [written]}})
    ready = chatbot.status.condition("Ready")
    assert isinstance(ready, Condition)
    assert ready.manifest() == written
    assert chatbot.status.condition("Available") is None
