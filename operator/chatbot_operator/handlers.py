"""The event shell: Kopf watches and each handler puts what it saw into the store and says whose turn it is.

Nothing may fail or decide in here: Kopf swallows a handler's errors.
"""

import os
from collections.abc import Awaitable, Callable, Container
from typing import Any

import kopf

from chatbot_operator.kinds import BY_API, CHATBOT, CHILD_KINDS, LEASE, WATCHED_KINDS, Kind, RawObject, kind_of
from chatbot_operator.names import SELECTOR
from chatbot_operator.queue import Queue
from chatbot_operator.store import Store

LEASE_SELECTOR = "app.kubernetes.io/name=chatbot-operator"
ERROR_BACKOFFS = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 60, 60, 60, 60, 60, 60)
"""Seconds between Kopf's tries of one call: an outage of ten minutes must not end the process."""


def registry(
    store: Store,
    queue: Queue,
    *,
    serves: Callable[[str], bool],
    lease_seen: Callable[[], None],
    absent: Container[Kind] = (),
) -> kopf.OperatorRegistry:
    """All handlers. `serves` tells whether a namespace is ours; `lease_seen` proves that events arrive; `absent` are
    the kinds that the cluster does not have."""
    handlers = kopf.OperatorRegistry()

    async def on_event(event: Any, **_: Any) -> None:
        obj: RawObject = event["object"]
        if (obj.get("apiVersion", ""), obj.get("kind", "")) not in BY_API or not serves(obj["metadata"]["namespace"]):
            return
        key = store.remove(obj) if event["type"] == "DELETED" else store.put(obj)
        if key is None:
            return
        if kind_of(obj) == CHATBOT:
            queue.add(key, urgent=True)
        else:
            queue.add_soon(key)

    async def on_lease(**_: Any) -> None:
        lease_seen()

    for kind in watched(absent):
        kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers)(on_event)
    kopf.on.event(LEASE.group, LEASE.version, LEASE.plural, registry=handlers)(on_lease)
    kopf.on.startup(registry=handlers)(configure)
    kopf.on.login(registry=handlers)(login)
    return handlers


def watched(absent: Container[Kind]) -> tuple[Kind, ...]:
    """The kinds whose every change is told, but for those that the cluster does not have."""
    return tuple(kind for kind in WATCHED_KINDS if kind not in absent)


class _NoDiffs(kopf.DiffBaseStorage):
    """Nothing is compared with what was seen before: Kopf's own copies every object several times for each event,
    also where no handler asks for differences, which costs more CPU than all of ours."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        pass


async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Watch and nothing else: no peering, no scanning for kinds, no posted logs, filters on the server."""
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.peering.standalone = True
    settings.networking.error_backoffs = ERROR_BACKOFFS
    settings.networking.enforce_retry_after = True
    for kind in CHILD_KINDS:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = SELECTOR
    settings.watching.label_selectors[LEASE.group, LEASE.version, LEASE.plural] = LEASE_SELECTOR


def login(**kwargs: Any) -> Any:
    """The same credentials as `kube.connect`."""
    if "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG"):
        return kopf.login_with_service_account(**kwargs)
    return kopf.login_with_kubeconfig(**kwargs)


Watcher = Callable[[], Awaitable[None]]


def watcher(handlers: kopf.OperatorRegistry, namespaces: tuple[str, ...]) -> Watcher:
    """A coroutine function that watches until it is told to stop; namespaces empty: all of them."""

    async def watch() -> None:
        await kopf.operator(
            registry=handlers,
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )

    return watch
