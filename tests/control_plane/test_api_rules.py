"""Every validation rule of the definition, on a real API server: one case that passes and one that is refused."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from chatbot_operator.api import crd
from chatbot_operator.api.reference import rules
from tests.support.chatbots import ChatbotApi, chatbot, without_value

RULES = list(rules(crd.object_schema()))
KINDS = {"FieldValueRequired": "Required value", "FieldValueForbidden": "Forbidden"}
Spec = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A spec that the rule refuses, and a neighbour that it accepts; for transition rules, what stood there before."""

    where: str
    message: str  # how it begins, as far as needed to tell the rules of one field apart
    refused: Spec
    accepted: Spec
    before: Spec | None = None

    @property
    def rule(self) -> Spec:
        """The one rule that is meant."""
        found = [rule for path, rule in RULES if path == self.where and rule["message"].startswith(self.message)]
        assert len(found) == 1, f"{self.where}: {len(found)} rules begin with {self.message!r}"
        return found[0]

    @property
    def refusal(self) -> str:
        """What the API server must answer."""
        kind = KINDS.get(self.rule.get("reason", ""), "Invalid value")
        return f"{self.where.replace('[]', '[0]')}: {kind}: {self.rule['message']}"


def resource_cases() -> Iterator[Case]:
    for phase, cpu, memory in (
        ("mock", "100m", "128Mi"),
        ("hf", "200m", "256Mi"),
        ("local", "1500m", "4Gi"),
        ("web", "20m", "32Mi"),
    ):
        where = f"spec.{phase}.resources"
        for key, below, equal in (("memory", "31Mi", memory), ("cpu", "19m", cpu)):
            yield Case(
                where,
                f"limits.{key} must not be below",
                {phase: {"resources": {"limits": {key: below}}}},
                {phase: {"resources": {"limits": {key: equal}}}},
            )
        yield Case(
            where,
            "limits.cpu",
            {phase: {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1999m"}}}},
            {phase: {"resources": {"requests": {"cpu": "2000m"}, "limits": {"cpu": 2}}}},
        )
        scratch = {"ephemeral-storage": "1Gi"}
        yield Case(
            where,
            "limits.ephemeral-storage",
            {phase: {"resources": {"requests": scratch, "limits": {"ephemeral-storage": "1023Mi"}}}},
            {phase: {"resources": {"requests": scratch, "limits": {"ephemeral-storage": "1024Mi"}}}},
        )


def url_cases() -> Iterator[Case]:
    for block, field in (("hf", "baseURL"), ("network", "httpProxy"), ("network", "httpsProxy")):
        where = f"spec.{block}.{field}"
        for secret in ("https://user:S3cret@example.com/v1", "http://token@example.com"):
            yield Case(
                where,
                f"{block}.{field} must not contain a user name",
                {block: {field: secret}},
                {block: {field: "https://example.com/v1?mail=a@example.com"}},
            )
        for wrong in ("example.com:3128", "ftp://example.com", "https://", "https://exa mple.com"):
            yield Case(
                where,
                f"{block}.{field} must be a URL",
                {block: {field: wrong}},
                {block: {field: "http://10.0.0.1:3128"}},
            )


def key_cases() -> Iterator[Case]:
    for block, field in (("expose", "annotations"), ("pods", "labels"), ("pods", "annotations")):
        where = f"spec.{block}.{field}"
        reserved = ("app.kubernetes.io/name", "chatbot-operator.dev/retry", "x.chatbot-operator.dev/y")
        for key in reserved:
            yield Case(
                where,
                f"{block}.{field} must not hold keys",
                {block: {field: {key: "mine"}}},
                {block: {field: {"kubernetes.io/name": "mine", "example.dev/app.kubernetes.io": "a"}}},
            )
        for key in ("a/b/c", "with space", "-a"):
            yield Case(
                where,
                f"{block}.{field}: every key",
                {block: {field: {key: "mine"}}},
                {block: {field: {"team": "mine", "example.com/Team_1.x": ""}}},
            )
    yield Case(
        "spec.pods.labels",
        "pods.labels: every value",
        {"pods": {"labels": {"team": "two words"}}},
        {"pods": {"labels": {"team": "Two-words_1.x", "empty": ""}}},
    )


def model_cases() -> Iterator[Case]:
    for phase, message in (("hf", "hf.models must not"), ("local", "local.models must not")):
        yield Case(
            f"spec.{phase}.models", message, {phase: {"models": ["a", "b", "a"]}}, {phase: {"models": ["a", "b", "c"]}}
        )
    for name in ("owner/", "/name", "owner/name:", "a b", "owner/name:p:q", "https://x/y"):
        yield Case(
            "spec.hf.models",
            "hf.models takes",
            {"hf": {"models": [name]}},
            {"hf": {"models": ["owner/name", "owner/name:cheapest", "gpt-x", "a/b/c.d_e"]}},
        )
    gguf = "hf://Qwen/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf"
    for models in ([gguf, "phi"], ["phi", gguf], [gguf, gguf.replace("Q4", "Q8")]):
        yield Case(
            "spec.local.models",
            "local.models: an hf:// reference must stand alone",
            {"local": {"models": models}},
            {"local": {"models": [gguf]}},
        )
    accepted = (
        ["phi", "llama3.2:1b", "registry.corp:5000/team/m:1", "team/m"],
        [f"{gguf}@main"],
        ["hf://o/r/sub dir/part-00001-of-00003.gguf"],
    )
    wrong = (
        ":tag",
        "a/b/c/d",
        "hf://owner/repo",
        "hf://owner/repo/file.bin",
        "hf://o/r/../x.gguf",
        "a..b",
        "hf://o/r/x.gguf@",
    )
    for index, name in enumerate(wrong):
        yield Case(
            "spec.local.models",
            "local.models takes",
            {"local": {"models": [name]}},
            {"local": {"models": accepted[index % len(accepted)]}},
        )


def replica_cases() -> Iterator[Case]:
    off = {"enabled": False}
    yield Case(
        "spec.backend.replicas",
        "backend.replicas is required",
        {"backend": {"autoscaling": off}},
        {"backend": {"autoscaling": off, "replicas": 2}},
    )
    yield Case("spec.backend.replicas", "backend.replicas cannot be set", {"backend": {"replicas": 2}}, {"backend": {}})
    for block in ("backend", "web"):
        yield Case(
            f"spec.{block}.autoscaling.minReplicas",
            f"{block}.autoscaling.minReplicas must not",
            {block: {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}},
            {block: {"autoscaling": {"minReplicas": 3, "maxReplicas": 3}}},
        )


def exposure_cases() -> Iterator[Case]:
    gateway, ingress, anonymous = {"gatewayRef": {"name": "g"}}, {"ingressClassName": "i"}, {"mode": "Anonymous"}
    for exposed in ({"type": "LoadBalancer"}, {"type": "NodePort"}, {"host": "a.example.com", **gateway}):
        yield Case(
            "spec.access.mode",
            "access.mode is required",
            {"expose": exposed},
            {"expose": exposed, "access": anonymous},
        )
    yield Case(
        "spec.access.keysSecretRef",
        "access.keysSecretRef is required",
        {"access": {"mode": "APIKey"}},
        {"access": {"mode": "APIKey", "keysSecretRef": {"name": "keys"}}},
    )
    host = {"host": "a.example.com"}
    for refused in (host, {**host, **gateway, **ingress}):
        for accepted in (gateway, ingress):
            yield Case(
                "spec.expose",
                "expose.host needs exactly one",
                {"expose": refused, "access": anonymous},
                {"expose": {**host, **accepted}, "access": anonymous},
            )
    for route in (gateway, ingress):
        yield Case(
            "spec.expose",
            "expose.gatewayRef and expose.ingressClassName do nothing",
            {"expose": route},
            {"expose": {**route, **host}, "access": anonymous},
        )
    tls = {"tlsSecretName": "tls"}
    yield Case(
        "spec.expose.tlsSecretName",
        "expose.tlsSecretName needs",
        {"expose": {**host, **gateway, **tls}, "access": anonymous},
        {"expose": {**host, **ingress, **tls}, "access": anonymous},
    )
    for wrong in ("203.0.113.0", "203.0.113.0/33", "example.com"):
        yield Case(
            "spec.expose.loadBalancerSourceRanges[]",
            "expose.loadBalancerSourceRanges takes",
            {"expose": {"loadBalancerSourceRanges": [wrong]}},
            {"expose": {"loadBalancerSourceRanges": ["203.0.113.0/24", "2001:db8::/32"]}},
        )
    for wrong in ("https://user:S3cret@example.com", "https://example.com/", "example.com", "*"):
        yield Case(
            "spec.access.corsOrigins",
            "access.corsOrigins takes",
            {"access": {"corsOrigins": [wrong]}},
            {"access": {"corsOrigins": ["https://www.example.com", "http://localhost:5173"]}},
        )


def source_cases() -> Iterator[Case]:
    download: Spec = {"download": {}}
    claim, image = {"claim": {"name": "c"}}, {"image": {"reference": "r"}}
    for two, one in (({**download, **claim}, claim), ({**download, **image}, image), ({**claim, **image}, download)):
        yield Case(
            "spec.local.source",
            "local.source takes at most one",
            {"local": {"source": two}},
            {"local": {"source": one}},
        )
    yield Case(
        "spec.local.image",
        "local.image and local.source.image",
        {"local": {"image": "engine:1", "source": image}},
        {"local": {"image": "engine:1", "source": claim}},
    )
    for wrong in ("https://registry.example.com", "user:S3cret@registry.example.com", "registry/path"):
        yield Case(
            "spec.local.source.download.registry",
            "local.source.download.registry takes",
            {"local": {"source": {"download": {"registry": wrong}}}},
            {"local": {"source": {"download": {"registry": "registry.example.com:5000"}}}},
        )
    for wrong in ("/models", "a/../b", ".."):
        yield Case(
            "spec.local.source.claim.subPath",
            "local.source.claim.subPath must be",
            {"local": {"source": {"claim": {"name": "c", "subPath": wrong}}}},
            {"local": {"source": {"claim": {"name": "c", "subPath": "a/b..c"}}}},
        )
    for requests in ({"cpu": "100m"}, {"memory": "128Mi"}):
        yield Case(
            "spec.local.resources",
            "local.resources.requests must be above",
            {"local": {"resources": {"requests": requests}}},
            {"local": {"resources": {"requests": {"cpu": "101m", "memory": "129Mi"}}}},
        )
    for size in ("0", 0, "0Gi"):
        yield Case(
            "spec.local.storage.size",
            "local.storage.size must be above 0",
            {"local": {"storage": {"size": size}}},
            {"local": {"storage": {"size": "1"}}},
        )


def phase_cases() -> Iterator[Case]:
    forbidden = {"privacy": {"externalInference": "Forbidden"}}
    for neighbour in ({"phase": "mock", **forbidden}, {"phase": "local", **forbidden}, {"phase": "hf"}):
        yield Case("spec.phase", "phase hf sends prompts", {"phase": "hf", **forbidden}, neighbour)


def transition_cases() -> Iterator[Case]:
    def balanced(**fields: str) -> Spec:
        return {"expose": {"type": "LoadBalancer", **fields}, "access": {"mode": "Anonymous"}}

    one, two, none = balanced(loadBalancerClass="a/one"), balanced(loadBalancerClass="a/two"), balanced()
    for before, refused in ((one, two), (none, one), (one, none)):
        for accepted in ({**before, "systemPrompt": "Another one."}, {"expose": {"type": "ClusterIP"}}):
            yield Case(
                "spec.expose.loadBalancerClass",
                "expose.loadBalancerClass cannot change",
                refused,
                accepted,
                before=before,
            )
    yield Case(
        "spec.local.storage.size",
        "local.storage.size may only grow",
        {"phase": "local", "local": {"storage": {"size": "10Gi"}}},
        {"phase": "local", "local": {"storage": {"size": "30Gi"}}},
        before={"phase": "local"},
    )


CASES = [
    *resource_cases(),
    *url_cases(),
    *key_cases(),
    *model_cases(),
    *replica_cases(),
    *exposure_cases(),
    *source_cases(),
    *phase_cases(),
    *transition_cases(),
]
NAME_RULE = ("metadata.name", RULES[0][1]["message"])


@pytest.fixture(scope="module")
def outcomes(api: ChatbotApi) -> dict[str, str]:
    """The API server's answer to every case."""
    objects = {
        f"{side}-{index}": {"phase": "mock", **spec}
        for index, case in enumerate(CASES)
        for side, spec in (("refused", case.refused), ("accepted", case.accepted))
    }
    before = {
        f"{side}-{index}": chatbot(f"{side}-{index}", {"phase": "mock", **case.before})
        for index, case in enumerate(CASES)
        for side in ("refused", "accepted")
        if case.before is not None
    }
    created = api.submit("create", before.values())
    assert set(created.values()) == {""}
    manifests = {name: chatbot(name, spec) for name, spec in objects.items()}
    fresh = [manifest for name, manifest in manifests.items() if name not in before]
    edits = [manifest for name, manifest in manifests.items() if name in before]
    return api.submit("create", fresh, "--dry-run=server") | api.submit("replace", edits)


@pytest.mark.parametrize("index", range(len(CASES)), ids=[f"{i}-{c.where}" for i, c in enumerate(CASES)])
def test_a_rule_refuses_with_its_exact_message_and_accepts_the_neighbour(outcomes: dict[str, str], index: int) -> None:
    assert without_value(outcomes[f"refused-{index}"]) == CASES[index].refusal
    assert outcomes[f"accepted-{index}"] == ""


def test_every_rule_of_the_definition_has_a_case() -> None:
    covered = {(case.where, case.rule["message"]) for case in CASES} | {NAME_RULE}
    assert {(path, rule["message"]) for path, rule in RULES} - covered == set()


def test_no_refusal_ever_prints_a_password(outcomes: dict[str, str]) -> None:
    assert sum("S3cret" in str(case.refused) for case in CASES) >= 5
    assert not any("S3cret" in answer for answer in outcomes.values())


@pytest.mark.parametrize("name", ["1a", "a.b", "a" * 46])
def test_a_name_of_which_no_service_can_be_made_is_refused(api: ChatbotApi, name: str) -> None:
    outcome = api.submit("create", [chatbot(name, {"phase": "mock"})], "--dry-run=server")
    assert without_value(outcome[name]) == f"metadata.name: Invalid value: {NAME_RULE[1]}"


@pytest.mark.parametrize("name", ["a", "a" * 45, "chat-2"])
def test_a_name_of_which_services_can_be_made_is_accepted(api: ChatbotApi, name: str) -> None:
    assert api.submit("create", [chatbot(name, {"phase": "mock"})], "--dry-run=server") == {name: ""}
