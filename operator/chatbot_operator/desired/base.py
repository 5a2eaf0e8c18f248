"""What every child has: names, labels, the owner. Pure."""

from collections.abc import Mapping
from typing import Any

from chatbot_operator import names
from chatbot_operator.api import API_VERSION, KIND, Chatbot
from chatbot_operator.kinds import Kind

BACKEND = "backend"
WEB = "web"
DOWNLOAD = names.DOWNLOAD


def owner_reference(chatbot: Chatbot) -> dict[str, Any]:
    """Makes the garbage collector delete a child with its Chatbot, with us or without."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": chatbot.metadata.name,
        "uid": chatbot.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def child(
    chatbot: Chatbot,
    kind: Kind,
    name: str,
    component: str,
    body: Mapping[str, Any],
    annotations: Mapping[str, str] | None = None,
    *,
    owned: bool = True,
) -> dict[str, Any]:
    """A child of a Chatbot. One that is not `owned` outlives it (a claim that is retained)."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": chatbot.metadata.namespace,
        "labels": names.labels(chatbot.metadata.name, component),
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    if owned:
        metadata["ownerReferences"] = [owner_reference(chatbot)]
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **body}
