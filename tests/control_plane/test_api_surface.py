"""What a person with kubectl sees of Chatbots on a real API server: defaults, help, columns, scaling."""

import json
from typing import Any

import pytest

from chatbot_operator.api import ChatbotSpec, ChatbotStatus, Condition, parse_chatbot
from tests.support.chatbots import RESOURCE, ChatbotApi, chatbot

FIXED = {"phase": "mock", "backend": {"replicas": 2, "autoscaling": {"enabled": False}}}


def test_the_smallest_manifest_is_stored_with_the_defaults_of_the_models(api: ChatbotApi) -> None:
    api.create("smallest", {"phase": "mock"})
    raw = api.stored("smallest")
    assert parse_chatbot(raw).spec == ChatbotSpec(phase="mock")
    assert ChatbotSpec.model_validate(raw["spec"]).manifest() == ChatbotSpec(phase="mock").manifest()
    assert raw["spec"]["local"]["resources"]["requests"] == {"cpu": "1500m", "memory": "4Gi"}
    assert raw["spec"]["local"]["source"] == {}


def test_a_partial_block_keeps_the_other_defaults_key_by_key(api: ChatbotApi) -> None:
    api.create("partial", {"phase": "mock", "local": {"resources": {"requests": {"cpu": "3"}}}})
    assert api.stored("partial")["spec"]["local"]["resources"]["requests"] == {"cpu": "3", "memory": "4Gi"}


@pytest.mark.parametrize(
    "patch",
    [None, '[{"op": "remove", "path": "/status"}]', '[{"op": "replace", "path": "/status", "value": null}]'],
    ids=["created", "removed", "null"],
)
def test_a_status_that_nobody_wrote_says_that_nothing_was_seen(api: ChatbotApi, patch: str | None) -> None:
    name = f"unseen-{len(patch or '')}"
    api.create(name, {"phase": "mock"})
    if patch is not None:
        api.kubectl("patch", RESOURCE, name, "--subresource=status", "--type=json", "-p", patch)
    assert parse_chatbot(api.stored(name)).status == ChatbotStatus(observed_generation=-1)
    assert api.stored(name)["status"]["observedGeneration"] == -1


def test_explain_reads_like_a_manual(api: ChatbotApi) -> None:
    text = api.kubectl("explain", "chatbot.spec.hf").stdout
    one_line = " ".join(text.split())
    assert "FIELD: hf <Object>" in one_line
    assert "timeoutSeconds <integer> Longest wait for the first byte of an answer, in seconds. Default: 60." in one_line
    assert "Default: [Qwen/Qwen3-4B-Instruct-2507]." in one_line
    assert "-required-" not in text
    assert "phase <string> -required-" in " ".join(api.kubectl("explain", "cbot.spec").stdout.split())


@pytest.mark.parametrize(
    ("spec", "field"),
    [({"phase": "mock", "mok": {}}, "spec.mok"), ({"phase": "mock", "hf": {"model": "x"}}, "spec.hf.model")],
)
def test_a_misspelt_field_is_refused_and_named(api: ChatbotApi, spec: dict[str, Any], field: str) -> None:
    text = json.dumps(chatbot("misspelt", spec))
    strict = api.kubectl("apply", "-f", "-", text=text, check=False)
    assert strict.returncode != 0
    assert f'unknown field "{field}"' in strict.stderr
    warned = api.kubectl("apply", "--validate=warn", "--dry-run=server", "-f", "-", text=text)
    assert f'unknown field "{field}"' in warned.stderr


