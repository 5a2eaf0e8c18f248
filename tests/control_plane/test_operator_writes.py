"""What the operator writes and how often: on creation, at rest, after drift, beside strangers."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chatbot_operator.cluster import Conflict
from chatbot_operator.kinds import CHATBOT, Ref
from chatbot_operator.kube import NO_VERSION, connect
from tests.control_plane.conftest import FULL, Operated
from tests.support.chatbot import Bot, manifest, now, operator_calls, tally
from tests.support.cluster import make_namespace
from tests.support.operator import wait_for

SETTLED = 50 if FULL else 15
WRITES = ("create", "update", "patch", "delete", "deletecollection")


@pytest.fixture
def bot(operated: Operated, namespace: str) -> Bot:
    return Bot(operated.access, namespace)


@pytest.fixture(scope="module")
def settled(operated: Operated) -> Iterator[Bot]:
    """One that is ready, of all tests that leave it as it was."""
    with make_namespace(operated.access) as namespace:
        bot = Bot(operated.access, namespace).create()
        bot.wait_ready()
        yield bot


def test_a_create_costs_one_apply_a_child_one_scale_and_two_status_patches(operated: Operated, bot: Bot) -> None:
    started = now()
    bot.create().wait_ready()
    calls = tally(operator_calls(operated.access, started, namespace=bot.namespace))
    scale = calls.pop(("patch", "deployments/scale", "demo-backend"))
    statuses = calls.pop(("patch", "chatbots/status", "demo"))
    assert (scale, statuses) == (1, 2)
    # That the Chatbot is still there is asked once; no child is looked at before it is made.
    assert calls.pop(("get", "chatbots", "demo")) == 1
    assert set(calls.values()) == {1}
    assert {verb for verb, _, _ in calls} == {"patch"}
    assert len(calls) == len(bot.children())


def test_the_api_server_refuses_an_apply_without_a_version_to_any_child_that_exists(bot: Bot) -> None:
    """How the operator makes a child without looking first: an apply that names NO_VERSION makes or does nothing."""
    bot.create().wait_ready()
    arguments = ("-n", bot.namespace, "apply", "--server-side", "--force-conflicts", "-f", "-")
    for child in bot.children():
        live = bot.get(child)
        metadata = {"name": live["metadata"]["name"], "resourceVersion": NO_VERSION}
        body: dict[str, Any] = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}
        body |= {key: live[key] for key in ("spec", "data") if key in live}
        metadata["labels"] = {"stranger": "touched"}
        refused = bot.access.kubectl(*arguments, input=json.dumps(body), check=False)
        assert refused.returncode != 0, child
        assert "object has been modified" in refused.stderr
        assert "stranger" not in bot.get(child)["metadata"]["labels"]
        if live["kind"] == "Service":
            body["spec"] = {"ports": [{"port": 80}]}  # its address is the other's
        metadata["name"] = "another"
        bot.access.kubectl(*arguments, input=json.dumps(body))
        kind = child.partition("/")[0]
        assert bot.get(f"{kind}/another")["metadata"]["labels"] == {"stranger": "touched"}
        bot.kubectl("delete", f"{kind}/another", "--wait=false")


def test_every_child_is_owned_by_the_chatbot_and_carries_nothing_of_kopf(settled: Bot) -> None:
    uid = settled.get("chatbot/demo")["metadata"]["uid"]
    raw = settled.get("chatbot/demo")
    assert "finalizers" not in raw["metadata"]
    assert not [key for key in raw["metadata"].get("annotations", {}) if "kopf" in key]
    for child in settled.children():
        owners = settled.get(child)["metadata"]["ownerReferences"]
        assert [o["uid"] for o in owners] == [uid], child


def _resyncs(operated: Operated) -> float:
    text = operated.operator.http("/metrics")[1]
    prefix = 'chatbot_operator_api_calls_total{code="200",resource="jobs",verb="list"} '
    return float(next(line for line in text.splitlines() if line.startswith(prefix)).removeprefix(prefix))


def test_a_deleted_child_of_every_kind_is_back(bot: Bot) -> None:
    bot.create().wait_ready()
    for child in bot.children():
        old = bot.get(child)["metadata"]["uid"]
        bot.kubectl("delete", child, "--wait=false")

        def back(child: str = child, old: str = old) -> bool:
            found = bot.access.kubectl("-n", bot.namespace, "get", child, "-o", "json", check=False)
            return found.returncode == 0 and json.loads(found.stdout)["metadata"]["uid"] != old

        wait_for(f"{child} is back", back, 10)
    bot.wait_ready(30)
    assert "DriftRepaired" in bot.kubectl("get", "events", "--field-selector", "reason=DriftRepaired")


EDITS: list[tuple[str, dict[str, Any]]] = [
    ("deployment/demo-backend", {"spec": {"revisionHistoryLimit": 9}}),
    ("deployment/demo-backend", {"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 1}}}}),
    ("deployment/demo-backend", {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}),
    ("deployment/demo-backend", {"metadata": {"labels": {"app.kubernetes.io/name": "other"}}}),
    ("service/demo", {"spec": {"ports": [{"name": "http", "port": 8081, "targetPort": "http", "protocol": "TCP"}]}}),
    ("service/demo-peers", {"spec": {"selector": {"app.kubernetes.io/component": "other"}}}),
    ("configmap/demo-backend", {"data": {"settings.json": "{}"}}),
    ("serviceaccount/demo-backend", {"automountServiceAccountToken": True}),
    ("horizontalpodautoscaler/demo-backend", {"spec": {"maxReplicas": 99}}),
    ("poddisruptionbudget/demo-backend", {"spec": {"maxUnavailable": 2}}),
    ("networkpolicy/demo-backend", {"spec": {"policyTypes": ["Ingress"]}}),
]


@pytest.mark.parametrize(("child", "edit"), EDITS, ids=[f"{c}-{json.dumps(e)[:40]}" for c, e in EDITS])
def test_an_owned_field_edited_by_hand_is_put_right(settled: Bot, child: str, edit: dict[str, Any]) -> None:
    before = settled.state()
    settled.kubectl("patch", child, "--type=merge", "-p", json.dumps(edit))
    wait_for(f"{child} is as before", lambda: settled.state() == before, 10)


def test_fields_of_others_are_left_alone(operated: Operated, bot: Bot) -> None:
    bot.create().wait_ready()
    bot.kubectl("annotate", "service/demo", "mesh.example.com/inject=true")
    bot.kubectl("label", "deployment/demo-backend", "team=support")
    bot.kubectl("rollout", "restart", "deployment/demo-backend")
    container = {"name": "sidecar", "image": "example.com/sidecar:1", "resources": {"requests": {"cpu": "1m"}}}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    bot.kubectl("patch", "deployment/demo-backend", "-p", json.dumps(patch))
    wait_for("the rollout is over", lambda: bot.condition("Progressing").get("reason") == "Settled", 20)
    bot.wait_ready()
    since = now()
    resyncs = _resyncs(operated)
    wait_for("two more resyncs", lambda: _resyncs(operated) >= resyncs + 2, 30)
    calls = tally(operator_calls(operated.access, since, namespace=bot.namespace))
    # How many pods are ready is written some seconds after it is so.
    assert [c for c in calls if c[0] in WRITES and c[1] != "chatbots/status"] == []
    deployment = bot.get("deployment/demo-backend")
    assert deployment["metadata"]["labels"]["team"] == "support"
    assert {c["name"] for c in deployment["spec"]["template"]["spec"]["containers"]} == {"runtime", "sidecar"}
    template = deployment["spec"]["template"]["metadata"]["annotations"]
    assert "kubectl.kubernetes.io/restartedAt" in template
    assert bot.get("service/demo")["metadata"]["annotations"]["mesh.example.com/inject"] == "true"


def test_a_strangers_object_with_a_childs_name_is_not_touched_until_it_goes(bot: Bot) -> None:
    stranger = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "demo", "labels": {"mine": "true"}},
        "spec": {"ports": [{"port": 1}]},
    }
    bot.access.apply(stranger, namespace=bot.namespace)
    before = bot.get("service/demo")
    bot.create()
    condition = bot.wait_reason("NameConflict")
    assert "Service" in condition["message"]
    assert "demo" in condition["message"]
    assert bot.get("service/demo") == before
    bot.kubectl("get", "deployment/demo-backend")  # the others are made
    bot.kubectl("delete", "service/demo")
    bot.wait_ready(30)
    assert bot.get("service/demo")["metadata"]["ownerReferences"][0]["kind"] == "Chatbot"


def test_a_removed_label_is_put_back_and_a_removed_owner_is_a_conflict(bot: Bot) -> None:
    bot.create().wait_ready()
    bot.kubectl("label", "service/demo", "chatbot-operator.dev/chatbot-", "app.kubernetes.io/managed-by-")
    labelled = "app.kubernetes.io/managed-by=chatbot-operator,chatbot-operator.dev/chatbot=demo"

    def back() -> bool:
        names = [s["metadata"]["name"] for s in bot.get("services", "-l", labelled)["items"]]
        return "demo" in names

    wait_for("the labels are back", back, 10)
    bot.kubectl(
        "patch", "service/demo-peers", "--type=json", "-p", '[{"op":"remove","path":"/metadata/ownerReferences"}]'
    )
    bot.wait_reason("NameConflict")
    assert "ownerReferences" not in bot.get("service/demo-peers")["metadata"]


def test_a_deleted_status_is_written_again(bot: Bot) -> None:
    bot.create().wait_ready()
    before = bot.status()
    bot.kubectl(
        "patch", "chatbot/demo", "--subresource=status", "--type=json", "-p", '[{"op":"remove","path":"/status"}]'
    )
    bot.wait_ready(10)
    after = bot.status()
    for status in (before, after):
        for condition in status["conditions"]:
            condition.pop("lastTransitionTime")
    assert after == before


def test_the_api_server_refuses_an_apply_that_names_the_uid_of_an_object_that_is_gone(bot: Bot) -> None:
    """A claim is applied with its uid, so that a new one never gets the records of the old."""
    config: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone"}}
    bot.access.apply(config, namespace=bot.namespace)
    config["metadata"]["uid"] = bot.get("configmap/gone")["metadata"]["uid"]
    bot.kubectl("delete", "configmap/gone")
    arguments = ("-n", bot.namespace, "apply", "--server-side", "-f", "-")
    refused = bot.access.kubectl(*arguments, input=json.dumps(config), check=False)
    assert refused.returncode != 0
    assert "conflict" in refused.stderr.lower()
    assert bot.kubectl("get", "configmap/gone", "--ignore-not-found") == ""


async def test_the_api_server_refuses_a_status_that_is_meant_for_another_chatbot(
    settled: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(settled.access.kubeconfig))
    before = settled.status()
    kube = await connect()
    try:
        with pytest.raises(Conflict):
            await kube.put_status(Ref(CHATBOT, settled.namespace, "demo"), {"replicas": 7}, uid="of-an-earlier-one")
    finally:
        await kube.close()
    assert settled.status() == before


def test_every_pod_is_admitted_where_pod_security_restricted_is_enforced(bot: Bot) -> None:
    bot.access.kubectl("label", "namespace", bot.namespace, "pod-security.kubernetes.io/enforce=restricted")
    bot.create().wait_ready()


def test_the_operator_may_not_read_secrets(operated: Operated) -> None:
    account = "--as=system:serviceaccount:chatbot-system:chatbot-operator"
    for verb in ("get", "list", "watch"):
        said = operated.access.kubectl("auth", "can-i", verb, "secrets", account, "-A", check=False)
        assert said.stdout.strip() == "no", verb


def test_its_log_is_json_without_errors_and_its_pages_answer(operated: Operated) -> None:
    assert operated.operator.http("/livez") == (200, "ok")
    assert operated.operator.http("/readyz") == (200, "ok")
    metrics = operated.operator.http("/metrics")[1]
    for name in ("reconciles_total", "reconcile_duration_seconds_sum", "queue_depth", "leader 1.0", "chatbots{"):
        assert f"chatbot_operator_{name}" in metrics
    raw = [e["message"] for e in operated.operator.lines() if e["level"] == "RAW"]
    assert raw == []
    ours = [e for e in operated.operator.lines() if e["logger"].startswith("chatbot_operator")]
    assert [e for e in ours if e["level"] in ("ERROR", "CRITICAL")] == []


def test_settled_chatbots_cause_no_write_and_no_get(operated: Operated) -> None:
    with make_namespace(operated.access) as namespace:
        bots = [Bot(operated.access, namespace, f"bot-{i}") for i in range(SETTLED)]
        # Fake pods that use some CPU, so that the autoscalers have something to go by.
        pods = {"annotations": {"kwok.x-k8s.io/usage-cpu": "20m", "kwok.x-k8s.io/usage-memory": "40Mi"}}
        operated.access.apply(*(manifest(b.name, pods=pods) for b in bots), namespace=namespace)
        for bot in bots:
            bot.wait_ready(60)
        quiet_since = now()
        resyncs = _resyncs(operated)
        # Several full lists, so that what a resync would write shows up.
        wait_for("three more resyncs", lambda: _resyncs(operated) >= resyncs + 3, 60)
        calls = operator_calls(operated.access, quiet_since, namespace=namespace)
        assert [c for c in tally(calls) if c[0] in ("get", *WRITES)] == []
