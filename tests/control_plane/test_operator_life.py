"""What a Chatbot goes through (phases, sick pods, suspension, scaling, deletion) and what its status says of it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from devcluster.addons.fake_nodes import RUN_FOR
from tests.control_plane.conftest import Operated
from tests.support.chatbot import Bot, manifest, now, operator_calls, tally
from tests.support.cluster import make_namespace
from tests.support.operator import CLUSTER_ROLE, wait_for


@pytest.fixture
def bot(operated: Operated, namespace: str) -> Bot:
    return Bot(operated.access, namespace)


def replicas(bot: Bot) -> int:
    count: int = bot.get("deployment/demo-backend")["spec"]["replicas"]
    return count


def test_twenty_chatbots_at_once_become_ready(operated: Operated, namespace: str) -> None:
    names = [f"bot-{i}" for i in range(20)]
    operated.access.apply(*map(manifest, names), namespace=namespace)
    wait = ("wait", "-n", namespace, "--for=condition=Ready", "chatbots", "--all", "--timeout=90s")
    operated.access.kubectl(*wait, timeout=100)


def test_weights_are_fetched_while_the_mock_serves_and_a_change_of_mind_takes_the_download_back(bot: Bot) -> None:
    bot.create(pods={"annotations": {RUN_FOR: "600"}}).wait_ready()
    before = bot.get("deployment/demo-backend")
    bot.patch(phase="local")
    bot.wait_reason("Downloading")
    assert set(download(bot)) == {"Job", "Service", "NetworkPolicy", "PersistentVolumeClaim"}
    claim = download(bot)["PersistentVolumeClaim"]
    available = bot.condition("Available")
    assert (available["status"], available["reason"]) == ("True", "ServingPrevious")
    status = bot.status()
    assert (status["servingPhase"], status["readyReplicas"]) == ("mock", 2)
    assert bot.get("deployment/demo-backend")["metadata"]["generation"] == before["metadata"]["generation"]
    bot.patch(phase="mock")
    bot.wait_ready()
    wait_for("only the claim stays", lambda: download(bot) == {"PersistentVolumeClaim": claim}, 20)
    assert bot.get("deployment/demo-backend")["metadata"]["generation"] == before["metadata"]["generation"]


def download(bot: Bot) -> dict[str, str]:
    """The objects of the download by kind: their uids."""
    found = bot.get("jobs,services,networkpolicies,pvc", "-l", "app.kubernetes.io/component=download")["items"]
    return {o["kind"]: o["metadata"]["uid"] for o in found}


def test_settings_reach_running_pods_without_a_new_one(operated: Operated, bot: Bot) -> None:
    bot.create().wait_ready()
    generation = bot.get("deployment/demo-backend")["metadata"]["generation"]
    pods = [p["metadata"]["name"] for p in bot.get("pods")["items"]]
    for name in pods:
        operated.pods.overrides[name] = {"settingsHash": "000000000000"}
    bot.patch(mock={"replies": ["Good morning!"]})
    bot.wait_reason("SettingsPending")

    def nudged() -> bool:
        found = bot.get("pods")["items"]
        return all("chatbot-operator.dev/settings" in p["metadata"].get("annotations", {}) for p in found)

    wait_for("the pods are nudged", nudged, 10)
    for name in pods:
        del operated.pods.overrides[name]
    bot.wait_ready()
    assert "Good morning!" in bot.get("configmap/demo-backend")["data"]["settings.json"]
    assert bot.get("deployment/demo-backend")["metadata"]["generation"] == generation


def test_suspend_takes_the_autoscaler_and_then_the_pods_and_resume_brings_them_back(bot: Bot) -> None:
    bot.create().wait_ready()
    bot.patch(suspend=True)
    bot.wait_reason("Suspended")
    wait_for("no pods", lambda: not bot.get("pods")["items"], 20)
    wait_for("Available says so", lambda: bot.condition("Available").get("reason") == "Suspended", 10)
    assert bot.kubectl("get", "hpa", "-o", "name") == ""
    bot.kubectl("get", "service/demo")
    bot.patch(suspend=False)
    bot.wait_ready()
    assert replicas(bot) == 2
    bot.kubectl("get", "hpa/demo-backend")


def test_a_fixed_number_of_pods_can_be_asked_for_and_given_back_to_the_autoscaler(bot: Bot) -> None:
    bot.create().wait_ready()
    bot.patch(backend={"replicas": 3, "autoscaling": {"enabled": False}})
    bot.wait_ready()
    assert (replicas(bot), bot.kubectl("get", "hpa", "-o", "name")) == (3, "")
    bot.kubectl("scale", "chatbot/demo", "--replicas=1")
    bot.wait_ready()
    assert replicas(bot) == 1
    bot.patch(backend={"replicas": None, "autoscaling": {"enabled": True}})
    bot.wait_ready()
    assert replicas(bot) == 2


def test_replicas_that_an_autoscaler_sets_are_never_written_by_us(operated: Operated, bot: Bot) -> None:
    bot.create().wait_ready()
    since = now()
    bot.kubectl("scale", "deployment/demo-backend", "--replicas=5")  # as an autoscaler would
    wait_for("five pods are counted", lambda: bot.status().get("readyReplicas") == 5, 20)
    bot.patch(systemPrompt="Be brief.")
    bot.wait_ready()
    assert replicas(bot) == 5
    calls = tally(operator_calls(operated.access, since, namespace=bot.namespace))
    assert [c for c in calls if c[1] == "deployments/scale"] == []


def test_a_pod_that_no_node_takes_is_said_and_the_old_ones_serve_until_it_is_mended(bot: Bot) -> None:
    bot.create().wait_ready()
    bot.patch(pods={"nodeSelector": {"disk": "none"}})
    condition = bot.wait_reason("Unschedulable")
    assert "node" in condition["message"]
    assert bot.condition("Available") | {"reason": "ServingPrevious"} == bot.condition("Available")
    assert bot.status()["readyReplicas"] == 2
    wait_for("the rollout is stalled", lambda: bot.condition("Progressing").get("reason") == "Stalled", 60)
    assert bot.condition("Ready")["reason"] == "Unschedulable"
    bot.patch(pods={"nodeSelector": None})
    bot.wait_ready()


def test_a_quota_without_room_is_said_and_heals(bot: Bot) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "tight"},
        "spec": {"hard": {"pods": "0"}},
    }
    bot.access.apply(quota, namespace=bot.namespace)
    bot.create()
    condition = bot.wait_reason("QuotaExceeded", 15)
    assert "exceeded quota: tight" in condition["message"]
    bot.kubectl("delete", "resourcequota/tight")
    bot.wait_ready(60)


def test_a_quota_on_services_does_not_keep_the_other_children_away(bot: Bot) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "tight"},
        "spec": {"hard": {"services": "0"}},
    }
    bot.access.apply(quota, namespace=bot.namespace)
    wait_for("the quota counts", lambda: bot.get("resourcequota/tight")["status"].get("used"), 10)
    bot.create()
    bot.wait_reason("QuotaExceeded", 15)
    bot.kubectl("get", "deployment/demo-backend", "configmap/demo-backend")
    bot.kubectl("delete", "resourcequota/tight")
    bot.wait_ready(30)


@contextmanager
def refusing_policy(bot: Bot, message: str) -> Iterator[None]:
    name = f"refuse-{bot.namespace}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": bot.namespace}}
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "object.metadata.name != 'demo-backend'", "message": message}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": selector}},
    }
    bot.access.apply(policy, binding)
    probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "demo-backend"}}

    def refuses() -> bool:
        made = bot.access.kubectl(
            "-n", bot.namespace, "create", "--dry-run=server", "-f", "-", input=json.dumps(probe), check=False
        )
        return message in made.stderr

    try:
        wait_for("the policy is in force", refuses, 20)
        yield
    finally:
        bot.access.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", name)


def test_a_policy_that_refuses_a_child_is_quoted_and_the_others_are_made(bot: Bot) -> None:
    with refusing_policy(bot, "no settings on Fridays"):
        bot.create()
        condition = bot.wait_reason("AdmissionRefused")
        assert "no settings on Fridays" in condition["message"]
        bot.kubectl("get", "deployment/demo-backend", "service/demo")
    bot.wait_ready(30)


def test_a_right_that_was_taken_away_is_named_and_the_others_go_on(operated: Operated, bot: Bot) -> None:
    role = operated.access.get("clusterrole", CLUSTER_ROLE)
    rules = [r for r in role["rules"] if "poddisruptionbudgets" not in r["resources"]]
    readable = {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["get", "list", "watch"]}

    def put(wanted: list[object]) -> None:
        patch = json.dumps([{"op": "replace", "path": "/rules", "value": wanted}])
        operated.access.kubectl("patch", "clusterrole", CLUSTER_ROLE, "--type=json", "-p", patch)

    put([*rules, readable])
    try:
        bot.create()
        condition = bot.wait_reason("PermissionDenied", 20)
        assert "patch poddisruptionbudgets" in condition["message"]
        bot.kubectl("get", "deployment/demo-backend", "hpa/demo-backend")
    finally:
        put(role["rules"])
    bot.wait_ready(30)


def test_an_object_that_this_version_cannot_read_is_left_as_it_serves(operated: Operated, bot: Bot) -> None:
    bot.create().wait_ready()
    crd = operated.access.get("crd", "chatbots.chatbot-operator.dev")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/phase/enum"
    wider = [{"op": "replace", "path": path, "value": ["mock", "hf", "local", "quantum"]}]
    phases = schema["properties"]["spec"]["properties"]["phase"]["enum"]
    operated.access.kubectl("patch", "crd", "chatbots.chatbot-operator.dev", "--type=json", "-p", json.dumps(wider))
    try:

        def accepted() -> bool:
            patch = json.dumps({"spec": {"phase": "quantum"}})
            args = ("-n", bot.namespace, "patch", "chatbot/demo", "--type=merge", "-p", patch)
            return operated.access.kubectl(*args, check=False).returncode == 0

        wait_for("the wider definition is in force", accepted, 20)
        condition = bot.wait_reason("InvalidSpec")
        assert "spec.phase" in condition["message"]
        assert "quantum" not in condition["message"]
        assert bot.status()["servingPhase"] == "mock"
        bot.patch(phase="mock")
        bot.wait_ready()
    finally:
        narrower = [{"op": "replace", "path": path, "value": phases}]
        operated.access.kubectl(
            "patch", "crd", "chatbots.chatbot-operator.dev", "--type=json", "-p", json.dumps(narrower)
        )


def test_paused_means_hands_off_and_the_status_says_so(operated: Operated, bot: Bot) -> None:
    bot.create().wait_ready()
    bot.kubectl("annotate", "chatbot/demo", "chatbot-operator.dev/paused=true")
    wait_for("Ready says so", lambda: "hands off" in bot.condition("Ready").get("message", ""), 10)
    bot.kubectl("patch", "pdb/demo-backend", "--type=merge", "-p", '{"spec":{"maxUnavailable":7}}')
    bot.patch(systemPrompt="Be brief.")
    wait_for("the edit was seen", lambda: bot.condition("Ready"), 10)
    assert bot.get("pdb/demo-backend")["spec"]["maxUnavailable"] == 7
    assert "Be brief." not in bot.get("configmap/demo-backend")["data"]["settings.json"]
    bot.kubectl("annotate", "chatbot/demo", "chatbot-operator.dev/paused-")
    wait_for("the budget is put right", lambda: bot.get("pdb/demo-backend")["spec"]["maxUnavailable"] == 1, 10)
    bot.wait_ready()


def test_a_deleted_chatbot_takes_its_children_along_and_a_new_one_of_the_name_gets_its_own(bot: Bot) -> None:
    bot.create().wait_ready()
    old = bot.get("chatbot/demo")["metadata"]["uid"]
    bot.kubectl("delete", "chatbot/demo")
    bot.create()
    new = bot.get("chatbot/demo")["metadata"]["uid"]
    assert new != old

    def clean() -> bool:
        owners = set()
        for child in bot.children():
            found = bot.access.kubectl("-n", bot.namespace, "get", child, "-o", "json", check=False)
            if found.returncode:
                return False
            owners |= {o["uid"] for o in json.loads(found.stdout)["metadata"].get("ownerReferences", ())}
        return owners == {new}

    wait_for("all children are the new one's", clean, 60)
    bot.wait_ready(60)


def test_a_load_balancer_s_address_becomes_the_url(bot: Bot) -> None:
    bot.create(expose={"type": "LoadBalancer"}, access={"mode": "Anonymous"}).wait_ready(30)
    ingress = bot.get("service/demo")["status"]["loadBalancer"]["ingress"][0]["ip"]
    status = bot.status()
    assert status["url"] == f"http://{ingress}"
    assert status["endpoints"]["openai"] == f"http://{ingress}/v1"
    assert bot.condition("Exposed")["reason"] == "AddressAssigned"
    assert "AddressAssigned" in bot.kubectl("get", "events")
    bot.patch(expose={"type": "ClusterIP"})
    bot.wait_ready()
    assert bot.condition("Exposed")["reason"] == "ClusterInternal"


def test_a_pod_of_another_contract_is_said(operated: Operated, bot: Bot) -> None:
    bot.create().wait_ready()
    operated.pods.overrides[f"{bot.namespace}/*"] = {"contractVersion": 99}
    try:
        bot.patch(pods={"annotations": {"example.com/roll": "1"}})
        wait_for(
            "Ready is False with RuntimeIncompatible",
            lambda: bot.condition("Ready").get("reason") == "RuntimeIncompatible",
            30,
        )
        assert "contract version 99" in bot.condition("Ready")["message"]
    finally:
        operated.pods.overrides.clear()
    bot.wait_ready(30)


def test_a_namespace_that_is_deleted_goes_and_causes_no_errors(operated: Operated) -> None:
    with make_namespace(operated.access) as namespace:
        bot = Bot(operated.access, namespace)
        bot.create().wait_ready()
        operated.access.kubectl("delete", "namespace", namespace, "--timeout=60s", timeout=90)
    raw = [e for e in operated.operator.lines() if "Traceback" in json.dumps(e)]
    assert raw == []