def test_columns_show_what_matters_and_wide_shows_the_rest(api: ChatbotApi) -> None:
    api.create("columns", {"phase": "hf"})
    conditions = [
        Condition.model_validate(
            {
                "type": type_,
                "status": status,
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-31T12:00:00Z",
                "reason": reason,
                "message": f"About{type_}",
            }
        )
        for type_, status, reason in (("FallbackActive", "False", "NotNeeded"), ("Ready", "True", "Serving"))
    ]
    status = ChatbotStatus.model_validate(
        {
            "observedGeneration": 1,
            "servingPhase": "mock",
            "model": {"name": "demo-model"},
            "download": {"percent": 42},
            "url": "http://203.0.113.7",
            "replicas": 3,
            "readyReplicas": 2,
            "cost": {"monthly": "31", "currency": "USD"},
            "conditions": conditions,
        }
    )
    api.write_status("columns", status.manifest())
    head, row = (line.split() for line in api.kubectl("get", "cbot", "columns").stdout.splitlines())
    assert head == ["NAME", "PHASE", "SERVING", "READY", "STATUS", "REPLICAS", "URL", "AGE"]
    assert row[:-1] == ["columns", "hf", "mock", "True", "Serving", "2", "http://203.0.113.7"]
    head, row = (line.split() for line in api.kubectl("get", "cbot", "columns", "-o", "wide").stdout.splitlines())
    assert head[8:] == ["MODEL", "PROGRESS", "FALLBACK", "COST/MONTH", "MESSAGE"]
    assert row[8:] == ["demo-model", "42", "False", "31", "AboutReady"]
    assert "columns" in api.kubectl("get", "ai").stdout
    assert api.kubectl("wait", "--for=condition=Ready", "cbot/columns", "--timeout=5s").returncode == 0


def test_two_conditions_of_one_type_are_refused(api: ChatbotApi) -> None:
    api.create("twice", {"phase": "mock"})
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-31T12:00:00Z"}
    condition |= {"reason": "Serving", "message": ""}
    patch = json.dumps({"status": {"conditions": [condition, condition]}})
    refused = api.kubectl("patch", RESOURCE, "twice", "--subresource=status", "--type=merge", "-p", patch, check=False)
    assert "Duplicate value" in refused.stderr


def test_kubectl_scale_is_refused_with_the_way_out_while_the_autoscaler_decides(api: ChatbotApi) -> None:
    api.create("scaled", {"phase": "mock"})
    refused = api.kubectl("scale", RESOURCE, "scaled", "--replicas=3", check=False)
    assert refused.returncode != 0
    assert "backend.replicas cannot be set while backend.autoscaling.enabled is true" in refused.stderr
    assert "replicas" not in api.stored("scaled")["spec"]["backend"]


def test_kubectl_scale_works_without_autoscaling_and_the_named_patch_leads_back(api: ChatbotApi) -> None:
    api.create("fixed", FIXED)
    api.kubectl("scale", RESOURCE, "fixed", "--replicas=5")
    assert api.stored("fixed")["spec"]["backend"]["replicas"] == 5
    patch = '{"spec":{"backend":{"replicas":null,"autoscaling":{"enabled":true}}}}'
    api.kubectl("patch", RESOURCE, "fixed", "--type=merge", "-p", patch)
    assert api.stored("fixed")["spec"]["backend"]["autoscaling"]["enabled"] is True


@pytest.mark.parametrize("replicas", [0, 101])
def test_kubectl_scale_keeps_to_the_limits(api: ChatbotApi, replicas: int) -> None:
    api.create(f"limits-{replicas}", FIXED)
    refused = api.kubectl("scale", RESOURCE, f"limits-{replicas}", f"--replicas={replicas}", check=False)
    assert "spec.backend.replicas" in refused.stderr
    assert api.stored(f"limits-{replicas}")["spec"]["backend"]["replicas"] == 2


def test_the_scale_subresource_carries_replicas_and_selector(api: ChatbotApi) -> None:
    api.create("subresource", FIXED)
    api.write_status("subresource", {"replicas": 2, "selector": "chatbot-operator.dev/chatbot=subresource"})
    scale = json.loads(api.kubectl("get", RESOURCE, "subresource", "--subresource=scale", "-o", "json").stdout)
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"] == {"replicas": 2, "selector": "chatbot-operator.dev/chatbot=subresource"}
