"""Rows C3 to C7 and C10 to C13 of the design: what others do to our objects and their namespace."""

import asyncio
import itertools
import time

from chatbot_operator.kinds import (
    CHATBOT,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    EVENT,
    POD,
    SERVICE,
    Kind,
)
from chatbot_operator.names import CHATBOT_LABEL, backend, peers
from chatbot_operator.rest import path
from tests.faults.admin import NAMESPACE, Object
from tests.faults.fields import PRIORITY_CLASS, Spec
from tests.faults.harness import Row, Run
from tests.faults.lane import DRIFT_BOUND, RESYNC, RESYNC_BOUND, Lane
from tests.faults.rows.operator import namespace_gone
from tests.faults.rows.steps import CHANGE, ONE, start
from tests.faults.world import Id

QUOTA = Kind("ResourceQuota", "", "v1", "resourcequotas")
MUTATION = Kind("MutatingAdmissionPolicy", "admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies")
BINDING = Kind("MutatingAdmissionPolicyBinding", MUTATION.group, "v1", "mutatingadmissionpolicybindings")


async def not_ours(run: Run) -> None:
    lane, (name,) = run.lane, await start(run)
    own, now = backend(name), "2026-11-25T00:00:00Z"
    template = {
        "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now, "mesh.example/inject": "true"}},
        "spec": {"containers": [{"name": "sidecar", "image": "localhost/sidecar:1", "resources": {}}]},
    }
    url = path(DEPLOYMENT, lane.namespace, own)
    patch = {"metadata": {"labels": {"example.com/mine": "x"}}, "spec": {"template": template}}
    await lane.admin.request("PATCH", url, patch, "application/strategic-merge-patch+json")
    await lane.admin.merge(SERVICE, lane.namespace, name, {"metadata": {"annotations": {"mesh.example/port": "80"}}})
    await lane.world.until("the pods have it", lambda: _injected(lane, name), 60)
    await lane.settled()
    await lane.quiet(2 * RESYNC, 10 * RESYNC)  # whoever fights over what is not its own writes at every resync
    live = lane.deployment(name)
    assert live is not None
    containers = [c["name"] for c in live["spec"]["template"]["spec"]["containers"]]
    assert containers == ["runtime", "sidecar"] or set(containers) == {"runtime", "sidecar"}
    assert live["metadata"]["labels"]["example.com/mine"] == "x"
    # Other containers, labels and annotations make it differ from a fresh create, as they should.
    await run.check(waive=("O1",))


def _injected(lane: Lane, name: str) -> bool:
    """The pods, and no others, are those of the edited template."""
    live, pods = lane.deployment(name), lane.pods(name)
    return bool(live and pods) and all(len(p["spec"]["containers"]) == 2 and is_ready(p) for p in pods)


async def label_or_owner_lost(run: Run) -> None:
    lane, (name,) = run.lane, await start(run)
    lost = {"metadata": {"labels": {CHATBOT_LABEL: None}}}
    edited = int((await lane.admin.merge(SERVICE, lane.namespace, peers(name), lost))["metadata"]["resourceVersion"])

    def labelled() -> bool:
        live = lane.live(SERVICE, peers(name))
        newer = live is not None and int(live["metadata"]["resourceVersion"]) > edited
        return bool(newer and live and live["metadata"].get("labels", {}).get(CHATBOT_LABEL) == name)

    await lane.world.until("the label is back", labelled, DRIFT_BOUND)
    await run.check(waive=("O9",))
    lane.mark()
    await lane.admin.merge(CONFIG_MAP, lane.namespace, backend(name), {"metadata": {"ownerReferences": None}})
    condition = await lane.reason(name, "NameConflict")
    assert backend(name) in condition["message"]
    assert not [c for c in lane.proxy.writes() if c.resource == "configmaps"], "written, though it is nobody's now"
    owner = {"ownerReferences": _owner(lane, name)}
    await lane.admin.merge(CONFIG_MAP, lane.namespace, backend(name), {"metadata": owner})
    await lane.settled(timeout=RESYNC_BOUND)
    # Who applied what is told by the managers of fields: the owner reference is the administrator's now.
    await run.check(waive=("O1", "O9"))


def _owner(lane: Lane, name: str) -> list[Object]:
    live = lane.live(CHATBOT, name)
    assert live is not None
    own = {"apiVersion": live["apiVersion"], "kind": "Chatbot", "name": name, "uid": live["metadata"]["uid"]}
    return [{**own, "controller": True, "blockOwnerDeletion": False}]


