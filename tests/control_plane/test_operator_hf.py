"""Phase hf as the operator sees it: endpoints, what pods say of their provider, the way out. Pods only seem to run."""

import json
from collections.abc import Iterator

import pytest

from tests.control_plane.conftest import Operated
from tests.support.chatbot import Bot
from tests.support.operator import wait_for


@pytest.fixture
def bot(operated: Operated, namespace: str) -> Iterator[Bot]:
    yield Bot(operated.access, namespace)
    operated.pods.overrides.clear()


def verified(bot: Bot) -> list[str]:
    settings = json.loads(bot.get("configmap/demo-backend")["data"]["settings.json"])
    found: list[str] = settings["verifiedRevisions"]
    return found


def test_editing_the_phase_moves_a_mock_to_a_hosted_model_and_back(bot: Bot) -> None:
    bot.create().wait_ready()
    address = bot.get("service/demo")["spec"]["clusterIP"]
    assert bot.get("networkpolicy/demo-backend")["spec"].get("egress", []) == []
    bot.patch(phase="hf")
    bot.wait_ready()
    status = bot.status()
    assert (status["servingPhase"], status["model"]["engine"]) == ("hf", "router")
    assert bot.condition("FallbackActive")["reason"] == "NotNeeded"
    (revision,) = verified(bot)
    template = bot.get("deployment/demo-backend")["spec"]["template"]
    assert template["metadata"]["labels"]["chatbot-operator.dev/revision"] == revision
    ports = {p["port"] for rule in bot.get("networkpolicy/demo-backend")["spec"]["egress"] for p in rule["ports"]}
    assert ports == {53, 443}
    bot.patch(phase="mock")
    bot.wait_ready()
    wait_for("the way out is closed", lambda: not bot.get("networkpolicy/demo-backend")["spec"].get("egress"), 20)
    assert bot.get("service/demo")["spec"]["clusterIP"] == address
    assert "PhaseChanged" in bot.kubectl("get", "events")


def test_an_endpoint_that_the_administrator_has_not_allowed_changes_nothing(bot: Bot) -> None:
    bot.create().wait_ready()
    before = bot.get("deployment/demo-backend")["metadata"]["generation"]
    bot.patch(phase="hf", hf={"baseURL": "https://llm.example.com/v1"})
    condition = bot.wait_reason("EndpointNotAllowed")
    assert "llm.example.com" in condition["message"]
    assert bot.status()["servingPhase"] == "mock"
    assert bot.get("deployment/demo-backend")["metadata"]["generation"] == before
    bot.patch(hf={"baseURL": "https://router.huggingface.co/v1"})
    bot.wait_ready()


def test_limits_of_the_endpoint_reach_running_pods_without_new_ones(bot: Bot) -> None:
    bot.create(phase="hf").wait_ready()
    before = bot.get("deployment/demo-backend")["metadata"]["generation"]
    bot.patch(hf={"timeoutSeconds": 20, "requestsPerMinute": 7})
    bot.wait_ready()
    assert bot.get("deployment/demo-backend")["metadata"]["generation"] == before
    settings = json.loads(bot.get("configmap/demo-backend")["data"]["settings.json"])
    assert (settings["hf"]["timeoutSeconds"], settings["hf"]["requestsPerMinute"]) == (20, 7)


def test_a_fallback_is_seen_told_of_and_over_when_the_pods_say_so(operated: Operated, bot: Bot) -> None:
    bot.create(phase="hf").wait_ready()
    operated.pods.overrides[f"{bot.namespace}/*"] = {"fallback": "RateLimited", "token": "ok"}
    condition = bot.wait_reason("RateLimited", 30)
    assert "hf.requestsPerMinute" in condition["message"]
    assert bot.condition("FallbackActive")["status"] == "True"
    assert bot.condition("Available")["reason"] == "ServingFallback"
    status = bot.status()
    assert (status["servingPhase"], status["readyReplicas"]) == ("mock", 2)
    assert "FallbackStarted" in bot.kubectl("get", "events")
    operated.pods.overrides.clear()
    bot.wait_ready(30)
    assert bot.status()["servingPhase"] == "hf"
    assert "FallbackEnded" in bot.kubectl("get", "events")


def test_a_token_that_is_refused_is_told_with_the_command_and_its_pods_are_touched(
    operated: Operated, bot: Bot
) -> None:
    bot.create(phase="hf").wait_ready()
    operated.pods.overrides[f"{bot.namespace}/*"] = {"fallback": "TokenRejected", "token": "missing"}
    condition = bot.wait_reason("TokenSecretMissing", 30)
    assert (
        f"kubectl create secret generic -n {bot.namespace} hf-token --from-literal token=hf_…" in condition["message"]
    )

    def touched() -> set[str]:
        pods = bot.get("pods", "-l", "app.kubernetes.io/component=backend")["items"]
        return {p["metadata"]["annotations"].get("chatbot-operator.dev/settings", "") for p in pods}

    first = wait_for("the pods are touched", lambda: touched() - {""}, 15)
    wait_for("and again", lambda: touched() - {""} - first, 25)


@pytest.mark.parametrize("answer", [{"http": 500}, {"contractVersion": 99}, {"fallback": "OfANewerRuntime"}])
def test_pods_that_fail_or_speak_otherwise_are_a_reason_and_no_error(
    operated: Operated, bot: Bot, answer: dict[str, object]
) -> None:
    bot.create(phase="hf").wait_ready()
    operated.pods.overrides[f"{bot.namespace}/*"] = answer
    reasons = {"http": "SettingsPending", "contractVersion": "RuntimeIncompatible", "fallback": "ProviderUnavailable"}
    bot.wait_reason(reasons[next(iter(answer))], 30)
    assert bot.condition("Available")["status"] == "True"
    operated.pods.overrides.clear()
    bot.wait_ready(30)
