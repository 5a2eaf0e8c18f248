"""One Chatbot and its raw children at one moment, for tests of the pure core. It must not know what is decided."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from chatbot_operator import names
from chatbot_operator.actions import Apply
from chatbot_operator.api import Chatbot, Phase, parse_chatbot
from chatbot_operator.checks.base import Context
from chatbot_operator.desired.config import nginx_text
from chatbot_operator.desired.deployment import backend_deployment, backend_template
from chatbot_operator.desired.page import web_deployment
from chatbot_operator.drift import with_hash
from chatbot_operator.kinds import API_VERSION, CLAIM, DEPLOYMENT, POD, REPLICA_SET, SERVICE, Kind, Ref, ref_of
from chatbot_operator.migration import migrate
from chatbot_operator.observe import observe
from chatbot_operator.observed import Observed, WriteProblem
from chatbot_operator.plan import Plan, plan
from chatbot_operator.reports import PodReport
from chatbot_operator.settings import Settings
from chatbot_operator.store import Snapshot
from chatbot_runtime.contract import PodStatus
from tests.support.simulated_api import Object, clone, merge_into
from tests.support.simulated_world import EVERY_PHASE, KEY, START

BACKEND = Ref(DEPLOYMENT, KEY.namespace, names.backend(KEY.name))
WEB = Ref(DEPLOYMENT, KEY.namespace, names.web(KEY.name))
ADDRESS = "192.0.2.80"
"""Of every Service."""


class Scene:
    """Nothing but the Chatbot at first; `apply` and `rolled_out` add what the operator and the controllers would."""

    def __init__(self, spec: Mapping[str, Any] | None = None, *, built: frozenset[Phase] = EVERY_PHASE) -> None:
        metadata = {**KEY._asdict(), "uid": "the-chatbot", "generation": 3, "annotations": {}}
        self.raw: Object = {"apiVersion": API_VERSION, "kind": "Chatbot", "metadata": metadata}
        self.raw["spec"] = clone(spec or {"phase": "mock"})
        self.objects: dict[Ref, Object] = {}
        self.strangers: dict[Ref, Object] = {}
        self.reports: dict[str, PodReport] = {}
        self.problems: dict[Ref, WriteProblem] = {}
        self.complaints: dict[str, str] = {}
        self.absent: frozenset[Kind] = frozenset()
        self.settings = Settings()
        self.built = built
        self.now = START

    @property
    def chatbot(self) -> Chatbot:
        return parse_chatbot(self.raw)

    @property
    def observed(self) -> Observed:
        snapshot = Snapshot(KEY, self.raw, self.objects, self.strangers)
        return observe(
            snapshot, reports=self.reports, problems=self.problems, complaints=self.complaints, absent=self.absent
        )

    @property
    def context(self) -> Context:
        observed = self.observed
        migration = migrate(self.chatbot, observed, self.built, self.settings.allowed_hosts)
        return Context(self.chatbot, observed, migration, self.settings, self.now, self.built)

    def plan(self) -> Plan:
        return plan(self.chatbot, self.observed, self.now, self.settings, self.built)

    def keep_status(self) -> None:
        """The operator writes the status that it has worked out, and a minute passes."""
        self.raw["status"] = self.plan().status.manifest()
        self.now += timedelta(minutes=1)

    def store(self, body: Mapping[str, Any]) -> Object:
        """An object as the API server would give it back."""
        new: Object = clone(body)
        ref = ref_of(new)
        new["metadata"].setdefault("uid", f"uid-{ref.kind}-{ref.name}")
        new["metadata"].setdefault("resourceVersion", "7")
        if ref.kind == SERVICE:
            new["spec"].setdefault("clusterIP", ADDRESS)
        if ref.kind == CLAIM:
            new["spec"].setdefault("storageClassName", "standard")  # the cluster's default
        old = self.objects.setdefault(ref, {})
        merge_into(old, new)
        return old

    def apply(self) -> list[Ref]:
        """One round: what the plan applies is there afterwards; in the order of the plan."""
        bodies = [with_hash(a.body) for a in self.plan().actions if isinstance(a, Apply)]
        for body in bodies:
            self.store(body)
        return [ref_of(body) for body in bodies]

    def deployment(self, *, total: int, updated: int, available: int) -> Object:
        """The Deployment of the Chatbot's own template, for two pods, with these counts in its status."""
        body = backend_deployment(self.chatbot, self.settings, backend_template(self.chatbot, self.settings))
        live = self.store(with_hash(body))
        live["spec"]["replicas"] = 2
        live["metadata"]["generation"] = 1
        counts = {"replicas": total, "updatedReplicas": updated, "readyReplicas": available}
        live["status"] = {"observedGeneration": 1, **counts, "availableReplicas": available}
        return live

    def replica_set(
        self, spec: Mapping[str, Any] | None = None, *, number: int = 1, ready: int = 2, sick: int = 0
    ) -> None:
        """One template that the Deployment has had (of this spec, else of the Chatbot's own) with its pods."""
        chatbot = parse_chatbot({**self.raw, "spec": spec or self.raw["spec"]})
        template = backend_template(chatbot, self.settings)
        template["metadata"]["labels"] |= {"pod-template-hash": f"hash{number}"}
        self._pods(BACKEND, template, number, ready, sick)

    def page(self, *, ready: int = 2, sick: int = 0) -> None:
        """The chat page's Deployment for two pods, with so many of its template."""
        live = self.store(with_hash(web_deployment(self.chatbot, self.settings, nginx_text(self.chatbot, ADDRESS))))
        live["spec"]["replicas"] = 2
        live["metadata"]["generation"] = 1
        total = ready + sick
        counts = {"replicas": total, "updatedReplicas": total, "readyReplicas": ready, "availableReplicas": ready}
        live["status"] = {"observedGeneration": 1, **counts}
        template = clone(live["spec"]["template"])
        template["metadata"]["labels"] |= {"pod-template-hash": "page1"}
        self._pods(WEB, template, 1, ready, sick)

    def _pods(self, deployment: Ref, template: Mapping[str, Any], number: int, ready: int, sick: int) -> None:
        metadata = {
            "name": f"{deployment.name}-{number}",
            "namespace": KEY.namespace,
            "labels": template["metadata"]["labels"],
            "annotations": {"deployment.kubernetes.io/revision": str(number)},
            "ownerReferences": [self._owner(self.objects[deployment])],
        }
        replica_set = {"apiVersion": "apps/v1", "kind": REPLICA_SET.name, "metadata": metadata}
        size = ready + sick
        made = {**replica_set, "spec": {"template": template, "replicas": size}}
        owner = self.store({**made, "status": {"replicas": size, "observedGeneration": 1}})
        owner["metadata"]["generation"] = 1
        for i in range(ready + sick):
            name = f"{metadata['name']}-{i}"
            pod = {**metadata, "name": name, "annotations": {}, "ownerReferences": [self._owner(owner)]}
            state = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if i < ready else "False"}]}
            self.store({"apiVersion": "v1", "kind": POD.name, "metadata": pod, "spec": {}, "status": state})

    @staticmethod
    def _owner(obj: Object) -> Object:
        owner = {k: obj["metadata"][k] for k in ("name", "uid")}
        return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "controller": True, **owner}

    def pod(self, index: int = 0, number: int = 1, deployment: Ref = BACKEND) -> Object:
        return self.objects[Ref(POD, KEY.namespace, f"{deployment.name}-{number}-{index}")]

    def report(self, **fields: Any) -> None:
        """Every pod says of itself that all is well, but for `fields`."""
        observed = self.observed
        for pod in observed.pods:
            said = {"chatbot": KEY.name, "phase": pod.phase, "revision": pod.revision, "ready": pod.ready}
            said |= {"settings_hash": observed.settings_hash, **fields}
            self.reports[pod.instance] = PodReport(PodStatus.model_validate(said))


def serving(spec: Mapping[str, Any] | None = None) -> Scene:
    """What was asked for serves, with two pods, and two of the chat page."""
    scene = Scene(spec)
    scene.apply()
    scene.apply()
    if scene.chatbot.spec.web.enabled:
        scene.page()
    scene.deployment(total=2, updated=2, available=2)
    scene.replica_set()
    scene.report()
    return scene


def starting(spec: Mapping[str, Any] | None = None) -> Scene:
    """The first two pods are there and not ready."""
    scene = Scene(spec)
    scene.apply()
    scene.page()
    scene.deployment(total=2, updated=2, available=0)
    scene.replica_set(ready=0, sick=2)
    return scene


def migrating(old: Mapping[str, Any], new: Mapping[str, Any]) -> Scene:
    """Two pods of the old spec serve, one of the new is not ready yet."""
    scene = Scene(new)
    scene.apply()
    scene.page()
    scene.deployment(total=3, updated=1, available=2)
    scene.replica_set(old, number=1)
    scene.replica_set(new, number=2, ready=0, sick=1)
    scene.report()
    return scene
