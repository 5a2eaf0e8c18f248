"""What a Chatbot needs for its phase, and what is said where it is not there."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from chatbot_operator.kinds import CLAIM
from chatbot_operator.names import DOWNLOADED
from chatbot_operator.revision import list_hash
from kubectl_chatbot.findings import Finding, Unknown
from kubectl_chatbot.health import chatbot_findings
from kubectl_chatbot.needs import need_findings
from tests.support.scenes import Scene, serving
from tests.unit.kubectl_chatbot.clusters import PLAIN, STANDARD, facts, node

GIB = 2**30


def pod(where: str, cpu: str, *, phase: str = "Running", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "it", "resources": {"requests": {"cpu": cpu}}}]
    return {"metadata": {}, "spec": {"nodeName": where, "containers": containers, **spec}, "status": {"phase": phase}}


def downloaded(size: int) -> Scene:
    """Phase local, with a claim on which the weights are recorded."""
    scene = Scene({"phase": "local"})
    scene.apply()
    (claim,) = (o for r, o in scene.objects.items() if r.kind == CLAIM)
    models = [{"name": "phi", "digest": "sha256:0", "sizeBytes": size, "bytesPerToken": 0}]
    record = json.dumps({"models": models, "finishedAt": ""})
    claim["metadata"]["annotations"] = {DOWNLOADED + list_hash(scene.chatbot.spec): record}
    return scene


def found(spec: Mapping[str, Any], **changed: Any) -> dict[str, Finding]:
    """By check."""
    return {f.check: f for f in need_findings(Scene(spec).context, facts(**changed))}


def quota(hard: Mapping[str, str], used: Mapping[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "team"}, "status": {"hard": hard, "used": used}}


HF: dict[str, Any] = {"phase": "hf"}
LOCAL: dict[str, Any] = {"phase": "local"}
OTHER = {"phase": "hf", "hf": {"baseURL": "https://models.example.com/v1"}}
KEYS = {"phase": "mock", "access": {"mode": "APIKey", "keysSecretRef": {"name": "chat-keys"}}}


@pytest.mark.parametrize(
    ("spec", "secret", "keys", "verdict", "said"),
    [
        (HF, "hf-token", {"token": True}, "ok", "was not looked at"),
        (HF, "hf-token", None, "failed", "create secret generic -n chat hf-token --from-literal token=…"),
        (HF, "hf-token", {"token": False}, "failed", "Key token is missing or empty"),
        (HF, "hf-token", {"TOKEN": True}, "failed", "Key token is missing or empty"),
        (HF, "hf-token", Unknown("You may not read Secret hf-token."), "unknown", "may not read"),
        (OTHER, "hf-token", None, "warning", "There is no such Secret"),
        (KEYS, "chat-keys", {"alice": True, "bob": False}, "ok", "Has 1 keys"),
        (KEYS, "chat-keys", {}, "failed", "It is empty"),
        (KEYS, "chat-keys", None, "failed", "--from-literal alice=…"),
    ],
)
def test_secrets(spec: Mapping[str, Any], secret: str, keys: Any, verdict: str, said: str) -> None:
    finding = found(spec, secrets={secret: keys})[f"secret {secret}"]
    assert finding.verdict == verdict
    assert said in finding.message


def test_a_mock_needs_no_secret_and_no_storage() -> None:
    assert found({"phase": "mock"}).keys() == {"node", "quota"}


@pytest.mark.parametrize(
    ("local", "classes", "verdict", "said"),
    [
        ({}, [STANDARD], "ok", "standard, the cluster's default"),
        ({}, [PLAIN], "failed", "set local.storage.storageClassName (plain)"),
        ({}, [], "failed", "none exists; install one"),
        ({"storage": {"storageClassName": "plain"}}, [PLAIN, STANDARD], "ok", "plain exists"),
        (
            {"storage": {"storageClassName": "fast"}},
            [PLAIN, STANDARD],
            "failed",
            "there is no fast. Use plain or standard",
        ),
        ({}, Unknown("You may not read StorageClasses."), "unknown", "may not read"),
    ],
)
def test_the_storage_class_of_the_weights(local: Any, classes: Any, verdict: str, said: str) -> None:
    finding = found({**LOCAL, "local": local}, storage_classes=classes)["storage class"]
    assert finding.verdict == verdict
    assert said in finding.message


@pytest.mark.parametrize("there", [True, False])
def test_a_claim_of_the_users_own(there: bool) -> None:
    spec = {**LOCAL, "local": {"source": {"claim": {"name": "mine"}}}}
    checks = found(spec, claims={"mine": {"metadata": {"name": "mine"}} if there else None})
    assert checks["claim mine"].verdict == ("ok" if there else "failed")
    assert "storage class" not in checks


@pytest.mark.parametrize(
    ("size", "verdict", "said"),
    [
        (1 * GIB, "ok", "It needs"),
        (8 * GIB, "failed", "need 8.0 GiB"),
        (30 * GIB, "failed", "local.storage.size is 20Gi"),
    ],
)
def test_whether_the_model_fits_once_its_size_is_known(size: int, verdict: str, said: str) -> None:
    checks = {f.check: f for f in need_findings(downloaded(size).context, facts())}
    assert checks["model fits"].verdict == verdict
    assert said in checks["model fits"].message


def test_the_size_of_a_model_is_not_known_before_its_download() -> None:
    assert found(LOCAL)["model fits"].verdict == "unknown"


TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
TOLERANT = {"tolerations": [{"key": "gpu", "operator": "Exists"}]}


@pytest.mark.parametrize(
    ("nodes", "pods", "spec", "verdict"),
    [
        ([node()], [], {}, "ok"),
        ([node(cpu="1")], [], {}, "failed"),
        ([node(memory="2Gi")], [], {}, "failed"),
        ([node()], [pod("one", "3")], {}, "warning"),
        ([node()], [pod("two", "3")], {}, "ok"),
        ([node()], [pod("one", "3", phase="Succeeded")], {}, "ok"),
        ([node()], [pod("one", "1", initContainers=[{"resources": {"requests": {"cpu": "3"}}}])], {}, "warning"),
        ([node(), node("two")], [pod("one", "3")], {}, "ok"),
        ([node(unschedulable=True)], [], {}, "failed"),
        ([node(taints=[TAINT])], [], {}, "failed"),
        ([node(taints=[TAINT])], [], {"pods": TOLERANT}, "ok"),
        ([node(taints=[{**TAINT, "effect": "PreferNoSchedule"}])], [], {}, "ok"),
        ([node(labels={"pool": "chat"})], [], {"pods": {"nodeSelector": {"pool": "chat"}}}, "ok"),
        ([node(labels={"pool": "web"})], [], {"pods": {"nodeSelector": {"pool": "chat"}}}, "failed"),
        ([node()], [], {"local": {"gpu": {"count": 1}}}, "failed"),
        ([node(resources={"nvidia.com/gpu": "1"})], [], {"local": {"gpu": {"count": 1}}}, "ok"),
        ([node()], Unknown("no"), {}, "ok"),
    ],
)
def test_a_node_for_one_more_pod(nodes: Any, pods: Any, spec: Any, verdict: str) -> None:
    assert found({**LOCAL, **spec}, nodes=nodes, pods=pods)["node"].verdict == verdict


@pytest.mark.parametrize(
    ("hard", "used", "verdict", "said"),
    [
        ({"requests.cpu": "4"}, {"requests.cpu": "2500m"}, "ok", ""),
        (
            {"requests.cpu": "4"},
            {"requests.cpu": "3"},
            "failed",
            "ResourceQuota team, requests.cpu: 1 left, and one more pod needs 1500m",
        ),
        ({"memory": "4Gi"}, {"memory": "1Gi"}, "failed", "memory: 3Gi left, and one more pod needs 4Gi"),
        ({"pods": "3"}, {"pods": "3"}, "failed", "pods: 0 left, and one more pod needs 1"),
        (
            {"requests.storage": "10Gi"},
            {},
            "failed",
            "requests.storage: 10Gi left, and the claim of the weights needs 20Gi",
        ),
        ({"count/secrets": "1"}, {"count/secrets": "1"}, "ok", ""),
    ],
)
def test_quotas(hard: Mapping[str, str], used: Mapping[str, str], verdict: str, said: str) -> None:
    finding = found(LOCAL, quotas=[quota(hard, used)])["quota"]
    assert finding.verdict == verdict
    assert said in finding.message


def test_a_claim_that_is_there_needs_no_more_of_the_quota() -> None:
    full = quota({"requests.storage": "20Gi"}, {"requests.storage": "20Gi"})
    checks = need_findings(downloaded(GIB).context, facts(quotas=[full]))
    assert {f.check: f.verdict for f in checks}["quota"] == "ok"


def test_what_keeps_the_operator_from_acting() -> None:
    scene = Scene({"phase": "mock", "suspend": True})
    scene.raw["metadata"]["annotations"] = {"chatbot-operator.dev/paused": "true"}
    checks = {f.check: f.verdict for f in need_findings(scene.context, facts())}
    assert (checks["suspend"], checks["paused"]) == ("failed", "failed")


def test_an_endpoint_that_the_administrator_does_not_allow() -> None:
    assert "ask the administrator" in found(OTHER)["endpoint"].message


def test_the_doctor_says_that_all_is_well_of_a_chatbot_that_serves() -> None:
    scene = serving()
    scene.keep_status()
    assert {f.verdict for f in chatbot_findings(scene.context, facts())} == {"ok"}


def test_the_doctor_says_that_the_operator_has_not_looked() -> None:
    checks = {f.check: f for f in chatbot_findings(Scene().context, facts())}
    assert checks["ready"].verdict == "failed"
    assert "has not looked" in checks["ready"].message
