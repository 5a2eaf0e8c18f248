"""S3 and S6 of the quality goals: the operator may do what it does and nothing else, and shows no secret.

One operator goes through all that it does, at log level DEBUG, on a real API server that writes an audit log.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chatbot_operator import names
from chatbot_operator.api import ChatbotSpec
from chatbot_operator.revision import list_hash
from tests.control_plane.conftest import FAST, Operated
from tests.support import gateway
from tests.support.chatbot import ACCOUNT, PAGE, Bot, audit, now
from tests.support.cluster import ClusterAccess, make_namespace
from tests.support.operator import CLUSTER_ROLE, NAMESPACE, RELEASE, operator_on, wait_for

TOKEN, KEY = "hf_CANARYzX81qTokenOfNobody", "sk-CANARYw7Lm3KeyOfNobody"
SECRETS = {"hf-token": {"token": TOKEN}, "chat-keys": {"alice": KEY}}
NEVER = {
    "secrets",
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "pods/log",
    "serviceaccounts/token",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "customresourcedefinitions",
    "nodes",
    "nodes/proxy",
    "persistentvolumes",
    "namespaces",
}
ALLOWED_VERBS = {"get", "list", "watch", "create", "update", "patch", "delete"}


class Right(NamedTuple):
    """One verb on one resource."""

    group: str
    resource: str
    verb: str


@dataclass(frozen=True)
class Full:
    """The operator, and what it has been through since a moment."""

    operated: Operated
    since: datetime
    namespace: str

    @property
    def access(self) -> ClusterAccess:
        return self.operated.access


@pytest.fixture(scope="module")
def run(control_plane: ClusterAccess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Full]:
    """Everything that the operator does, done once."""
    if control_plane.audit_log is None:
        pytest.skip("the cluster was given, so its API server's audit log cannot be read")
    gateway.install(control_plane)
    since = now()
    folder = tmp_path_factory.mktemp("operator")
    with operator_on(control_plane, folder, FAST | {"LOG_LEVEL": "DEBUG"}) as (operator, pods):
        operated = Operated(control_plane, operator, pods)
        with make_namespace(control_plane) as namespace:
            for name, data in SECRETS.items():
                secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
                control_plane.apply(secret, namespace=namespace)
            everything(operated, namespace)
            yield Full(operated, since, namespace)


def everything(operated: Operated, namespace: str) -> None:
    access = operated.access
    of_others(access, namespace)
    bot = Bot(access, namespace)
    bot.create(access={"mode": "APIKey", "keysSecretRef": {"name": "chat-keys"}}).wait_ready(30)
    other = Bot(access, namespace, "other")
    other.create(phase="hf", hf={"tokenSecretRef": {"name": "hf-token"}}, access={"mode": "Anonymous"})
    other.wait_ready(30)
    settings_that_a_pod_does_not_read(operated, bot)
    bot.patch(backend={"replicas": 3, "autoscaling": {"enabled": False}})
    bot.wait_ready(30)
    bot.patch(suspend=True, backend={"replicas": None, "autoscaling": {"enabled": True}})
    bot.wait_reason("Suspended", 20)
    bot.patch(suspend=False)
    bot.wait_ready(30)
    edited_by_hand(bot)
    bot.kubectl("delete", "service/demo")
    wait_for("the Service is back", lambda: bot.kubectl("get", "service/demo", "-o", "name", check=False), 20)
    bot.patch(pods={"nodeSelector": {"disk": "none"}})
    bot.wait_reason("Unschedulable", 20)
    wait_for("Events were looked at", lambda: Right("events.k8s.io", "events", "list") in used(access), 20, 0.5)
    page_and_routes(Bot(access, namespace, "page"))
    private_model(Bot(access, namespace, "private"))
    bot.kubectl("delete", "chatbot/demo", "chatbot/other", "chatbot/page", "chatbot/private")


def page_and_routes(bot: Bot) -> None:
    """A page that is reached by an Ingress, then by an HTTPRoute, and goes."""

    def there(what: str, path: str, value: str) -> None:
        """The object has this value; an empty one: the object is gone."""
        asked = ("get", what, "--ignore-not-found", "-o", f"jsonpath={path}")
        wait_for(f"{what} {path} is {value!r}", lambda: bot.kubectl(*asked) == value, 40)

    host: dict[str, Any] = {"host": "a.example", "ingressClassName": "some"}
    bot.create(web=PAGE, access={"mode": "Anonymous"}, expose=host).wait_reason("AddressPending", 40)
    bot.patch(expose={"host": "b.example"})
    there("ingress/page", "{.spec.rules[0].host}", "b.example")
    bot.patch(expose={"ingressClassName": None, "gatewayRef": {"name": "public"}})
    there("ingress/page", "{.kind}", "")
    bot.patch(expose={"host": "c.example"})
    there("httproute/page", "{.spec.hostnames[0]}", "c.example")
    bot.patch(expose={"host": None, "gatewayRef": None}, web={"enabled": False})
    bot.wait_ready(40)
    for child in bot.children(page=True):
        if child.endswith("-web"):
            there(child, "{.kind}", "")
    there("httproute/page", "{.kind}", "")


def private_model(bot: Bot) -> None:
    """Somebody else's claim and Job are in the way, then they are our own, and they go with the phase."""
    local = {"models": ["phi"], "storage": {"retain": False}}
    hashed = list_hash(ChatbotSpec.model_validate({"phase": "local", "local": local}))
    claim, job = names.claim(bot.name, None, "ReadWriteOnce"), names.download(bot.name, hashed)
    volume = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    pod = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}
    in_the_way = {
        claim: {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim}, "spec": volume},
        job: {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job}, "spec": {"template": pod}},
    }
    bot.access.apply(*in_the_way.values(), namespace=bot.namespace)
    bot.create(phase="local", local=local).wait_reason("NameConflict", 30)
    bot.kubectl("delete", f"pvc/{claim}", "--wait=false")
    ours = ("get", f"pvc/{claim}", "--ignore-not-found", "-o", "jsonpath={.metadata.ownerReferences[0].kind}")
    wait_for("the claim is ours", lambda: bot.kubectl(*ours) == "Chatbot", 40)
    bot.wait_reason("NameConflict", 30)
    bot.kubectl("delete", f"job/{job}")
    there = ("get", f"job/{job}", "--ignore-not-found", "-o", "name")
    wait_for("the Job is there", lambda: bot.kubectl(*there), 40)
    bot.patch(phase="mock")
    wait_for("the Job has gone", lambda: not bot.kubectl(*there), 60)
    gone = ("get", f"pvc/{claim}", "--ignore-not-found", "-o", "jsonpath={.metadata.deletionTimestamp}{.kind}")
    wait_for("the claim goes", lambda: bot.kubectl(*gone) != "PersistentVolumeClaim", 60)


