"""Posts Events about Chatbots, the same ones together as a series. It must not decide what is worth one."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.cluster import Cluster, ClusterError, NotFound
from chatbot_operator.kinds import CHATBOT, EVENT, Key, Ref
from chatbot_operator.messages import Message

log = logging.getLogger(__name__)

SERIES_SECONDS = 600
"""The same text within this time is the same series, as client-go's event broadcaster counts it."""

PER_MINUTE = 10
"""Most writes of Events about one Chatbot in a minute."""


@dataclass
class _Series:
    ref: Ref
    count: int
    last: float


class Recorder:
    """Best effort: an Event that cannot be posted is logged and forgotten."""

    def __init__(self, cluster: Cluster, identity: str, *, clock: Callable[[], float]) -> None:
        self._cluster, self._identity, self._clock = cluster, identity, clock
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._recent: dict[Key, deque[float]] = {}

    async def post(self, chatbot: Chatbot, message: Message) -> None:
        """Post one Event, or raise the count of its series."""
        metadata = chatbot.metadata
        key, now = Key(metadata.namespace, metadata.name), self._clock()
        log.info("%s: %s", message.reason, message.note, extra={"chatbot": str(key)})
        if not self._allowed(key, now):
            return
        self._series = {k: s for k, s in self._series.items() if now - s.last < SERIES_SECONDS}
        what = (metadata.uid, message.reason.value, message.note)
        known = self._series.get(what)
        try:
            if known is None:
                self._series[what] = _Series(await self._create(chatbot, message), 1, now)
            else:
                known.count, known.last = known.count + 1, now
                series = {"series": {"count": known.count, "lastObservedTime": _now()}}
                await self._cluster.merge(known.ref, series)
        except NotFound:  # the Event has expired meanwhile
            self._series.pop(what, None)
        except ClusterError as error:
            log.warning("event not posted: %s", error.message, extra={"chatbot": str(key)})

    def forget(self, key: Key) -> None:
        """The Chatbot is gone."""
        self._recent.pop(key, None)

    def _allowed(self, key: Key, now: float) -> bool:
        recent = self._recent.setdefault(key, deque())
        while recent and now - recent[0] >= 60:
            recent.popleft()
        if len(recent) >= PER_MINUTE:
            return False
        recent.append(now)
        return True

    async def _create(self, chatbot: Chatbot, message: Message) -> Ref:
        metadata, at = chatbot.metadata, _now()
        unique = names.short_hash([metadata.uid, message.reason.value, message.note, at, self._identity])
        ref = Ref(EVENT, metadata.namespace, f"{metadata.name}.{unique}")
        regarding = {
            "apiVersion": CHATBOT.api_version,
            "kind": CHATBOT.name,
            "namespace": metadata.namespace,
            "name": metadata.name,
            "uid": metadata.uid,
        }
        body = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {"namespace": metadata.namespace, "name": ref.name},
            "regarding": regarding,
            "eventTime": at,
            "reason": message.reason.value,
            "note": message.note[:1000],
            "type": message.reason.severity,
            "action": "Reconcile",
            "reportingController": "chatbot-operator.dev/operator",
            "reportingInstance": self._identity[:128],
        }
        await self._cluster.create(ref, body)
        return ref


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
