"""The cluster as the core sees it: one protocol and one tree of errors. It must not know any client.

ClusterError
├── Conflict       409: someone wrote meanwhile, or a precondition does not hold
├── NotFound       404
├── Forbidden      403: a right is missing, a quota is used up or a policy refuses
├── Terminating    403: the namespace is going away; final
├── Invalid        400, 422: the server will refuse the same again
├── Throttled      429: try again after `retry_after` seconds
└── Transient      500 and above, time-outs, broken connections and answers
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chatbot_operator.kinds import Kind, RawObject, Ref


class ClusterError(Exception):
    """Any failure of a call. `message` is the server's own and fit for a condition."""

    def __init__(self, message: str, *, verb: str = "", resource: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.verb = verb
        self.resource = resource


class Conflict(ClusterError):
    """Someone else wrote the object meanwhile, or it is not the one that was meant."""


class NotFound(ClusterError):
    """There is no such object, or no such kind."""


class Forbidden(ClusterError):
    """A right is missing, a quota is used up or an admission policy refuses."""


class Terminating(ClusterError):
    """The namespace is being deleted: nothing can be made in it any more."""


class Invalid(ClusterError):
    """The server refuses the object as it is."""


class Throttled(ClusterError):
    """The server asks for a pause of `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float, verb: str = "", resource: str = "") -> None:
        super().__init__(message, verb=verb, resource=resource)
        self.retry_after = retry_after


class Transient(ClusterError):
    """Trouble of the infrastructure: the same call may work later."""


@dataclass(frozen=True)
class Listing:
    """All objects of one kind at one moment, named by its resource version."""

    items: Sequence[RawObject]
    resource_version: str


class Cluster(Protocol):
    """What the operator asks of a Kubernetes API server. Every call raises a ClusterError when it fails."""

    async def list(self, kind: Kind, namespace: str | None, selector: str = "") -> Listing:
        """All objects of a kind; `namespace` None: in all namespaces."""

    async def get(self, ref: Ref) -> RawObject:
        """One object by name."""

    async def create(self, ref: Ref, body: Mapping[str, Any]) -> RawObject:
        """Make a new object."""

    async def replace(self, ref: Ref, body: Mapping[str, Any]) -> RawObject:
        """Put a whole object; with its resourceVersion as precondition."""

    async def apply(self, ref: Ref, body: Mapping[str, Any], *, new: bool = False) -> RawObject:
        """Server-side apply under the operator's manager, taking over fields of others.

        With `new` it makes the object or raises Conflict: one that exists is not touched.
        """

    async def merge(self, ref: Ref, body: Mapping[str, Any]) -> RawObject:
        """JSON merge patch of an object."""

    async def put_status(self, ref: Ref, status: Mapping[str, Any], *, uid: str) -> RawObject:
        """Set the whole status of exactly that object: raises Conflict where another one has its name by now."""

    async def scale(self, ref: Ref, replicas: int) -> None:
        """Set the count of replicas through the scale subresource."""

    async def delete(self, ref: Ref, *, uid: str, resource_version: str | None = None) -> None:
        """Delete exactly that object; its dependents follow in the background. One that is gone is no error."""

    async def events_about(self, namespace: str, uid: str) -> Sequence[RawObject]:
        """The Events whose subject has this uid, oldest first."""