def of_others(access: ClusterAccess, namespace: str) -> None:
    """Somebody else's objects under the names of children, which the operator finds when it wants to make its own."""
    metadata = {"name": "taken-backend"}
    labels = {"app": "of-others"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    scaled = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nothing"}
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 1}]}}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
    deployment |= {"spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}}
    scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "half-backend"}}
    scaler |= {"spec": {"maxReplicas": 1, "scaleTargetRef": scaled}}
    disruption = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "half-backend"}}
    access.apply(
        *(account, settings, service, policy | {"spec": {"podSelector": {}}}, deployment, scaler),
        disruption | {"spec": budget},
        namespace=namespace,
    )
    for name in ("taken", "half"):
        Bot(access, namespace, name).create().wait_reason("NameConflict", 30)
    default = {"service": {"name": "of-others", "port": {"number": 80}}}
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "inward"}}
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "routed"}}
    access.apply(ingress | {"spec": {"defaultBackend": default}}, route | {"spec": {}}, namespace=namespace)
    ways: dict[str, dict[str, Any]] = {
        "inward": {"ingressClassName": "some"},
        "routed": {"gatewayRef": {"name": "public"}},
    }
    for name, way in ways.items():
        expose = {"host": "a.example", **way}
        other = Bot(access, namespace, name).create(access={"mode": "Anonymous"}, expose=expose)
        other.wait_reason("NameConflict", 30)


def settings_that_a_pod_does_not_read(operated: Operated, bot: Bot) -> None:
    """It is nudged by an annotation."""
    mine = ("-l", "chatbot-operator.dev/chatbot=demo")
    pods = [p["metadata"]["name"] for p in bot.get("pods", *mine)["items"]]
    operated.pods.overrides |= {name: {"settingsHash": "000000000000"} for name in pods}
    bot.patch(mock={"replies": ["Good morning!"]})

    def nudged() -> bool:
        found = (p["metadata"].get("annotations", {}) for p in bot.get("pods", *mine)["items"])
        return all("chatbot-operator.dev/settings" in annotations for annotations in found)

    wait_for("the pods are nudged", nudged, 20)
    operated.pods.overrides.clear()
    bot.wait_ready(30)


