"""An API server in memory: the calls of `Cluster` on plain objects, with watch streams that may lag.

It knows resource versions, generations, preconditions, server-side apply of one manager and the protection of claims
that pods mount, and nothing of what the objects mean to the operator.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from chatbot_operator.cluster import Conflict, Invalid, Listing, NotFound
from chatbot_operator.kinds import CLAIM, DEPLOYMENT, POD, SERVICE, Kind, RawObject, Ref, kind_of, ref_of
from chatbot_operator.units import quantity

Object = dict[str, Any]
Objects = list[Object]
Call = tuple[str, Ref]
READS = ("get", "list", "events")
_SERVERS_OWN = ("resourceVersion", "uid", "generation", "creationTimestamp")
"""Metadata that no manager owns: an apply that no longer names it does not remove it."""


def clone(value: Any) -> Any:
    """A deep copy of JSON data."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {key: clone(item) for key, item in value.items()}
    return [clone(item) for item in value] if isinstance(value, list | tuple) else value


def merge_into(target: Object, change: Mapping[str, Any]) -> None:
    """A JSON merge patch (RFC 7396) in place."""
    for key, value in change.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, Mapping):
            inner = target.get(key)
            target[key] = inner if isinstance(inner, dict) else {}
            merge_into(target[key], value)
        else:
            target[key] = clone(value)


