"""The logs of all pods of a Chatbot as one: old lines in the order of their time, new ones as they come."""

import heapq
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from chatbot_operator.cluster import ClusterError, Invalid, NotFound
from chatbot_operator.kinds import POD
from chatbot_operator.names import CHATBOT_LABEL
from kubectl_chatbot import pods
from kubectl_chatbot.client import Client
from kubectl_chatbot.pods import Source

LOOK_SECONDS = 2.0
"""Between two looks for new pods."""


@dataclass(frozen=True)
class Line:
    """One line of one container, with the time at which its node took it."""

    at: str
    source: Source
    text: str


@dataclass(frozen=True)
class Wish:
    """Which lines."""

    component: str | None = None
    container: str = ""
    tail: int | None = None
    since_seconds: int | None = None
    previous: bool = False

    def query(self, container: str) -> dict[str, str]:
        """The parameters of the API's call for one container."""
        asked = {"container": container, "timestamps": "true"}
        if self.tail is not None:
            asked["tailLines"] = str(self.tail)
        if self.since_seconds is not None:
            asked["sinceSeconds"] = str(self.since_seconds)
        return asked | ({"previous": "true"} if self.previous else {})


def sources(client: Client, namespace: str, chatbot: str, wish: Wish) -> list[Source]:
    """Every container that has a log now."""
    found = client.list(POD, namespace, {"labelSelector": f"{CHATBOT_LABEL}={chatbot}"})
    chosen = [p for p in found if wish.component in (None, pods.component(p))]
    return [source for p in chosen for source in pods.sources(p, only=wish.container)]


def line_of(source: Source, text: str) -> Line:
    """A line as the API gives it with `timestamps`."""
    at, space, rest = text.partition(" ")
    return Line(at, source, rest) if space else Line(text, source, "")


def merged(client: Client, namespace: str, found: Iterable[Source], wish: Wish) -> Iterator[Line]:
    """All there is now, by time. Lines of one container stay in their order."""

    def read(source: Source) -> Iterator[Line]:
        at = ""
        try:
            for text in client.lines(namespace, source.pod, wish.query(source.container)):
                line = line_of(source, text)
                at = max(at, line.at)
                yield Line(at, source, line.text)
        except (NotFound, Invalid):
            return  # the pod has gone meanwhile, or there is no previous container

    return heapq.merge(*map(read, found), key=lambda line: line.at)


class Following:
    """Lines as they come, of pods that come too. Threads read; whoever iterates gets the lines."""

    def __init__(self, client: Client, namespace: str, wish: Wish, look: Callable[[], list[Source]]) -> None:
        self._client, self._namespace, self._wish, self._look = client, namespace, wish, look
        self._lines: queue.Queue[Line] = queue.Queue()
        self._open: set[Source] = set()
        self._last: dict[Source, str] = {}
        """Of each that was ever read, the time of its last line."""

    def __iter__(self) -> Iterator[Line]:
        looked = float("-inf")
        while True:
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                self._start()
            try:
                yield self._lines.get(timeout=max(0.0, looked + LOOK_SECONDS - time.monotonic()))
            except queue.Empty:
                continue

    def _start(self) -> None:
        """Read what is new, and again what still runs and whose connection has ended."""
        for source in self._look():
            if source not in self._open and (source.running or source not in self._last):
                self._open.add(source)
                again = self._last.setdefault(source, "")
                threading.Thread(target=self._read, args=(source, again), daemon=True).start()

    def _read(self, source: Source, after: str) -> None:
        query = self._wish.query(source.container) | {"follow": "true"}
        if after:  # whole seconds: what is not new is left out below
            query = {"container": source.container, "timestamps": "true", "follow": "true", "sinceTime": after}
        try:
            for text in self._client.lines(self._namespace, source.pod, query):
                line = line_of(source, text)
                if line.at > after:
                    self._last[source] = line.at
                    self._lines.put(line)
        except ClusterError:
            return  # the next look tries again
        finally:
            self._open.discard(source)