def edited_by_hand(bot: Bot) -> None:
    """Twice, so that the second time an Event is counted and not made."""
    for _ in range(2):
        bot.kubectl("patch", "pdb/demo-backend", "--type=merge", "-p", '{"spec":{"maxUnavailable":7}}')
        wait_for("it is put right", lambda: bot.get("pdb/demo-backend")["spec"]["maxUnavailable"] == 1, 20)


def granted(access: ClusterAccess) -> set[Right]:
    """What the account may do, as the API server has it."""
    rules = access.get("clusterrole", CLUSTER_ROLE)["rules"]
    rules += access.get("role", f"{RELEASE}-lease", "-n", NAMESPACE)["rules"]
    return {
        Right(group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def calls(access: ClusterAccess) -> list[dict[str, Any]]:
    """Every call of the operator about objects; a watch is complete only when it ends."""
    entries = audit(access, "ResponseStarted", "ResponseComplete")
    return [e for e in entries if e["user"]["username"] == ACCOUNT and e.get("objectRef")]


def used(access: ClusterAccess) -> set[Right]:
    """What the operator has done. An apply that made an object needed both rights."""
    found = set()
    for call in calls(access):
        about = call["objectRef"]
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        right = Right(about.get("apiGroup", ""), resource, call["verb"])
        found.add(right)
        if right.verb == "patch" and call["responseStatus"]["code"] == 201:
            found.add(right._replace(verb="create"))
    return found


def test_s3_no_right_that_reaches_further_than_a_chatbot(run: Full) -> None:
    rights = granted(run.access)
    assert {r for r in rights if r.resource in NEVER or r.verb not in ALLOWED_VERBS or "*" in "".join(r)} == set()


def test_s3_nothing_else_is_bound_to_the_account(run: Full) -> None:
    bindings = run.access.get("clusterrolebindings,rolebindings", "-A")["items"]
    ours = [b for b in bindings if any(s["name"] == RELEASE for s in b.get("subjects", ()))]
    bound = {(b["roleRef"]["kind"], b["roleRef"]["name"]) for b in ours}
    assert bound == {("ClusterRole", CLUSTER_ROLE), ("Role", f"{RELEASE}-lease")}


def test_s3_every_right_is_used(run: Full) -> None:
    assert granted(run.access) - used(run.access) == set()


def test_s3_every_right_that_is_used_is_granted_and_no_call_was_refused(run: Full) -> None:
    assert used(run.access) - granted(run.access) == set()
    refused = [c for c in calls(run.access) if c["responseStatus"]["code"] in (401, 403)]
    assert [(c["verb"], c["objectRef"]) for c in refused] == []


def canaries() -> list[str]:
    """The secret values as they are, and as a Secret holds them."""
    plain = [value for data in SECRETS.values() for value in data.values()]
    return [*plain, *(base64.b64encode(value.encode()).decode() for value in plain)]


def hits(text: str) -> list[str]:
    return [canary for canary in canaries() if canary in text]


def test_s6_no_object_but_its_secret_holds_a_secret_value(run: Full) -> None:
    kinds = run.access.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
    assert hits(run.access.kubectl("get", "secrets", "-n", run.namespace, "-o", "json").stdout)
    assert len(kinds) > 40
    others = ",".join(kind for kind in kinds if kind != "secrets")
    everything = run.access.kubectl("get", others, "-A", "-o", "json", "--show-managed-fields").stdout
    assert "chat-keys" in everything
    assert hits(everything) == []


def test_s6_the_operator_shows_no_secret_value(run: Full) -> None:
    operator = run.operated.operator
    said = operator.log_path.read_text()
    assert '"level": "DEBUG"' in said
    assert operator.process is not None
    process = Path(f"/proc/{operator.process.pid}")
    pages = "".join(operator.http(page)[1] for page in ("/metrics", "/readyz", "/livez"))
    shown = said + pages + "".join((process / name).read_text() for name in ("cmdline", "environ"))
    assert "chatbot" in pages
    assert hits(shown) == []


def test_s6_the_operator_never_asked_for_a_secret(run: Full) -> None:
    assert [c for c in calls(run.access) if c["objectRef"]["resource"] == "secrets"] == []
    assert json.dumps(calls(run.access)).count("chatbots") > 10