def _give_up(target: Object, applied: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Remove what this manager applied before and no longer wants."""
    for key, value in applied.items():
        if key not in wanted:
            if key not in _SERVERS_OWN:
                target.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(wanted[key], Mapping) and isinstance(target.get(key), dict):
            _give_up(target[key], value, wanted[key])


def controller_of(obj: RawObject) -> str:
    """The uid of the object's controller; empty if it has none."""
    owners = obj["metadata"].get("ownerReferences", ())
    return next((str(o["uid"]) for o in owners if o.get("controller")), "")


class SimulatedApi:
    """`before` and `after` are told of every call and may raise; `admit` may change what is applied, as a webhook."""

    def __init__(self) -> None:
        self.objects: dict[Ref, Object] = {}
        self.calls: list[Call] = []
        self.streams: dict[Kind, deque[tuple[str, Object]]] = {}
        self.before: Callable[[str, Ref, Any], None] = lambda *_: None
        self.after: Callable[[str, Ref], None] = lambda *_: None
        self.admit: Callable[[Object], None] = lambda _: None
        self.events: list[Object] = []
        self._applied: dict[Ref, RawObject] = {}
        self._version = 100
        self._uids = 0

    # what a person or a controller does -------------------------------------------------------------------------

    def of_kind(self, kind: Kind) -> "Objects":
        """All objects of a kind, by name."""
        # By identity and name: comparing whole references is what a long walk would spend its time on.
        return [self.objects[r] for r in sorted((r for r in self.objects if r.kind is kind), key=lambda r: r.name)]

    def store(self, new: Object) -> Object:
        """Take a new state of an object; the same state again changes nothing."""
        ref = ref_of(new)
        old = self.objects.get(ref)
        if old == new:
            return old
        new = clone(new)
        metadata = new["metadata"]
        if old is None:
            self._uids += 1
            metadata.setdefault("uid", f"uid-{self._uids}")
            metadata["generation"] = 1
            if ref.kind == DEPLOYMENT:
                new["spec"].setdefault("replicas", 1)
            if ref.kind == SERVICE:
                new["spec"].setdefault("clusterIP", f"192.0.2.{len(ref.name)}")
        elif {k: v for k, v in old.items() if k not in ("metadata", "status")} != {
            k: v for k, v in new.items() if k not in ("metadata", "status")
        }:
            metadata["generation"] = old["metadata"]["generation"] + 1
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self.objects[ref] = new
        self._emit("MODIFIED" if old else "ADDED", new)
        return new

    def change(self, ref: Ref, patch: Mapping[str, Any]) -> Object:
        """A merge patch by somebody else than the operator."""
        new: Object = clone(self.objects[ref])
        merge_into(new, patch)
        return self.store(new)

    def drop(self, ref: Ref) -> None:
        """The object is gone."""
        old = self.objects.pop(ref, None)
        self._applied.pop(ref, None)
        if old is not None:
            self._version += 1
            gone = clone(old)
            gone["metadata"]["resourceVersion"] = str(self._version)
            self._emit("DELETED", gone)

    def _emit(self, change: str, obj: Object) -> None:
        self.streams.setdefault(kind_of(obj), deque()).append((change, obj))

    def mounted_claims(self, but: Collection[Ref] = ()) -> Iterator[tuple[str, str]]:
        """Namespace and name of every claim that a pod mounts which has not ended, and is none of `but`."""
        for pod in self.of_kind(POD):
            if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") and ref_of(pod) not in but:
                for volume in pod["spec"].get("volumes", ()):
                    if claim := volume.get("persistentVolumeClaim"):
                        yield pod["metadata"]["namespace"], claim["claimName"]

    # the calls of Cluster ---------------------------------------------------------------------------------------

    async def list(self, kind: Kind, namespace: str | None, selector: str = "") -> Listing:
        self._begin("list", Ref(kind, namespace or "", ""))
        wanted = dict(part.split("=") for part in selector.split(",") if part)
        found = [
            o
            for o in self.of_kind(kind)
            if namespace in (None, o["metadata"]["namespace"])
            and wanted.items() <= o["metadata"].get("labels", {}).items()
        ]
        return Listing(found, str(self._version))

    async def get(self, ref: Ref) -> RawObject:
        self._begin("get", ref)
        return self._existing(ref)

    async def create(self, ref: Ref, body: Mapping[str, Any]) -> RawObject:
        self._begin("create", ref, body)
        if ref in self.objects:
            raise Conflict(f"{ref} already exists")
        return self._end("create", ref, self.store(clone(body)))

    async def replace(self, ref: Ref, body: Mapping[str, Any]) -> RawObject:
        self._begin("replace", ref, body)
        if self._existing(ref)["metadata"]["resourceVersion"] != body["metadata"].get("resourceVersion"):
            raise Conflict(f"{ref} has been modified")
        return self._end("replace", ref, self.store(clone(body)))

    async def apply(self, ref: Ref, body: Mapping[str, Any], *, new: bool = False) -> RawObject:
        self._begin("apply", ref, body)
        old = self.objects.get(ref)
        if new and old:
            raise Conflict(f"{ref} has been modified")
        if "uid" in body["metadata"] and (old is None or old["metadata"]["uid"] != body["metadata"]["uid"]):
            raise Conflict(f"{ref}: uid mismatch")
        result: Object = clone(old) if old else {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": {}}
        if old and ref.kind == CLAIM and _size(body) < _size(old):
            raise Invalid("spec.resources.requests.storage: a volume cannot shrink")
        _give_up(result, self._applied.get(ref, {}), body)
        merge_into(result, body)
        self.admit(result)
        # The uid is a precondition and never a field that a manager owns.
        self._applied[ref] = clone({**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "uid"}})
        return self._end("apply", ref, self.store(result))

    async def merge(self, ref: Ref, body: Mapping[str, Any]) -> RawObject:
        self._begin("merge", ref, body)
        self._existing(ref)
        return self._end("merge", ref, self.change(ref, body))

    async def put_status(self, ref: Ref, status: Mapping[str, Any], *, uid: str) -> RawObject:
        self._begin("put-status", ref, status)
        old = self._existing(ref)
        if old["metadata"]["uid"] != uid:
            raise Conflict(f"{ref}: the uid is another one")
        return self._end("put-status", ref, self.store({**old, "status": clone(status)}))

    async def scale(self, ref: Ref, replicas: int) -> None:
        self._begin("scale", ref, replicas)
        self._existing(ref)
        self._end("scale", ref, self.change(ref, {"spec": {"replicas": replicas}}))

    async def delete(self, ref: Ref, *, uid: str, resource_version: str | None = None) -> None:
        self._begin("delete", ref)
        live = self.objects.get(ref)
        if live is not None:
            if uid != live["metadata"]["uid"] or resource_version not in (None, live["metadata"]["resourceVersion"]):
                raise Conflict(f"{ref}: the precondition does not hold")
            self.delete_by_hand(ref)
        self._end("delete", ref, {})

    async def events_about(self, namespace: str, uid: str) -> Sequence[RawObject]:
        self._begin("events", Ref(POD, namespace, uid))
        return [e for e in self.events if e["regarding"]["uid"] == uid]

    def delete_by_hand(self, ref: Ref) -> None:
        """As `kubectl delete`: a claim stays, going, while a pod mounts it."""
        if ref.kind == CLAIM and (ref.namespace, ref.name) in set(self.mounted_claims()):
            going = {"deletionTimestamp": "2030-01-01T00:00:00Z", "finalizers": ["kubernetes.io/pvc-protection"]}
            self.change(ref, {"metadata": going})
        else:
            self.drop(ref)

    def writes(self) -> Sequence[Call]:
        """The calls so far that change something."""
        return [(verb, ref) for verb, ref in self.calls if verb not in READS]

    def _begin(self, verb: str, ref: Ref, body: Any = None) -> None:
        self.calls.append((verb, ref))
        self.before(verb, ref, body)

    def _end(self, verb: str, ref: Ref, answer: Object) -> Object:
        self.after(verb, ref)
        return answer

    def _existing(self, ref: Ref) -> Object:
        if ref not in self.objects:
            raise NotFound(f"{ref} not found")
        return self.objects[ref]


def _size(claim: RawObject) -> Any:
    return quantity(claim["spec"]["resources"]["requests"]["storage"])