async def name_taken(run: Run) -> None:
    lane, name = run.lane, run.lane.fresh_name()
    strangers: list[tuple[Kind, Object]] = [
        (SERVICE, {"metadata": {"name": name}, "spec": {"ports": [{"port": 5000}], "selector": {"app": "other"}}}),
        (CONFIG_MAP, {"metadata": {"name": backend(name)}, "data": {"theirs": "x"}}),
    ]
    for kind, body in strangers:
        made = await lane.admin.create(kind, lane.namespace, body)
        lane.foreign[Id(kind.name, made["metadata"]["name"])] = {
            **made,
            "apiVersion": kind.api_version,
            "kind": kind.name,
        }
    await lane.world.until("the onlooker sees them", lambda: lane.live(CONFIG_MAP, backend(name)) is not None, 30)
    await lane.create(ONE, name)
    await lane.reason(name, "NameConflict", timeout=30)
    await lane.admin.delete(CHATBOT, lane.namespace, name)
    lane.bots.remove(name)
    await lane.world.until("the Chatbot is gone", lambda: lane.live(CHATBOT, name) is None, 60)
    await asyncio.sleep(RESYNC)  # time for a collector to take what is not ours
    await run.check()


async def scaled_by_others(run: Run) -> None:
    lane = run.lane
    name = await lane.create({"backend": {"autoscaling": {"minReplicas": 1, "maxReplicas": 4}}})
    await lane.settled()
    await lane.quiet()
    lane.mark()
    own = backend(name)
    await lane.admin.merge(DEPLOYMENT, lane.namespace, own, {"spec": {"replicas": 3}}, "scale")
    await lane.patch(name, systemPrompt="a change meanwhile")
    await lane.settled()
    writes = [str(c) for c in lane.proxy.writes() if c.resource == "deployments/scale"]
    assert not writes, f"replicas are the autoscaler's: {writes}"
    applied = [
        c for c in lane.proxy.writes() if c.resource == "deployments" and "replicas" in (c.body or {}).get("spec", {})
    ]
    assert not applied, "replicas are part of an apply"
    live = lane.deployment(name)
    count = live["spec"]["replicas"] if live else 0
    await lane.put(name, {"backend": {"replicas": count, "autoscaling": {"enabled": False}}})
    await lane.settled()
    live = lane.deployment(name)
    assert live is not None
    assert live["spec"]["replicas"] == count
    await run.check()


async def sick_pod_evicted(run: Run) -> None:
    lane = run.lane
    fails = {"pods": {"annotations": {"devcluster.local/fail": "CrashLoopBackOff: broken"}}}
    name = await lane.create({**ONE, **fails})
    await lane.world.until("a pod is there", lambda: lane.pods(name), 30)
    pod = lane.pods(name)[0]["metadata"]["name"]
    await lane.world.until("the budget knows it", lambda: _budget_seen(lane, name), 30)
    url = path(POD, lane.namespace, pod, "eviction")
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    await lane.admin.request("POST", url, body)
    await lane.world.until("it is gone", lambda: lane.live(POD, pod) is None, 60)
    await lane.put(name, ONE)
    await lane.settled(timeout=60)
    await run.check()


def _budget_seen(lane: Lane, name: str) -> bool:
    budget = lane.live(DISRUPTION_BUDGET, backend(name))
    return budget is not None and budget.get("status", {}).get("observedGeneration", 0) > 0


async def quota(run: Run) -> None:
    lane = run.lane
    (old,) = await start(run)
    before = lane.deployment(old)
    await lane.admin.create(
        QUOTA, lane.namespace, {"metadata": {"name": "few"}, "spec": {"hard": {"count/configmaps": "0", "pods": "1"}}}
    )
    await _quota_counts(lane)
    name = await lane.create(ONE)
    condition = await lane.reason(name, "QuotaExceeded", timeout=30)
    assert "exceeded quota" in condition["message"], condition
    await lane.put(old, {**ONE, **CHANGE})  # the new pod is one too many: the old one serves on
    await lane.reason(old, "QuotaExceeded", timeout=30)
    assert any(is_ready(p) for p in lane.world.of(lane.namespace, POD, old))
    assert before is not None
    await lane.admin.delete(QUOTA, lane.namespace, "few")
    await lane.settled(timeout=60)
    await run.check()


