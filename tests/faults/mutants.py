"""R10: seeded bugs of the operator's core, one row each, with what should notice. Pure data.

`python -m tests.faults.mutate` plants each in a copy of the tree and runs what should notice. `test_mutants.py` sees to
it that every row still fits the code.
"""

from dataclasses import dataclass

CORE = "operator/chatbot_operator"
UNIT = "tests/unit/operator"


@dataclass(frozen=True)
class Mutant:
    """One bug: in `file`, `old` becomes `new`. `noticed_by` are paths for pytest, or rows as `row:ID`."""

    bug: str
    file: str
    old: str
    new: str
    noticed_by: tuple[str, ...]
    survives: str = ""
    """Why nothing needs to notice it."""


def _mutant(bug: str, file: str, old: str, new: str, *noticed_by: str) -> Mutant:
    paths = tuple(n if n.startswith("row:") else f"{UNIT}/{n}" for n in noticed_by)
    return Mutant(bug, f"{CORE}/{file}", old, new, paths)


MUTANTS: tuple[Mutant, ...] = (
    # plan ---------------------------------------------------------------------------------------------------------
    _mutant(
        "a paused Chatbot is acted on",
        "plan.py",
        'if chatbot.metadata.annotations.get(names.PAUSED) == "true":',
        'if chatbot.metadata.annotations.get(names.PAUSED) == "yes":',
        "test_plan_migrations.py",
    ),
    _mutant(
        "an object that is being deleted is acted on",
        "plan.py",
        'return live is not None and "deletionTimestamp" in live["metadata"]',
        "return False",
        "test_plan_migrations.py",
        "test_plan_walks.py",
        "row:C9",
    ),
    _mutant(
        "a template is gone back to while its pods are still going",
        "plan.py",
        "    elif live.paused:\n        if observed.counts_settled:",
        "    elif live.paused:\n        if True:",
        "test_plan_migrations.py",
        "row:D6",
    ),
    _mutant(
        "the autoscaler stays while scaling is off",
        "plan.py",
        "if not scales and scaler is not None:",
        "if False and scaler is not None:",
        "test_plan_migrations.py",
    ),
    _mutant(
        "suspend leaves a pod",
        "plan.py",
        "    if spec.suspend:\n        wanted = 0\n",
        "    if spec.suspend:\n        wanted = 1\n",
        "test_plan_migrations.py",
    ),
    _mutant(
        "resume does not bring the pods back",
        "plan.py",
        "if live.replicas == 0 or (live.replicas < pods.least and not scaled):",
        "if live.replicas < pods.least and not scaled and live.replicas > 0:",
        "test_plan_migrations.py",
    ),
    _mutant(
        "the autoscaler's number is overruled",
        "plan.py",
        "        else:\n            return None\n    return wanted if",
        "        else:\n            wanted = pods.least\n    return wanted if",
        "test_plan_migrations.py",
        "row:C6",
    ),
    _mutant(
        "what is unwanted goes before the new version has arrived",
        "plan.py",
        "    if not migration.arrived:\n        return\n",
        "",
        "test_plan_migrations.py",
        "test_plan_walks.py",
    ),
    _mutant(
        "a claim goes though it is to be retained",
        "plan.py",
        "return ref.name != wanted_claim(chatbot) or not chatbot.spec.local.storage.retain",
        "return True",
        "test_plan_migrations.py",
        "test_plan_walks.py",
    ),
    _mutant(
        "a pod is told of new settings at every look",
        "plan.py",
        "if told != observed.settings_hash or when is None or now - when >= RENUDGE:",
        "if True:",
        "test_plan_migrations.py",
        "test_reconciler.py",
    ),
    _mutant(
        "settings are never told to running pods",
        "plan.py",
        "    yield from _nudges(observed, now)\n",
        "",
        "test_plan_migrations.py",
    ),
    _mutant(
        "any rollout counts as of our own making",
        "plan.py",
        "own_making=same_inputs and same_provider",
        "own_making=True",
        "test_pacing.py",
    ),
    # migration, observation ---------------------------------------------------------------------------------------
    _mutant(
        "the old version is taken away while the weights are on their way",
        "migration.py",
        'return "engineless" if nothing_serves else "keep"',
        'return "engineless"',
        "test_plan_migrations.py",
    ),
    _mutant(
        "a stuck rollout is never stepped back from",
        "migration.py",
        "return bool(new and old)",
        "return False",
        "test_plan_migrations.py",
    ),
    _mutant(
        "a phase that is not built is tried",
        "migration.py",
        "possible = spec.phase in built and reachable",
        "possible = reachable",
        "test_plan_migrations.py",
        "test_checks.py",
    ),
    _mutant(
        "a rollout counts as done while old pods are left",
        "observe.py",
        "self.generation_seen and self.replicas == self.updated == self.available and self.total == self.updated",
        "self.generation_seen and self.replicas == self.updated == self.available",
        "test_plan_migrations.py",
        "test_checks.py",
    ),
    _mutant(
        "a Deployment's old status counts for its new spec",
        "observe.py",
        'generation_seen=status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)',
        "generation_seen=True",
        "test_checks.py",
        "test_plan_walks.py",
        "row:A4",
    ),
    _mutant(
        "a stranger's object is taken for ours",
        "observe.py",
        "return bool(uid) and controller == uid",
        "return True",
        "test_reconciler.py",
        "test_checks.py",
    ),
    _mutant(
        "a pod that is going counts as ready",
        "observe.py",
        "return tuple(p for p in self.pods if p.ready and not p.deleting)",
        "return tuple(p for p in self.pods if p.ready)",
        "test_conditions.py",
        "test_checks.py",
        "test_plan_migrations.py",
    ),
    # checks, conditions -------------------------------------------------------------------------------------------
    _mutant(
        "Ready is said while a write has failed",
        "checks/rollout.py",
        "    if unwritten is not None:\n",
        "    if False and unwritten is not None:\n",
        "test_honest_ready.py",
    ),
    _mutant(
        "a child held while it goes is not told of",
        "checks/rollout.py",
        "    if held := _held(c):\n",
        "    if False and (held := _held(c)):\n",
        "test_checks.py",
        "row:C9",
    ),
    _mutant(
        "a condition's time of transition is renewed each time",
        "conditions.py",
        "kept = old is not None and old.status == state.status",
        "kept = False",
        "test_conditions.py",
        "test_checks.py",
        "test_plan_migrations.py",
        "test_reconciler.py",
    ),
    _mutant(
        "the status says an older generation",
        "conditions.py",
        "        observed_generation=c.chatbot.metadata.generation,\n        serving_phase",
        "        observed_generation=max(1, c.chatbot.metadata.generation - 1),\n        serving_phase",
        "test_conditions.py",
        "test_plan_migrations.py",
        "test_reconciler.py",
        "test_honest_ready.py",
        "row:A3",
    ),
    _mutant(
        "Available is said without a ready pod",
        "conditions.py",
        "    if ready:\n        newest",
        "    if True:\n        newest",
        "test_conditions.py",
        "test_checks.py",
        "test_plan_migrations.py",
    ),
    _mutant(
        "a darkness is said before it is sure",
        "reconciler.py",
        "        if goes_dark(chatbot.status, decided.status):",
        "        if False:",
        "test_held_news.py",
    ),
    _mutant(
        "bad news is held back",
        "reconciler.py",
        "if decided.settled or not seen or worsens(chatbot.status, decided.status):",
        "if decided.settled or not seen:",
        "test_held_news.py",
        "row:A4",
    ),
    # reconciler ---------------------------------------------------------------------------------------------------
    _mutant(
        "writes without the Lease",
        "leader.py",
        "        if not self.holds():\n            raise NotLeader",
        "        if not self._leading:\n            raise NotLeader",
        "test_leader.py",
        "row:A8",
    ),
    _mutant(
        "a child is made without looking whether its name is taken",
        "reconciler.py",
        "return await self._cluster.apply(ref, drift.with_hash(wanted), new=True)",
        "return await self._cluster.apply(ref, drift.with_hash(wanted))",
        "test_reconciler.py",
    ),
    _mutant(
        "a child is made for a Chatbot that is gone",
        "reconciler.py",
        '        if found["metadata"]["uid"] != chatbot.metadata.uid or',
        "        if False or",
        "test_reconciler.py",
    ),
    _mutant(
        "a change makes a vanished object anew",
        "reconciler.py",
        'body["metadata"] = {**body["metadata"], "uid": live["metadata"]["uid"]}',
        'body["metadata"] = {**body["metadata"]}',
        "test_reconciler.py",
    ),
    _mutant(
        "what is as it should be is written again",
        "reconciler.py",
        "same = drift.same(wanted, live)",
        "same = False",
        "test_reconciler.py",
    ),
    _mutant(
        "an edited field is not noticed",
        "reconciler.py",
        "same = known[1] == drift.fingerprint(wanted, live)",
        "same = True",
        "test_reconciler.py",
    ),
    _mutant(
        "a refused child keeps the others from being made",
        "reconciler.py",
        "if not isinstance(error, Forbidden | Invalid):",
        "if True:",
        "test_reconciler.py",
    ),
    _mutant(
        "told to wait, it writes on",
        "reconciler.py",
        "        if last.retry_after is not None:",
        "        if False:",
        "test_reconciler.py",
        "row:B10",
    ),
    _mutant(
        "a namespace that goes is retried",
        "reconciler.py",
        "        if last.final:\n            return Outcome()",
        "        if last.final:\n            return Outcome(failed=True)",
        "test_reconciler.py",
    ),
    _mutant(
        "the status is written though nothing has changed",
        "reconciler.py",
        "            memory.held = memory.dark_since = None\n            return None",
        "            pass",
        "test_reconciler.py",
        "test_plan_walks.py",
    ),
    _mutant(
        "rollouts of our own making are not paced",
        "reconciler.py",
        "return len(self._rolling - {key}) < self._settings.rollouts_at_once",
        "return True",
        "test_pacing.py",
        "row:A12",
    ),
    # store, queue, sync, Lease ------------------------------------------------------------------------------------
    _mutant(
        "an older state overwrites a newer one",
        "store.py",
        "and _version(obj) <= _version(old)",
        "and _version(obj) == _version(old)",
        "test_store.py",
    ),
    _mutant(
        "the end of an object removes its successor",
        "store.py",
        'if old is None or old["metadata"].get("uid") != obj["metadata"].get("uid"):',
        "if old is None:",
        "test_store.py",
    ),
    _mutant(
        "a list overwrites what came while it ran",
        "store.py",
        "if ref not in fresh and (key := self.put(item)):",
        "if key := self.put(item):",
        "test_store.py",
    ),
    _mutant(
        "a list does not remove what is gone",
        "store.py",
        "if old is not None and _version(old) <= listed_at and (key := self._drop(ref)):",
        "if False and (key := self._drop(ref)):",
        "test_store.py",
        "row:B5",
    ),
    _mutant(
        "one Chatbot is handled by two workers",
        "queue.py",
        "key = next((k for k in self._ready if k not in self._busy), None)",
        "key = next(iter(self._ready), None)",
        "test_queue.py",
    ),
    _mutant(
        "events end a back-off",
        "queue.py",
        "if until is not None and until > self._clock():",
        "if False:",
        "test_queue.py",
    ),
    _mutant(
        "failures come again at once",
        "queue.py",
        "delay = max(delay, retry_after or 0)",
        "delay = 0.0",
        "test_queue.py",
    ),
    _mutant(
        "decides before every kind was listed",
        "sync.py",
        "            if not missing:\n                retry",
        "            if len(missing) < 11:\n                retry",
        "test_sync.py",
    ),
    _mutant(
        "the second list comes as late as all others",
        "sync.py",
        "min(SECOND_LIST_SECONDS, self._settings.resync_seconds)",
        "self._settings.resync_seconds",
        "test_sync.py",
    ),
    _mutant(
        "a status is written to whoever has the name",
        "reconciler.py",
        "put_status(ref, status, uid=uid)",
        'put_status(ref, status, uid=(await self._cluster.get(ref))["metadata"]["uid"])',
        "test_reconciler.py",
        "row:B7-restart",
    ),
    _mutant(
        "what is not well never gets its turn by itself",
        "sync.py",
        "                self._add_unsettled()\n",
        "",
        "test_sync.py",
    ),
    _mutant(
        "a standby takes the Lease at once",
        "leader.py",
        "if not mine and holder and started < self._seen_at + self._term:",
        "if not mine and holder and started < self._seen_at:",
        "test_leader.py",
        "row:A7",
    ),
    _mutant(
        "the Lease is judged from the end of the call",
        "leader.py",
        "        self._renewed, self._leading = started, True",
        "        self._renewed, self._leading = self._clock(), True",
        "test_leader.py",
    ),
    _mutant(
        "after a late renewal nothing is looked at again",
        "leader.py",
        "        if lapsed:",
        "        if False:",
        "test_leader.py",
    ),
    # writing, errors ----------------------------------------------------------------------------------------------
    _mutant(
        "1024Mi differs from 1Gi",
        "drift.py",
        "return bool(wanted == live) or (",
        "return bool(wanted == live) and (",
        "test_drift.py",
    ),
    _mutant(
        "an injected sidecar is taken for drift",
        "drift.py",
        "    key = _merge_key(wanted)\n    if key is None:",
        "    key = None\n    if key is None:",
        "test_drift.py",
    ),
    _mutant(
        "a quota's refusal reads as a missing right",
        "kube.py",
        'if status == 403 and "because it is being terminated" in message:',
        'if status == 403 and "never" in message:',
        "test_kube.py",
    ),
    _mutant(
        "a delete is not tied to the object that was looked at",
        "kube.py",
        'preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})',
        "preconditions: dict[str, str] = {}",
        "test_kube.py",
    ),
    _mutant(
        "Retry-After is not read",
        "kube.py",
        "return min(max(float(value), 0.1), 60)",
        "return 0.1",
        "test_kube.py",
    ),
    _mutant(
        "Events are posted without bound",
        "events.py",
        "        if len(recent) >= PER_MINUTE:\n            return False\n",
        "",
        "test_events.py",
    ),
    _mutant(
        "the same Event is posted anew each time",
        "events.py",
        "known = self._series.get(what)",
        "known = None",
        "test_events.py",
    ),
    # what is built ------------------------------------------------------------------------------------------------
    _mutant(
        "a pod may run as root",
        "desired/deployment.py",
        '"runAsNonRoot": True,',
        '"runAsNonRoot": False,',
        "test_rendering.py",
    ),
    _mutant(
        "an old pod goes before the new one is ready",
        "desired/deployment.py",
        '"rollingUpdate": {"maxUnavailable": 0 if surge else 1, "maxSurge": 1 if surge else 0},',
        '"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1},',
        "test_rendering.py",
    ),
    _mutant(
        "a child has no owner",
        "desired/base.py",
        "    if owned:\n",
        "    if False:\n",
        "test_rendering.py",
        "test_reconciler.py",
    ),
    _mutant(
        "a missing Secret keeps the pod from starting",
        "desired/deployment.py",
        '{"secretName": keys.name, "optional": True}',
        '{"secretName": keys.name, "optional": False}',
        "test_rendering.py",
    ),
    _mutant(
        "replicas are part of the Deployment's apply",
        "desired/deployment.py",
        '        "revisionHistoryLimit": 2,\n',
        '        "revisionHistoryLimit": 2,\n        "replicas": 2,\n',
        "test_rendering.py",
        "row:C6",
    ),
)
