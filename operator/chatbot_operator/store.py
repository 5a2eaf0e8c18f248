"""What the operator knows of the cluster: trimmed copies of objects by the Chatbot that they belong to.

Fed by watch events, resync lists and the answers to our own writes. It must not call the cluster or decide anything.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from chatbot_operator.kinds import CHATBOT, POD, Key, Kind, RawObject, Ref, kind_of, ref_of
from chatbot_operator.names import CHATBOT_LABEL

_POD_SPEC = ("nodeName", "containers", "initContainers")
_CONTAINER = ("name", "image", "restartPolicy")


def trim(obj: RawObject) -> RawObject:
    """The object without what nobody here reads: most of its size in memory."""
    metadata = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    trimmed: dict[str, Any] = {**obj, "metadata": metadata}
    if kind_of(obj) == POD:
        spec = {k: v for k, v in obj.get("spec", {}).items() if k in _POD_SPEC}
        for containers in ("containers", "initContainers"):
            if containers in spec:
                spec[containers] = [{k: c[k] for k in _CONTAINER if k in c} for c in spec[containers]]
        trimmed["spec"] = spec
    return trimmed


def owner_key(obj: RawObject) -> Key | None:
    """Whose object this is by its label: only a hint for the store; who may write it is decided by owner reference."""
    metadata = obj["metadata"]
    if kind_of(obj) == CHATBOT:
        return Key(metadata["namespace"], metadata["name"])
    name = metadata.get("labels", {}).get(CHATBOT_LABEL)
    return Key(metadata["namespace"], name) if name else None


def _version(obj: RawObject) -> int:
    """Resource versions are ordered integers (Kubernetes API conventions, "comparable resource versions")."""
    text = obj["metadata"].get("resourceVersion", "")
    return int(text) if text.isdigit() else 0


@dataclass(frozen=True)
class Snapshot:
    """All that is known of one Chatbot at one moment."""

    key: Key
    chatbot: RawObject | None
    children: Mapping[Ref, RawObject]
    strangers: Mapping[Ref, RawObject]
    """Objects that have the name of a child and are somebody else's."""


@dataclass
class _Entry:
    chatbot: RawObject | None = None
    children: dict[Ref, RawObject] = field(default_factory=dict)
    strangers: dict[Ref, RawObject] = field(default_factory=dict)
    version: int = 0

    def empty(self) -> bool:
        return self.chatbot is None and not self.children and not self.strangers


