"""Who may write: the holder of one Lease. Judged by local monotonic time, so that no clock can be wrong.

A holder renews the Lease; whoever sees it unchanged for its whole term takes it over. Before each write the holder
asks `holds()`: a process that was paused past its term has lost the Lease even if nobody has taken it yet.
It must not know what is written.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from chatbot_operator.cluster import Cluster, ClusterError, Conflict, NotFound
from chatbot_operator.kinds import LEASE, RawObject, Ref

log = logging.getLogger(__name__)


class NotLeader(Exception):
    """A write was about to happen without the Lease."""


class Leader:
    """One candidate. `term` and `renew_every` in seconds of `clock`, which must be monotonic.

    `annotations` are those of a Lease that it has to make; while `may` says no it keeps the Lease and writes nothing.
    """

    def __init__(
        self,
        cluster: Cluster,
        ref: Ref,
        identity: str,
        *,
        term: float,
        renew_every: float,
        clock: Callable[[], float],
        on_gain: Callable[[], None],
        annotations: Mapping[str, str],
        may: Callable[[], bool] = lambda: True,
    ) -> None:
        self._cluster, self._ref, self._identity = cluster, ref, identity
        self._term, self._renew_every, self._clock, self._on_gain = term, renew_every, clock, on_gain
        self._annotations, self._may = annotations, may
        self._renewed = float("-inf")
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = float("-inf")
        self._leading = False

    def holds(self) -> bool:
        """Whether a write may begin now."""
        return self._in_term() and self._may()

    def _in_term(self) -> bool:
        return self._leading and self._clock() < self._renewed + self._term

    def require(self) -> None:
        """Raises NotLeader unless `holds`."""
        if not self.holds():
            raise NotLeader(f"{self._identity} does not hold {self._ref}, or may not write with it")

    async def run(self) -> None:
        """Take part for ever: wait for the Lease, take it, renew it."""
        while True:
            try:
                await self.step()
            except ClusterError as error:
                log.warning("lease: %s: %s", type(error).__name__, error.message)
            if self._leading and not self._in_term():
                self._leading = False
                log.warning("lease lost: %s writes nothing until it has it again", self._identity)
            await asyncio.sleep(self._renew_every if self._leading else self._renew_every / 2)

    async def release(self) -> None:
        """Give the Lease back, so that the next one need not wait for the end of its term."""
        if not self._leading:
            return
        self._leading = False
        try:
            lease = await self._cluster.get(self._ref)
            if lease["spec"].get("holderIdentity") == self._identity:
                await self._cluster.replace(self._ref, _with(lease, holderIdentity="", leaseDurationSeconds=1))
        except ClusterError as error:
            log.warning("lease not given back: %s", error.message)

    async def step(self) -> None:
        """Look at the Lease once, and take or renew it if that is due. Raises ClusterError."""
        started = self._clock()
        try:
            lease = await self._cluster.get(self._ref)
        except NotFound:
            lease = await self._cluster.create(self._ref, self._new_lease())
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        record = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._seen:
            # From the moment after the call: what it shows may have been written while it was under way.
            self._seen, self._seen_at = record, self._clock()
        mine = holder == self._identity
        if not mine and holder and started < self._seen_at + self._term:
            self._leading = False
            return
        changes = spec.get("leaseTransitions") or 0
        taken = _with(
            lease,
            holderIdentity=self._identity,
            leaseDurationSeconds=max(1, round(self._term)),
            renewTime=_now(),
            **({} if mine else {"acquireTime": _now(), "leaseTransitions": changes + 1}),
        )
        try:
            await self._cluster.replace(self._ref, taken)
        except Conflict:  # another candidate was first, or the Lease was edited: look again
            return
        lapsed = not self._in_term()
        # From the moment before the call: the others count from after they have seen it.
        self._renewed, self._leading = started, True
        if lapsed:  # also after a renewal that came too late: what was refused meanwhile must be looked at again
            log.info("lease taken by %s", self._identity)
            self._on_gain()

    def _new_lease(self) -> dict[str, Any]:
        metadata = {
            "name": self._ref.name,
            "namespace": self._ref.namespace,
            "labels": {"app.kubernetes.io/name": "chatbot-operator"},
            "annotations": dict(self._annotations),
        }
        return {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": {}}


def _with(lease: RawObject, **changes: Any) -> dict[str, Any]:
    return {**lease, "spec": {**(lease.get("spec") or {}), **changes}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
