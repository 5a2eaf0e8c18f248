"""What the cluster says in Events about children that stay sick. It must not know what follows from it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from chatbot_operator.cluster import Cluster, ClusterError
from chatbot_operator.observed import Observed

log = logging.getLogger(__name__)

LOOKED_AT_ONCE = 3
"""Sick children whose Events are read in one look."""


@dataclass
class Complaints:
    """Of one Chatbot's children. `by_uid`: the newest warning about each, as of the last look."""

    by_uid: Mapping[str, str] = field(default_factory=dict)
    looked_at: float | None = None

    async def look_into(
        self, observed: Observed, cluster: Cluster, *, settled: bool, now: float, look_seconds: float
    ) -> bool:
        """Read the Events of what has not been well for a while: some trouble is said nowhere else. Whether they
        say anything new."""
        if settled:
            self.looked_at, self.by_uid = None, {}
            return False
        if self.looked_at is None:
            self.looked_at = now
        if now - self.looked_at < look_seconds:
            return False
        self.looked_at = now
        pods = (*observed.fetching_pods(), *observed.current_pods(), *observed.web.current_pods())
        sick = [(c.ref, c.uid) for c in observed.claims if not c.bound]
        sick += [(p.ref, p.uid) for p in pods if not p.ready]
        found = {}
        for ref, uid in sick[:LOOKED_AT_ONCE]:
            try:
                events = await cluster.events_about(ref.namespace, uid)
            except ClusterError as error:
                log.info("events of %s: %s", ref, error.message)
                continue
            warnings = [f"{e.get('reason', '')}: {e.get('note', '')}" for e in events if e.get("type") == "Warning"]
            if warnings:
                found[uid] = warnings[-1]
        changed = found != self.by_uid
        self.by_uid = found
        return changed