async def _quota_counts(lane: Lane) -> None:
    end = time.monotonic() + 30
    while "used" not in (await lane.admin.get(QUOTA, lane.namespace, "few")).get("status", {}):
        assert time.monotonic() < end, "the quota is not counted"
        await asyncio.sleep(0.1)


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", ()))


async def restricted(run: Run) -> None:
    lane = run.lane
    for number in range(12 if run.scope.full else 3):
        await lane.create(_secured(number))
    await lane.settled(timeout=60)
    await run.check()


def _secured(number: int) -> Spec:
    return {**ONE, "pods": {"priorityClassName": PRIORITY_CLASS}} if number % 2 else ONE


async def altered_on_admission(run: Run) -> None:
    """A policy of the cluster changes a field of ours in each write of the Deployment."""
    lane = run.lane
    policy = f"alter-{lane.namespace}"
    expression = (
        "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{"
        "enableServiceLinks: true}}}}"
    )
    match = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    selector = {"matchLabels": {"kubernetes.io/metadata.name": lane.namespace}}
    spec = {
        "matchConstraints": {"resourceRules": [match], "namespaceSelector": selector},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
        "reinvocationPolicy": "Never",
        "failurePolicy": "Fail",
    }
    await lane.admin.create(MUTATION, None, {"metadata": {"name": policy}, "spec": spec})
    try:
        await lane.admin.create(BINDING, None, {"metadata": {"name": policy}, "spec": {"policyName": policy}})
        await _alters(lane)
        name = await lane.create(ONE)
        await lane.settled()
        live = lane.deployment(name)
        assert live is not None
        assert live["spec"]["template"]["spec"]["enableServiceLinks"] is True, "the policy did nothing"
        await lane.quiet(2 * RESYNC, 10 * RESYNC)  # whoever fights with the policy writes at every resync
        await run.check(waive=("O1",))
    finally:
        await lane.admin.delete(BINDING, None, policy)
        await lane.admin.delete(MUTATION, None, policy)


async def _alters(lane: Lane) -> None:
    """Policies reach the API server's admission a moment after they are made."""
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    probe: Object = {"spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": pod}}
    end = time.monotonic() + 30
    for number in itertools.count():
        probe["metadata"] = {"name": f"probe{number}"}
        url = path(DEPLOYMENT, lane.namespace) + "?dryRun=All"
        whole = {"apiVersion": "apps/v1", "kind": "Deployment", **probe}
        made = await lane.admin.request("POST", url, whole)
        if made["spec"]["template"]["spec"].get("enableServiceLinks") is True:
            return
        assert time.monotonic() < end, "the policy has no effect"
        await asyncio.sleep(0.1)


async def namespace_goes(run: Run) -> None:
    lane = run.lane
    await start(run, 2)
    began = time.monotonic()
    await lane.admin.delete(NAMESPACE, None, lane.namespace)
    await namespace_gone(lane, 120)
    run.tally.recovery.append(time.monotonic() - began)
    refused = [c for c in lane.proxy.writes() if c.status == 403]
    assert len(refused) <= 20, f"{len(refused)} writes into a namespace that goes: a retry storm"
    events = [c for c in lane.world.history[lane.namespace] if c.id.kind == EVENT.name and c.type == "ADDED"]
    told = [c for c in events if c.obj.get("reportingController", "").startswith("chatbot-operator")]
    assert len(told) <= 10, f"{len(told)} events of a Chatbot that goes"
    run.tally.runs += 1


ROWS: tuple[Row, ...] = (
    Row("C3", "Annotations, a sidecar, a restart by others", "Left alone, no fight", not_ours),
    Row("C4", "Label or owner reference lost", "Label put back; NameConflict without the owner", label_or_owner_lost),
    Row("C5", "A child's name is somebody else's", "NameConflict; never taken over or deleted", name_taken),
    Row("C6", "Replicas changed while the autoscaler is on", "Never in an apply; kept when it goes", scaled_by_others),
    Row("C7", "A sick pod is evicted", "The budget lets it go", sick_pod_evicted),
    Row("C10", "A quota forbids a child and a pod", "QuotaExceeded; the old version serves on", quota),
    Row(
        "C11",
        "The namespace enforces Pod Security restricted",
        "All admitted unchanged",
        restricted,
        labels={"pod-security.kubernetes.io/enforce": "restricted"},
    ),
    Row("C12", "An admission policy alters our Deployment", "No endless loop", altered_on_admission),
    Row("C13", "Namespace deleted while the operator runs", "No retry storm; gone within 120 s (R9)", namespace_goes),
)
