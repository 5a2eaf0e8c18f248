"""Lists every kind: once before the first reconcile, then again and again, to repair what a watch has missed."""

import asyncio
import logging
from collections.abc import Callable, Container

from chatbot_operator.cluster import Cluster, ClusterError, NotFound
from chatbot_operator.kinds import CHATBOT, OPTIONAL_KINDS, WATCHED_KINDS, Key, Kind
from chatbot_operator.names import SELECTOR
from chatbot_operator.queue import Queue
from chatbot_operator.settings import Settings
from chatbot_operator.store import Store

log = logging.getLogger(__name__)

SECOND_LIST_SECONDS = 5.0
"""From the first full list to the second: what was deleted after the first and before the watches had begun, no watch
tells."""

FIRST_RETRY_SECONDS = 1.0
"""Pause after a list that failed; it doubles up to the time between two full lists."""


class KindAppeared(Exception):
    """The cluster has an optional kind now that it lacked: what watches has to be started anew to see it."""


class Sync:
    """`ready` is set once every kind was listed: nothing may be decided about a half-seen world.

    `absent` are the optional kinds that the cluster lacks; known once it is ready.
    """

    def __init__(
        self,
        store: Store,
        queue: Queue,
        cluster: Cluster,
        settings: Settings,
        *,
        settled: Container[Key],
        clock: Callable[[], float],
        took: Callable[[float], None],
    ) -> None:
        self._store, self._queue, self._cluster, self._settings = store, queue, cluster, settings
        self._settled, self._clock, self._took = settled, clock, took
        self.ready = asyncio.Event()
        self.absent: set[Kind] = set()
        self.finished_at: float | None = None

    async def run(self) -> None:
        """List for ever. Raises KindAppeared."""
        retry, between = FIRST_RETRY_SECONDS, min(SECOND_LIST_SECONDS, self._settings.resync_seconds)
        while True:
            started = self._clock()
            missing = await self._everything()
            if not missing:
                retry = FIRST_RETRY_SECONDS
                self.finished_at = self._clock()
                self._took(self.finished_at - started)
                if not self.ready.is_set():
                    log.info("every kind is listed")
                    self.ready.set()
                self._add_unsettled()
            if missing:
                await asyncio.sleep(retry)
                retry = min(2 * retry, max(FIRST_RETRY_SECONDS, self._settings.resync_seconds))
            else:
                await asyncio.sleep(between)
                between = self._settings.resync_seconds

    def add_all(self) -> None:
        """It is every Chatbot's turn."""
        for key in self._store.known():
            self._queue.add(key)

    def _add_unsettled(self) -> None:
        """Whatever was lost on the way, a Chatbot that is not well gets its turn with every full list."""
        for key in self._store.known():
            if key not in self._settled:
                self._queue.add(key)

    async def _everything(self) -> list[Kind]:
        missing, changed = [], set[Key]()
        for kind in WATCHED_KINDS:
            try:
                changed |= await self._list(kind)
                if kind in self.absent:
                    raise KindAppeared(f"the cluster has {kind.plural} now")
            except NotFound as error:
                if kind not in OPTIONAL_KINDS:
                    log.warning("list of %s: %s: %s", kind.plural, type(error).__name__, error.message)
                    missing.append(kind)
                elif kind not in self.absent:
                    log.info("the cluster has no %s: %s", kind.plural, error.message)
                    self.absent.add(kind)
            except ClusterError as error:
                log.warning("list of %s: %s: %s", kind.plural, type(error).__name__, error.message)
                missing.append(kind)
        # Only now: after an outage nothing is to be said of a world of which one half is new and the other old.
        if self.ready.is_set():
            for key in changed:
                self._queue.add(key)
        return missing

    async def _list(self, kind: Kind) -> set[Key]:
        changed: set[Key] = set()
        selector = "" if kind == CHATBOT else SELECTOR
        for namespace in self._settings.watch_namespaces or (None,):
            with self._store.listing() as touched:
                listing = await self._cluster.list(kind, namespace, selector)
                changed |= self._store.replace(
                    kind, listing.items, listing.resource_version, touched, namespace=namespace
                )
        return changed
