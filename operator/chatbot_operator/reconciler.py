"""Carries decisions out: snapshot -> observe -> plan -> writes -> status.

It decides nothing about a Chatbot itself; it knows how to write only what differs, and what to do when a write fails.
Beside it only sync.py and complaints.py call Cluster about what belongs to a Chatbot.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from chatbot_operator import drift
from chatbot_operator.actions import Action, Annotate, Apply, Delete, Scale
from chatbot_operator.api import Chatbot, InvalidChatbot, Phase, parse_chatbot
from chatbot_operator.api.reasons import EventReason, Reason
from chatbot_operator.cluster import (
    Cluster,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Terminating,
    Throttled,
)
from chatbot_operator.complaints import Complaints
from chatbot_operator.conditions import with_problem
from chatbot_operator.events import Recorder
from chatbot_operator.kinds import CHATBOT, SERVICE, Key, Kind, RawObject, Ref
from chatbot_operator.leader import Leader
from chatbot_operator.messages import Message, messages
from chatbot_operator.observe import belongs_to, observe
from chatbot_operator.observed import Observed, WriteProblem
from chatbot_operator.plan import BUILT, Plan, plan
from chatbot_operator.reports import PodReport
from chatbot_operator.settings import Settings
from chatbot_operator.statuses import goes_dark, is_news, is_progress, worsens
from chatbot_operator.store import Store

log = logging.getLogger(__name__)

ROUNDS = 8
"""One round's writes uncover the next (first a Deployment, then its autoscaler); needing more than these is a bug."""

PACED_SECONDS = 5.0
OUTDATED_SECONDS = 0.5
COUNTS_HELD = 5
"""Mere counts of pods are held back this many times longer than a condition."""

GOING_SECONDS = 15.0
"""Pause after a namespace was found to be going: each object that goes with it would else be a reason to try again."""

SURE_SECONDS = 0.3
"""Events of two objects may come in another order than they happened, by as much as Kopf gathers them: a pod that goes
may be seen before the one that took its place."""

PROGRESS_SECONDS = 8.0
"""Least time between two writes of nothing but how far a download is."""


@dataclass
class _Memory:
    """What is known of one Chatbot beside the store; losing it costs a few calls and nothing else."""

    fingerprints: dict[Ref, tuple[str, str]] = field(default_factory=dict)
    """What we wanted of a child, and what our own apply of it got back."""
    alike: dict[Ref, tuple[str, RawObject]] = field(default_factory=dict)
    """What we wanted of a child when it was compared last, and the child: it was as wanted."""
    problems: dict[Ref, WriteProblem] = field(default_factory=dict)
    complaints: Complaints = field(default_factory=Complaints)
    held: tuple[bool, float] | None = None
    """A change of status that is held back: whether it is news, and since when."""
    written_at: float = float("-inf")
    """When the status was written last."""
    dark_since: float | None = None
    """Since when nobody can chat, as far as the store knows, and the status does not say so yet."""
    paced: bool = False
    confirmed: bool = False
    """The Chatbot was read anew in this reconcile."""


class _Outdated(Exception):
    """The Chatbot that is being reconciled is gone, or is another one of its name by now."""


@dataclass(frozen=True)
class Outcome:
    """How a reconcile ended: when to come again, and whether something failed that another try may mend."""

    requeue_after: float | None = None
    failed: bool = False
    retry_after: float | None = None


@dataclass
class _Round:
    """What one pass over the actions came to."""

    changed: bool = False
    failed: bool = False
    final: bool = False
    retry_after: float | None = None