class Store:
    """Every method that changes something returns the key whose turn it is, or None when nothing changed."""

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}
        self._owners: dict[Ref, Key] = {}
        self._listing: list[set[Ref]] = []
        self._versions = count(1)

    def known(self) -> Iterable[Key]:
        """Every Chatbot of which anything is there."""
        return tuple(self._entries)

    def chatbots(self) -> Iterable[RawObject]:
        return [e.chatbot for e in self._entries.values() if e.chatbot is not None]

    def version(self, key: Key) -> int:
        """Another number whenever the children of a Chatbot have changed; 0 while there is nothing of it."""
        entry = self._entries.get(key)
        return entry.version if entry else 0

    def snapshot(self, key: Key) -> Snapshot:
        entry = self._entries.get(key) or _Entry()
        return Snapshot(key, entry.chatbot, dict(entry.children), dict(entry.strangers))

    def put(self, obj: RawObject) -> Key | None:
        """Take a new state of an object. Ignored when it is not newer than the one that is known.

        One whose label names another Chatbot now is the turn of the one that has lost it.
        """
        ref, key = ref_of(obj), owner_key(obj)
        self._touch(ref)
        if key is None:
            return self.remove(obj)
        old = self._get(ref)
        if (
            old is not None
            and old["metadata"].get("uid") == obj["metadata"].get("uid")
            and _version(obj) <= _version(old)
        ):
            return None
        previous = self._owners.get(ref)
        if previous is not None and previous != key:
            self._drop(ref)
        self._owners[ref] = key
        entry = self._entries.setdefault(key, _Entry())
        if ref.kind == CHATBOT:
            entry.chatbot = trim(obj)
        else:
            self._take(entry, ref, trim(obj))
        return key if previous is None else previous

    def remove(self, obj: RawObject) -> Key | None:
        """The object is gone. Ignored when another object has taken its name meanwhile."""
        ref = ref_of(obj)
        self._touch(ref)
        old = self._get(ref)
        if old is None or old["metadata"].get("uid") != obj["metadata"].get("uid"):
            return None
        return self._drop(ref)

    def put_child(self, key: Key, obj: RawObject) -> None:
        """Take a child that our watch does not show: one that has lost the label by which it is filtered."""
        ref = ref_of(obj)
        self._owners[ref] = key
        self._take(self._entries.setdefault(key, _Entry()), ref, trim(obj))

    def assume_replicas(self, key: Key, ref: Ref, replicas: int) -> None:
        """Note a count of pods that was just set; the watch brings the object itself."""
        entry = self._entries.get(key)
        obj = entry.children.get(ref) if entry else None
        if entry is not None and obj is not None:
            self._take(entry, ref, {**obj, "spec": {**obj["spec"], "replicas": replicas}})

    def put_stranger(self, key: Key, obj: RawObject) -> None:
        """Note that a child's name is taken by somebody else's object."""
        self._entries.setdefault(key, _Entry()).strangers[ref_of(obj)] = trim(obj)

    def forget_stranger(self, key: Key, ref: Ref) -> None:
        """That name is free again."""
        if key in self._entries:
            self._entries[key].strangers.pop(ref, None)

    @contextmanager
    def listing(self) -> Iterator[set[Ref]]:
        """Collects what is touched while a LIST runs: a LIST is older than the events that come meanwhile."""
        touched: set[Ref] = set()
        self._listing.append(touched)
        try:
            yield touched
        finally:
            # By identity: two lists that saw the same objects are equal sets.
            self._listing = [other for other in self._listing if other is not touched]

    def replace(
        self,
        kind: Kind,
        items: Iterable[RawObject],
        resource_version: str,
        touched: set[Ref],
        *,
        namespace: str | None = None,
    ) -> set[Key]:
        """Take a LIST of one kind as the truth, except for what was touched or written after it began.

        Returns the keys of what has changed. `namespace`: the LIST was of that one alone.
        """
        listed_at = int(resource_version) if resource_version.isdigit() else 0
        fresh = frozenset(touched)
        seen: set[Ref] = set()
        changed: set[Key] = set()
        for item in items:
            ref = ref_of(item)
            seen.add(ref)
            if ref not in fresh and (key := self.put(item)):
                changed.add(key)
        known = [r for r in self._owners if r.kind == kind and namespace in (None, r.namespace)]
        for ref in [r for r in known if r not in seen and r not in fresh]:
            old = self._get(ref)
            if old is not None and _version(old) <= listed_at and (key := self._drop(ref)):
                changed.add(key)
        return changed

    def _take(self, entry: _Entry, ref: Ref, obj: RawObject) -> None:
        entry.children[ref] = obj
        entry.strangers.pop(ref, None)
        entry.version = next(self._versions)

    def _touch(self, ref: Ref) -> None:
        for touched in self._listing:
            touched.add(ref)

    def _get(self, ref: Ref) -> RawObject | None:
        key = self._owners.get(ref)
        if key is None:
            return None
        entry = self._entries[key]
        return entry.chatbot if ref.kind == CHATBOT else entry.children.get(ref)

    def _drop(self, ref: Ref) -> Key | None:
        key = self._owners.pop(ref, None)
        if key is None:
            return None
        entry = self._entries[key]
        if ref.kind == CHATBOT:
            entry.chatbot = None
        else:
            entry.children.pop(ref, None)
            entry.version = next(self._versions)
        if entry.empty():
            del self._entries[key]
        return key
