"""What a plan consists of: each thing that may be done to the cluster, as data. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatbot_operator.kinds import Ref, ref_of
from chatbot_operator.observed import Observed


@dataclass(frozen=True)
class Apply:
    """Make sure that an object is like this. Whoever carries it out skips it when it is so already."""

    body: Mapping[str, Any]
    own_making: bool = False
    """A rollout that only the operator's version or settings caused: those are paced."""

    @property
    def ref(self) -> Ref:
        return ref_of(self.body)


@dataclass(frozen=True)
class Scale:
    """Set the count of pods."""

    ref: Ref
    replicas: int


@dataclass(frozen=True)
class Delete:
    """Delete exactly the object that was looked at."""

    ref: Ref
    uid: str
    resource_version: str


@dataclass(frozen=True)
class Annotate:
    """Merge annotations into a pod."""

    ref: Ref
    annotations: Mapping[str, str]


Action = Apply | Scale | Delete | Annotate


def delete(observed: Observed, ref: Ref) -> Delete:
    """Delete the child as it was looked at."""
    metadata = observed.children[ref]["metadata"]
    return Delete(ref, metadata["uid"], metadata["resourceVersion"])