class Reconciler:
    """One for all Chatbots; the queue sees to it that one Chatbot is never handled twice at once.

    `settled` is kept up to date: the Chatbots for which what was asked for served when they were looked at last.
    `absent` are the optional kinds that the cluster lacks, as its owner finds out.
    """

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        leader: Leader,
        recorder: Recorder,
        settings: Settings,
        *,
        reports: Mapping[str, PodReport],
        settled: set[Key],
        absent: Collection[Kind] = (),
        clock: Callable[[], float],
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        built: Collection[Phase] = BUILT,
    ) -> None:
        self._store, self._cluster, self._leader, self._recorder = store, cluster, leader, recorder
        self._settings, self._reports, self._settled = settings, reports, settled
        self._clock, self._wall_clock, self._built = clock, wall_clock, built
        self._absent = absent
        self._memory: dict[Key, _Memory] = {}
        self._rolling: set[Key] = set()

    async def reconcile(self, key: Key) -> Outcome:
        """Bring one Chatbot to what its spec asks for.

        Raises NotLeader without the Lease, and ClusterError when not even the status can be written.
        """
        self._leader.require()
        snapshot = self._store.snapshot(key)
        raw = snapshot.chatbot
        if raw is None or "deletionTimestamp" in raw["metadata"]:
            self._forget(key)
            return Outcome()
        try:
            chatbot = parse_chatbot(raw)
        except InvalidChatbot as error:
            await self.report(key, Reason.INVALID_SPEC, f"{error}. What served before goes on; correct that field.")
            return Outcome()
        memory = self._memory.setdefault(key, _Memory())
        memory.confirmed = False
        await self._look_again(key, snapshot.strangers, chatbot)
        try:
            decided, last = await self._rounds(key, chatbot, memory)
        except _Outdated:
            return Outcome(requeue_after=OUTDATED_SECONDS)
        if last.final:
            return Outcome(failed=True, retry_after=GOING_SECONDS)
        if last.retry_after is not None:  # told to wait: not even the status is written before
            return Outcome(failed=True, retry_after=last.retry_after)
        wait = await self._write_status(key, chatbot, decided, memory)
        if decided.settled:
            self._settled.add(key)
        else:
            self._settled.discard(key)
        waits = [w for w in (decided.requeue_after, wait, PACED_SECONDS if memory.paced else None) if w is not None]
        return Outcome(min(waits, default=None), last.failed, last.retry_after)

    async def report(self, key: Key, reason: Reason, message: str) -> None:
        """Say in Ready why this Chatbot cannot be reconciled; everything else stays as it is."""
        raw = self._store.snapshot(key).chatbot
        if raw is None:
            return
        status = with_problem(raw, reason, message, self._wall_clock())
        if status == raw.get("status") or not await self._put_status(key, raw["metadata"]["uid"], status):
            return
        if reason == Reason.RECONCILE_FAILED:
            await self._recorder.post(parse_chatbot(raw), Message(EventReason.RECONCILE_FAILED, message))

    async def _rounds(self, key: Key, chatbot: Chatbot, memory: _Memory) -> tuple[Plan, _Round]:
        for _ in range(ROUNDS):
            decided, observed = self._plan(key, chatbot, memory)
            self._note_rollout(key, observed)
            result = await self._carry_out(key, chatbot, decided.actions, memory)
            if result.changed and not result.failed and not result.final:
                continue
            news = await memory.complaints.look_into(
                observed,
                self._cluster,
                settled=decided.settled,
                now=self._clock(),
                look_seconds=self._settings.events_look_seconds,
            )
            if news or result.failed:
                decided, _ = self._plan(key, chatbot, memory)
            return decided, result
        raise RuntimeError(f"{key}: the plan does not come to rest in {ROUNDS} rounds")

    def _plan(self, key: Key, chatbot: Chatbot, memory: _Memory) -> tuple[Plan, Observed]:
        observed = observe(
            self._store.snapshot(key),
            reports=self._reports,
            problems=memory.problems,
            complaints=memory.complaints.by_uid,
            absent=self._absent,
        )
        return plan(chatbot, observed, self._wall_clock(), self._settings, self._built), observed

    async def _carry_out(self, key: Key, chatbot: Chatbot, actions: Sequence[Action], memory: _Memory) -> _Round:
        result = _Round()
        memory.paced, memory.problems = False, {}
        for action in actions:
            try:
                result.changed |= await self._do(key, chatbot, action, memory)
            except Terminating:
                log.info("namespace is being deleted", extra={"chatbot": str(key)})
                result.final = True
                return result
            except ClusterError as error:
                problem = WriteProblem(type(error).__name__, error.message, error.verb, error.resource)
                memory.problems.setdefault(action.ref, problem)
                result.failed = True
                result.retry_after = error.retry_after if isinstance(error, Throttled) else None
                log.warning("%s: %s", action.ref, error.message, extra={"chatbot": str(key)})
                if not isinstance(error, Forbidden | Invalid):
                    return result  # the next call would fare no better; else the others may still be written
        return result

    async def _do(self, key: Key, chatbot: Chatbot, action: Action, memory: _Memory) -> bool:
        """Carry one action out if there is anything to do; whether there was."""
        match action:
            case Apply():
                return await self._apply(key, chatbot, action, memory)
            case Scale(ref, replicas):
                self._leader.require()
                await self._cluster.scale(ref, replicas)
                self._store.assume_replicas(key, ref, replicas)
            case Annotate(ref, annotations):
                self._leader.require()
                self._store.put(await self._cluster.merge(ref, {"metadata": {"annotations": dict(annotations)}}))
            case Delete(ref, uid, resource_version):
                self._leader.require()
                await self._cluster.delete(ref, uid=uid, resource_version=resource_version)
                live = self._store.snapshot(key).children.get(ref)
                if live is not None and not live["metadata"].get("finalizers"):
                    self._store.remove(live)
        return True

    async def _apply(self, key: Key, chatbot: Chatbot, action: Apply, memory: _Memory) -> bool:
        ref, wanted = action.ref, action.body
        snapshot = self._store.snapshot(key)
        if ref in snapshot.strangers:
            return False
        live, hashed = snapshot.children.get(ref), drift.wanted_hash(wanted)
        if live is not None:
            if not belongs_to(live, chatbot.metadata.uid, key.name) or _same(ref, wanted, hashed, live, memory):
                return False
            if action.own_making and drift.applied_hash(live) != hashed:
                if not self._may_roll(key):
                    memory.paced = True
                    return False
                self._rolling.add(key)
        self._leader.require()
        if live is None:
            await self._confirm(key, chatbot, memory)
            response = await self._make(key, ref, wanted, chatbot)
        else:
            response = await self._write(key, ref, wanted, live, chatbot)
        if response is None:
            return True
        self._store.put(response)
        deleted_by_hand = live is None and ref in memory.fingerprints
        edited_by_hand = live is not None and drift.applied_hash(live) == hashed
        memory.fingerprints[ref] = hashed, drift.fingerprint(wanted, response)
        if deleted_by_hand or edited_by_hand:
            what = "was deleted and is made again" if deleted_by_hand else "was edited and is put right"
            await self._recorder.post(chatbot, Message(EventReason.DRIFT_REPAIRED, f"{ref.kind} {ref.name} {what}."))
        return True

    async def _confirm(self, key: Key, chatbot: Chatbot, memory: _Memory) -> None:
        """Before something is made, read the Chatbot itself: a watch may be behind, and what is made for one that is
        gone stands in the way of its successor of the same name until it is collected. Raises _Outdated."""
        if memory.confirmed:
            return
        known = self._store.snapshot(key).chatbot
        try:
            found = await self._cluster.get(Ref(CHATBOT, key.namespace, key.name))
        except NotFound:
            if known is not None:
                self._store.remove(known)
            raise _Outdated from None
        if found["metadata"]["uid"] != chatbot.metadata.uid or "deletionTimestamp" in found["metadata"]:
            self._store.put(found)
            raise _Outdated
        memory.confirmed = True

    async def _make(self, key: Key, ref: Ref, wanted: Mapping[str, Any], chatbot: Chatbot) -> RawObject | None:
        """Make an object that the store does not know; None: there is one, which the store knows now.

        An apply would merge into a stranger's object, and our owner reference would let it be deleted.
        """
        try:
            return await self._cluster.apply(ref, drift.with_hash(wanted), new=True)
        except Conflict:
            if await self._look_up(key, ref, chatbot):
                return None
            raise

    async def _write(
        self, key: Key, ref: Ref, wanted: Mapping[str, Any], live: RawObject, chatbot: Chatbot
    ) -> RawObject:
        """Change exactly the object that was looked at: one that was deleted meanwhile is not made anew by this."""
        body = drift.with_hash(wanted)
        body["metadata"] = {**body["metadata"], "uid": live["metadata"]["uid"]}
        try:
            return await self._cluster.apply(ref, body)
        except Conflict:
            if not await self._look_up(key, ref, chatbot):
                self._store.remove(live)
            raise
        except Invalid:
            if ref.kind != SERVICE:
                raise
            # Ports are merged by number, but their names must be distinct: one that was renumbered by hand stays
            # beside ours and makes it invalid. A merge patch replaces the whole list.
            return await self._cluster.merge(ref, {"spec": {"ports": wanted["spec"]["ports"]}})

    async def _look_again(self, key: Key, strangers: Iterable[Ref], chatbot: Chatbot) -> None:
        """Whether the names that somebody else's objects had are still taken: nobody tells us when they go."""
        for ref in strangers:
            try:
                await self._look_up(key, ref, chatbot)
            except ClusterError as error:
                log.info("%s: %s", ref, error.message, extra={"chatbot": str(key)})

    async def _look_up(self, key: Key, ref: Ref, chatbot: Chatbot) -> bool:
        """Look at an object that our watch may not show; whether there is one."""
        try:
            found = await self._cluster.get(ref)
        except NotFound:
            self._store.forget_stranger(key, ref)
            return False
        if belongs_to(found, chatbot.metadata.uid, key.name):
            self._store.put_child(key, found)
        else:
            self._store.put_stranger(key, found)
        return True

    def _may_roll(self, key: Key) -> bool:
        return len(self._rolling - {key}) < self._settings.rollouts_at_once

    def _note_rollout(self, key: Key, observed: Observed) -> None:
        lives = (observed.backend, observed.web.live)
        if any(live is not None and not live.rolled_out and not live.deadline_exceeded for live in lives):
            self._rolling.add(key)
        else:
            self._rolling.discard(key)

    async def _write_status(self, key: Key, chatbot: Chatbot, decided: Plan, memory: _Memory) -> float | None:
        """Write the status if it differs; returns the seconds for which it is held back instead."""
        raw = self._store.snapshot(key).chatbot
        if raw is None:
            return None
        status = decided.status.manifest()
        if status == raw.get("status"):
            memory.held = memory.dark_since = None
            return None
        if hold := self._hold(chatbot, decided, memory):
            return hold
        memory.held = memory.dark_since = None
        memory.written_at = self._clock()
        if await self._put_status(key, chatbot.metadata.uid, status):
            for message in messages(chatbot, decided.status):
                await self._recorder.post(chatbot, message)
        return None

    def _hold(self, chatbot: Chatbot, decided: Plan, memory: _Memory) -> float:
        """While pods come up one by one, what they change is written together. Bad news never wait, but for
        the moment that it takes to be sure that nobody can chat."""
        now = self._clock()
        if goes_dark(chatbot.status, decided.status):
            if memory.dark_since is None:
                memory.dark_since = now
            return max(0.0, memory.dark_since + SURE_SECONDS - now)
        memory.dark_since = None
        seen = chatbot.status.observed_generation == chatbot.metadata.generation
        if decided.settled or not seen or worsens(chatbot.status, decided.status):
            return 0
        if is_progress(chatbot.status, decided.status):
            return max(0.0, memory.written_at + PROGRESS_SECONDS - now)
        news = is_news(chatbot.status, decided.status)
        if memory.held is None or (news and not memory.held[0]):
            memory.held = news, now
        longest = self._settings.status_hold_seconds * (1 if news else COUNTS_HELD)
        return max(0.0, memory.held[1] + longest - now)

    async def _put_status(self, key: Key, uid: str, status: Mapping[str, object]) -> bool:
        """Write the status of exactly this Chatbot; false if it is gone, and then nothing is to be said of it."""
        self._leader.require()
        log.debug("status: %s", status, extra={"chatbot": str(key)})
        ref = Ref(CHATBOT, key.namespace, key.name)
        try:
            self._store.put(await self._cluster.put_status(ref, status, uid=uid))
        except (Conflict, NotFound):
            log.info("the Chatbot is gone", extra={"chatbot": str(key)})
            return False
        return True

    def _forget(self, key: Key) -> None:
        self._memory.pop(key, None)
        self._rolling.discard(key)
        self._settled.discard(key)
        self._recorder.forget(key)


def _same(ref: Ref, wanted: RawObject, hashed: str, live: RawObject, memory: _Memory) -> bool:
    """Whether a child is as wanted; `hashed` names what is wanted. The very object is not compared twice."""
    if drift.applied_hash(live) != hashed:
        return False
    before = memory.alike.get(ref)
    if before is not None and before[0] == hashed and before[1] is live:
        return True
    known = memory.fingerprints.get(ref)
    if known is not None and known[0] == hashed:
        same = known[1] == drift.fingerprint(wanted, live)
    else:
        same = drift.same(wanted, live)
    if same:
        memory.alike[ref] = hashed, live
    return same
