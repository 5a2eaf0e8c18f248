"""Seeded random walks: edits, faults, crashes and late news at any moment, with the promises checked at every step.

CHATBOT_WALKS says how many (default 300) and CHATBOT_WALK_SEED from which seed on; a failure names its seed and trail.
"""

import json
import os
import random
from collections.abc import Mapping
from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.kinds import CLAIM, CONFIG_MAP, DEPLOYMENT, JOB, POD, REPLICA_SET, Ref, ref_of
from chatbot_operator.migration import wanted_claim
from chatbot_operator.revision import revision
from tests.support.simulated_api import Object, clone, controller_of
from tests.support.simulated_controllers import is_ready
from tests.support.simulated_world import REF, World

WALKS = int(os.environ.get("CHATBOT_WALKS", "300"))
FIRST_SEED = int(os.environ.get("CHATBOT_WALK_SEED", "0"))
BATCHES = 10
STEPS = 60


class OperatorDied(Exception):
    """The process ends right after a write."""


class Walk:
    """One walk; `trail` is what has happened."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.trail: list[str] = []
        self.world = World(self.random_spec(), seed=seed)
        self.world.api.before = self.check_call
        self.world.api.after = self.note_write
        self.dies_after: int | None = None
        self.was_ready = False
        self.retries = 0

    # what happens -----------------------------------------------------------------------------------------------

    def random_spec(self) -> Object:
        """A spec of any phase; few values, so that walks come back to where they were."""
        choose = self.rng.choice
        storage = {"storageClassName": choice} if (choice := choose([None, None, "fast"])) else {}
        spec: Object = {
            "phase": choose(["mock", "hf", "local", "local"]),
            "hf": {"models": [choose(["a/one", "b/two"])]},
            "local": {
                "models": choose([["phi"], ["phi", "qwen"], ["qwen"]]),
                "prefetch": choose([False, False, True]),
                "storage": {**storage, "retain": choose([True, False])},
            },
            "backend": {"rollout": choose(["Surge", "Surge", "Surge", "Replace"])},
        }
        if self.rng.random() < 0.3:
            spec["backend"] |= {"autoscaling": {"enabled": False}, "replicas": choose([1, 2, 4])}
        if self.rng.random() < 0.1:
            spec["suspend"] = True
        return spec

    def edit(self) -> None:
        if self.rng.random() < 0.5:
            self.world.edit({"phase": self.rng.choice(["mock", "hf", "local"])})
        else:
            self.world.put_spec(self.random_spec())

    def retry(self) -> None:
        self.retries += 1
        self.world.edit(annotations={names.RETRY: str(self.retries)})

    def fault(self) -> None:
        faults = self.world.controllers.faults
        match self.rng.randrange(4):
            case 0:
                faults.broken ^= {revision(self.world.chatbot.spec)}
            case 1:
                faults.capacity = self.rng.choice([1, 2, 100])
            case 2:
                faults.downloads_fail = not faults.downloads_fail
            case 3:
                self.world.controllers.deadline()

    def by_hand(self) -> None:
        """Somebody deletes or edits a child; nothing that serves, for that would be their own doing."""
        mounted = set(self.world.api.mounted_claims())
        free = [
            r
            for r in self.world.api.objects
            if r.kind not in (CLAIM, POD, DEPLOYMENT)
            and r.kind.name in {"Job", "Service", "ConfigMap", "ServiceAccount"}
        ]
        free += [r for r in self.world.api.objects if r.kind == CLAIM and (r.namespace, r.name) not in mounted]
        if free:
            ref = self.rng.choice(sorted(free))
            self.trail.append(f"by hand: delete {ref}")
            self.world.api.delete_by_hand(ref)

    async def operate(self) -> None:
        if self.rng.random() < 0.15:
            self.dies_after = self.rng.randint(1, 6)
        try:
            await self.world.reconcile()
        except OperatorDied:
            self.trail.append("the operator died")
            self.world.start_operator()
        self.dies_after = None

    # what is promised -------------------------------------------------------------------------------------------

    def note_write(self, verb: str, ref: Ref) -> None:
        self.trail.append(f"{verb} {ref}")
        if self.dies_after is not None and verb != "put-status":
            self.dies_after -= 1
            if self.dies_after <= 0:
                raise OperatorDied

    def check_call(self, verb: str, ref: Ref, body: Any) -> None:
        api = self.world.api
        live = api.objects.get(ref)
        if verb in ("apply", "delete", "scale") and live is not None:
            known = self.world.snapshot().children.get(ref, {"metadata": {}})
            assert "deletionTimestamp" not in known["metadata"], f"{verb} of {ref}, which is known to be going"
        if verb == "delete" and ref.kind == CLAIM:
            mounted = set(api.mounted_claims(but=self.orphans()))
            assert (ref.namespace, ref.name) not in mounted, f"{ref} is deleted under a pod"
        if verb == "apply" and ref.kind == DEPLOYMENT:
            template = body["spec"]["template"]
            if live is None or _revision(template) != _revision(live["spec"]["template"]):
                self.check_weights(template["metadata"])

    def orphans(self) -> set[Ref]:
        """Pods that the operator has not seen yet and whose Job is gone: they go too, and until then the API server
        keeps a claim that was deleted (kubernetes.io/pvc-protection)."""
        known = self.world.snapshot().children
        uids = {o["metadata"]["uid"] for o in self.world.api.objects.values()}
        return {
            ref_of(p) for p in self.world.api.of_kind(POD) if ref_of(p) not in known and controller_of(p) not in uids
        }

    def check_weights(self, template: Mapping[str, Any]) -> None:
        """No template that needs weights is applied before they are there (unless somebody has deleted the claim)."""
        wanted = template["annotations"].get(names.LIST_HASH)
        known = [c for c in self.world.snapshot().children.values() if c["kind"] == CLAIM.name]
        claim = self.world.mounts.get(template["labels"][names.REVISION_LABEL])
        seen = next((c for c in known if c["metadata"]["name"] == claim), None)
        if wanted and seen is not None:
            on_it = self.world.controllers.contents.get(seen["metadata"]["uid"], set())
            assert wanted in on_it, f"list {wanted} is not on {claim}, which holds {sorted(on_it)}"

    def check(self) -> None:
        """Once ready, always a ready pod, but for suspending and replacing; one download at a time writes a claim."""
        world = self.world
        live = next(iter(world.api.of_kind(DEPLOYMENT)), None)
        replaces = live is not None and live["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] > 0
        sets = world.api.of_kind(REPLICA_SET)  # they follow a moment after the Deployment is suspended or resumed
        idle = live is not None and (live["spec"]["replicas"] == 0 or not any(s["spec"]["replicas"] for s in sets))
        backends = [p for p in world.api.of_kind(POD) if names.REVISION_LABEL in p["metadata"]["labels"]]
        ready = any(map(is_ready, backends))
        if replaces or idle or world.chatbot.spec.suspend:
            self.was_ready = False
        assert ready or not self.was_ready, "a pod was ready, and now none is"
        self.was_ready |= ready
        writers = [
            (p["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], p["metadata"]["ownerReferences"][0]["uid"])
            for p in world.api.of_kind(POD)
            if "batch.kubernetes.io/job-name" in p["metadata"]["labels"] and p["status"]["phase"] == "Running"
        ]
        claims = [claim for claim, _ in writers]
        gone = {j["metadata"]["uid"] for j in world.api.of_kind(JOB)}
        owned = [claim for claim, owner in writers if owner in gone]
        assert len(set(owned)) == len(owned), f"two downloads write one claim: {claims}"

    # the walk ---------------------------------------------------------------------------------------------------

    async def go(self) -> None:
        for _ in range(STEPS):
            what = self.rng.choices(
                ["operate", "controllers", "news", "edit", "retry", "fault", "hand", "late"],
                [12, 30, 20, 3, 1, 3, 1, 1],
            )[0]
            if what not in ("controllers", "news"):
                self.trail.append(what)
            match what:
                case "operate":
                    await self.operate()
                case "controllers":
                    for _ in range(4):
                        self.world.controllers.step()
                        self.check()
                case "news":
                    self.world.deliver(lag=True)
                case "edit":
                    self.edit()
                    self.trail.append(json.dumps(self.world.api.objects[REF]["spec"], sort_keys=True))
                case "retry":
                    self.retry()
                case "fault":
                    self.fault()
                case "hand":
                    self.by_hand()
                case "late":
                    self.world.seconds += 30
            self.check()

    async def end_well(self) -> None:
        """The faults stop and the last failure is retried; then the world is as if nothing had ever happened."""
        faults = self.world.controllers.faults
        faults.broken.clear()
        faults.capacity, faults.downloads_fail, faults.late_jobs = 100, False, False
        self.world.edit(annotations={names.RETRY: "at last"})
        self.world.deliver()
        await self.world.settle()
        self.check()
        before = len(self.world.api.calls)
        self.world.seconds += 120
        await self.world.reconcile()
        assert not self.world.api.calls[before:], "settled, and still there is something to do"
        await self.compare_with_a_fresh_one()

    async def compare_with_a_fresh_one(self) -> None:
        fresh = World(self.world.api.objects[REF]["spec"])
        fresh.edit(annotations={names.RETRY: "at last"})
        await fresh.settle()
        chatbot, arrived = self.world.chatbot, portrait(self.world)
        wanted = portrait(fresh)
        for ref in arrived.keys() - wanted.keys():
            if ref.kind == CLAIM and ref.name == wanted_claim(chatbot) and chatbot.spec.local.storage.retain:
                del arrived[ref]  # retained, as asked for
        assert arrived == wanted


def _revision(template: Mapping[str, Any]) -> str:
    return str(template["metadata"]["labels"][names.REVISION_LABEL])


def portrait(world: World) -> dict[Ref, Any]:
    """Everything that is the same however it came about: no clocks, names of runs, or counts of an autoscaler."""
    return {
        ref: _face(ref, obj)
        for ref, obj in world.api.objects.items()
        if ref.kind.name not in ("Event", "Pod", "ReplicaSet")
    }


def _face(ref: Ref, obj: Mapping[str, Any]) -> Any:
    face = clone(obj)
    metadata = face["metadata"]
    for key in ("resourceVersion", "uid", "generation"):
        metadata.pop(key, None)
    for key in (names.APPLIED_HASH, "deployment.kubernetes.io/revision"):
        metadata.get("annotations", {}).pop(key, None)
    if not metadata.get("annotations"):
        metadata.pop("annotations", None)
    if ref.kind == CONFIG_MAP:  # which providers have proved themselves depends on the past
        text = json.loads(face["data"][names.SETTINGS_KEY])
        face["data"] = {k: v for k, v in text.items() if k != "verifiedRevisions"}
    if ref.kind == DEPLOYMENT:
        face["spec"].pop("replicas")
    status = face.pop("status", {})
    if ref == REF:
        status = {k: v for k, v in status.items() if k not in ("observedGeneration", "replicas", "readyReplicas")}
        status["conditions"] = [(c["type"], c["status"], c["reason"], c["message"]) for c in status["conditions"]]
        face["status"] = status
    return face


@pytest.mark.parametrize("batch", range(BATCHES))
async def test_however_it_walks_what_serves_is_kept_and_the_end_is_that_of_a_fresh_create(batch: int) -> None:
    for seed in range(FIRST_SEED + batch, FIRST_SEED + WALKS, BATCHES):
        walk = Walk(seed)
        try:
            await walk.go()
            await walk.end_well()
        except Exception as error:
            trail = "\n".join(walk.trail[-80:])
            raise AssertionError(f"walk {seed}: {type(error).__name__}: {error}\n{trail}") from error
