"""Whether another install of the operator has some of our namespaces already. It must not know what is written there.

Each install has one Lease, which its chart makes and takes away, and on it an annotation with the namespaces that it
serves. Of two that overlap the one whose Lease is older serves; the other writes nothing and says so.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chatbot_operator.cluster import Cluster, ClusterError, Forbidden
from chatbot_operator.kinds import LEASE, RawObject, Ref

log = logging.getLogger(__name__)

SELECTOR = "app.kubernetes.io/name=chatbot-operator"
WATCHES = "chatbot-operator.dev/watch-namespaces"
"""Annotation of a Lease: the namespaces that its install serves, separated by commas; `*` is all of them."""

_REMIND_SECONDS = 60.0


@dataclass(frozen=True)
class Install:
    """One install: its Lease, since when it exists, and the namespaces that it serves; none named: all of them."""

    namespace: str
    lease: str
    created: str
    watches: frozenset[str]

    def shares(self, other: "Install") -> str:
        """The namespaces that both serve, for people; empty if there are none."""
        if not self.watches and not other.watches:
            return "every namespace"
        common = self.watches & other.watches if self.watches and other.watches else self.watches | other.watches
        return ", ".join(sorted(common))


def annotation(watches: Iterable[str]) -> str:
    """The value of WATCHES."""
    return ",".join(watches) or "*"


def install_of(lease: RawObject) -> Install | None:
    """What a Lease says; nothing if it is of a version that did not say it yet."""
    metadata = lease["metadata"]
    value = metadata.get("annotations", {}).get(WATCHES)
    if value is None:
        return None
    named = frozenset(filter(None, (name.strip() for name in value.split(",")))) - {"*"}
    return Install(metadata["namespace"], metadata["name"], metadata["creationTimestamp"], named)


def first_in_the_way(mine: Install, others: Iterable[Install]) -> Install | None:
    """The oldest other install that came before and serves some of the same namespaces."""

    def age(install: Install) -> tuple[str, str, str]:
        return install.created, install.namespace, install.lease

    before = (other for other in others if age(other) < age(mine) and mine.shares(other))
    return min(before, key=age, default=None)


class Installs:
    """Looks at all of them again and again. `on_free` is called when nothing is in the way any more."""

    def __init__(
        self,
        cluster: Cluster,
        ref: Ref,
        watches: Iterable[str],
        *,
        every: float,
        clock: Callable[[], float],
        on_free: Callable[[], None],
    ) -> None:
        self._cluster, self._ref, self._watches = cluster, ref, frozenset(watches)
        self._every, self._clock, self._on_free = every, clock, on_free
        self.known = False
        """Whether the others were looked at yet."""
        self._reminded = float("-inf")
        self.refusal = ""
        """Why this install serves nothing; empty if it may."""

    def free(self) -> bool:
        """Whether the namespaces are known to be ours."""
        return self.known and not self.refusal

    async def run(self) -> None:
        """Look for ever. What cannot be listed for a while stays as it was known."""
        while True:
            try:
                await self.look()
            except ClusterError as error:
                log.warning("list of leases: %s: %s", type(error).__name__, error.message)
            await asyncio.sleep(self._every if self.known else 1)

    async def look(self) -> None:
        """Look once. Raises ClusterError."""
        try:
            listing = await self._cluster.list(LEASE, None, SELECTOR)
        except Forbidden as error:
            if not self.known:
                log.warning(
                    "other installs cannot be seen, overlapping watchNamespaces go unnoticed: %s", error.message
                )
            self._decide("")
            return
        own = next((i for i in listing.items if _is(i, self._ref)), None)
        if own is None:
            return  # it is made by whoever wants to hold it
        mine = Install(self._ref.namespace, self._ref.name, own["metadata"]["creationTimestamp"], self._watches)
        others = filter(None, (install_of(i) for i in listing.items if not _is(i, self._ref)))
        first = first_in_the_way(mine, others)
        self._decide(_refusal(mine, first) if first else "")

    def _decide(self, refusal: str) -> None:
        was_free, was = self.free(), self.refusal
        self.known, self.refusal = True, refusal
        if refusal and (refusal != was or self._clock() >= self._reminded + _REMIND_SECONDS):
            self._reminded = self._clock()
            log.error("refused: %s", refusal)
        if self.free() and not was_free:
            if was:
                log.info("the other install is out of the way: this one serves")
            self._on_free()


def _is(lease: RawObject, ref: Ref) -> bool:
    return (lease["metadata"]["namespace"], lease["metadata"]["name"]) == (ref.namespace, ref.name)


def _refusal(mine: Install, first: Install) -> str:
    return (
        f"the install with Lease {first.namespace}/{first.lease} serves {mine.shares(first)} already, so this one "
        "serves nothing. Give the two different namespaces by the chart's value watchNamespaces, or uninstall one."
    )
