"""Asks pods for their state: every pod of a Chatbot that is not settled, now and then one that is.

A pod that says the same again is asked less often, until something happens to it. A result enters like an event: it
makes it the Chatbot's turn. It must not know what a report means.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from chatbot_operator.kinds import Key
from chatbot_operator.observe import backend_pods, downloader_pods
from chatbot_operator.observed import Pod
from chatbot_operator.pods import PodClient
from chatbot_operator.queue import Queue
from chatbot_operator.reports import PodReport, parse, parse_download
from chatbot_operator.settings import Settings
from chatbot_operator.store import Store

log = logging.getLogger(__name__)

AT_ONCE = 32
LONGEST_PAUSE = 3
"""A pod that says the same again is asked so many times less often at most: it may change without any event."""

TICK_SECONDS = 0.25
"""How soon a pod that has just become ready is asked."""


@dataclass(frozen=True)
class _Asked:
    at: float
    state: tuple[bool, str]
    """Whether it was ready, and which settings it had been told of."""
    pause: float
    """Seconds until it is asked again if nothing happens to it."""


class Poller:
    """One task for all pods. `reports` are by `Pod.instance`."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        client: PodClient,
        settings: Settings,
        *,
        settled: Callable[[Key], bool],
        clock: Callable[[], float],
    ) -> None:
        self._store, self._queue, self._client, self._settings = store, queue, client, settings
        self._settled, self._clock = settled, clock
        self._reports: dict[str, PodReport] = {}
        self._asked: dict[str, _Asked] = {}
        self._silent: set[str] = set()
        """Pods that gave no answer the last time: one that has answered before is given a second chance."""
        self._pods: dict[Key, tuple[int, tuple[Pod, ...]]] = {}
        """The pods of a Chatbot that is not settled, and the store's version of it that they are from."""
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._pass_at = float("-inf")

    @property
    def reports(self) -> Mapping[str, PodReport]:
        """What every pod said last."""
        return self._reports

    async def run(self, may_ask: Callable[[], bool]) -> None:
        """Ask for ever, while `may_ask`: a standby leaves the pods alone."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                if may_ask():
                    for key, pod in self._due():
                        tasks.create_task(self._ask(key, pod))
                await asyncio.sleep(TICK_SECONDS)

    def _due(self) -> list[tuple[Key, Pod]]:
        now = self._clock()
        every = now - self._pass_at >= self._settings.poll_settled_seconds
        if every:
            self._pass_at = now
        due, seen = [], set()
        for key in self._store.known():
            settled = self._settled(key)
            if settled and not every:
                continue
            for pod in self._pods_of(key):
                seen.add(pod.instance)
                if self._is_due(pod, now, settled=settled):
                    self._asked[pod.instance] = self._note(pod, now)
                    due.append((key, pod))
        if every:
            self._pods = {k: p for k, p in self._pods.items() if not self._settled(k) and self._store.version(k)}
            self._asked = {i: a for i, a in self._asked.items() if i in seen}
            for instance in self._reports.keys() - seen:
                del self._reports[instance]
            self._silent &= seen
        return due

    def _pods_of(self, key: Key) -> tuple[Pod, ...]:
        version = self._store.version(key)
        known = self._pods.get(key)
        if known is None or known[0] != version:
            snapshot = self._store.snapshot(key)
            known = self._pods[key] = version, (*backend_pods(snapshot), *downloader_pods(snapshot))
        return known[1]

    def _is_due(self, pod: Pod, now: float, *, settled: bool) -> bool:
        if not pod.ip or pod.deleting:
            return False
        if settled:
            return pod.ready and pod.phase in ("hf", "local")
        last = self._asked.get(pod.instance)
        return last is None or last.state != (pod.ready, pod.nudge) or now - last.at >= last.pause

    def _note(self, pod: Pod, now: float) -> _Asked:
        last, state = self._asked.get(pod.instance), (pod.ready, pod.nudge)
        if not pod.phase:  # a downloader: it says something new each time
            return _Asked(now, state, self._settings.poll_unsettled_seconds / 2)
        if last is None or last.state != state:
            return _Asked(now, state, self._settings.poll_unsettled_seconds)
        return _Asked(now, state, min(last.pause * 2, self._settings.poll_unsettled_seconds * LONGEST_PAUSE))

    def _is_first_silence(self, instance: str, report: PodReport) -> bool:
        """Whether a pod that has answered before gave no answer for the first time: it may only be busy."""
        if report.status is not None or report.download is not None or report.incompatible:
            self._silent.discard(instance)
            return False
        known, before = self._reports.get(instance), instance in self._silent
        self._silent.add(instance)
        return known is not None and known.status is not None and not before

    async def _ask(self, key: Key, pod: Pod) -> None:
        async with self._gate:
            read = parse if pod.phase else parse_download
            report = await self._client.ask(ip=pod.ip, namespace=pod.ref.namespace, name=pod.ref.name, read=read)
        if self._is_first_silence(pod.instance, report):
            return
        if self._reports.get(pod.instance) != report:
            self._reports[pod.instance] = report
            if last := self._asked.get(pod.instance):
                self._asked[pod.instance] = replace(last, pause=self._settings.poll_unsettled_seconds)
            self._queue.add_soon(key)
