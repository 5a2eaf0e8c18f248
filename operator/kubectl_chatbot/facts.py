"""What is known of a cluster and a namespace beside a Chatbot's own objects. It must not know how it came."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chatbot_operator.kinds import RawObject
from kubectl_chatbot.findings import Unknown

SecretKeys = Mapping[str, bool]
"""The keys of a Secret, and whether each holds anything. Its values are nowhere in this program."""


@dataclass(frozen=True)
class Facts:
    """Each is what was read, or why it could not be."""

    version: str | Unknown
    definition: bool | Unknown
    """Whether the API server serves Chatbots."""
    operators: Sequence[RawObject] | Unknown
    """The Deployments of operators, of the whole cluster."""
    storage_classes: Sequence[RawObject] | Unknown
    metrics: bool | Unknown
    """Whether the resource metrics API answers."""
    nodes: Sequence[RawObject] | Unknown
    pods: Sequence[RawObject] | Unknown
    """The pods of the whole cluster."""
    services: Sequence[RawObject] | Unknown
    """The Services of the whole cluster."""
    quotas: Sequence[RawObject] | Unknown
    """The ResourceQuotas of the namespace."""
    secrets: Mapping[str, SecretKeys | Unknown | None] = field(default_factory=dict)
    """Those that Chatbots name; None: there is no such Secret."""
    claims: Mapping[str, RawObject | Unknown | None] = field(default_factory=dict)
    """Claims that Chatbots name as the source of their weights."""
