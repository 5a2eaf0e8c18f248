"""The logs of all pods of a Chatbot as one: old lines in the order of their time, new ones as they come."""

import heapq
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from chatbot_operator.cluster import ClusterError, NotFound
from chatbot_operator.kinds import POD, RawObject
from chatbot_operator.names import CHATBOT_LABEL
from kubectl_chatbot import pods
from kubectl_chatbot.client import Client

LOOK_SECONDS = 2.0
"""Between two looks for new pods."""


@dataclass(frozen=True)
class Line:
    """One line of one container, with the time at which its node took it."""

    at: str
    pod: str
    container: str
    text: str


@dataclass(frozen=True)
class Wish:
    """Which lines."""

    component: str = ""
    container: str = ""
    tail: int = -1
    since_seconds: int | None = None
    previous: bool = False

    def query(self, container: str, *, follow: bool = False) -> dict[str, str]:
        """The parameters of the API's call for one container."""
        asked = {"container": container, "timestamps": "true"} | ({"follow": "true"} if follow else {})
        if self.tail >= 0:
            asked["tailLines"] = str(self.tail)
        if self.since_seconds is not None:
            asked["sinceSeconds"] = str(self.since_seconds)
        return asked | ({"previous": "true"} if self.previous else {})


def sources(client: Client, namespace: str, chatbot: str, wish: Wish) -> list[tuple[str, str]]:
    """Every (pod, container) that has a log now."""
    selector = {"labelSelector": f"{CHATBOT_LABEL}={chatbot}"}
    found: Iterable[RawObject] = client.list(POD, namespace, selector)
    chosen = [p for p in found if wish.component in ("", pods.component(p))]
    return [(p["metadata"]["name"], c) for p in chosen for c in pods.started(p, only=wish.container)]


def line_of(pod: str, container: str, text: str) -> Line:
    """A line as the API gives it with `timestamps`."""
    at, space, rest = text.partition(" ")
    return Line(at, pod, container, rest) if space else Line("", pod, container, text)


def merged(client: Client, namespace: str, found: Iterable[tuple[str, str]], wish: Wish) -> Iterator[Line]:
    """All there is now, by time. Lines of one container stay in their order."""

    def read(pod: str, container: str) -> Iterator[Line]:
        at = ""
        try:
            for text in client.lines(namespace, pod, wish.query(container)):
                line = line_of(pod, container, text)
                at = max(at, line.at)
                yield Line(at, pod, container, line.text)
        except NotFound:
            return  # the pod has gone meanwhile

    return heapq.merge(*(read(*one) for one in found), key=lambda line: line.at)


class Following:
    """Lines as they come, of pods that come too. Threads read; whoever iterates gets the lines."""

    def __init__(self, client: Client, namespace: str, wish: Wish, look: Callable[[], list[tuple[str, str]]]) -> None:
        self._client, self._namespace, self._wish, self._look = client, namespace, wish, look
        self._lines: queue.Queue[Line] = queue.Queue()
        self._known: set[tuple[str, str]] = set()
        self._ended: queue.Queue[tuple[str, str]] = queue.Queue()

    def __iter__(self) -> Iterator[Line | None]:
        """None after every look in which nothing came, so that the caller gets a turn."""
        while True:
            while not self._ended.empty():
                self._known.discard(self._ended.get())
            for one in self._look():
                if one not in self._known:
                    self._known.add(one)
                    threading.Thread(target=self._read, args=one, daemon=True).start()
            yield from self._burst()

    def _burst(self) -> Iterator[Line | None]:
        try:
            yield self._lines.get(timeout=LOOK_SECONDS)
            while True:
                yield self._lines.get_nowait()
        except queue.Empty:
            yield None

    def _read(self, pod: str, container: str) -> None:
        try:
            for text in self._client.lines(self._namespace, pod, self._wish.query(container, follow=True)):
                self._lines.put(line_of(pod, container, text))
        except ClusterError:
            return
