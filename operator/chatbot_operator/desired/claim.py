"""The PersistentVolumeClaim of the weights that a download fetches. Pure."""

from collections.abc import Mapping
from typing import Any

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.desired.base import DOWNLOAD, child
from chatbot_operator.kinds import CLAIM


def models_claim(chatbot: Chatbot, *, size: str, records: Mapping[str, str], uid: str = "") -> dict[str, Any]:
    """A claim for the spec's storage class and access mode.

    A retained one has no owner, so that it outlives the Chatbot. `records` are the annotations that say what it holds;
    they are true of the claim with this `uid` alone. The API server refuses the uid of a claim that is gone with a
    409, so that a claim deleted meanwhile is not made anew, empty and with the records of the old one.
    """
    storage = chatbot.spec.local.storage
    spec: dict[str, Any] = {"accessModes": [storage.access_mode], "resources": {"requests": {"storage": size}}}
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    name = names.claim(chatbot.metadata.name, storage.storage_class_name, storage.access_mode)
    claim = child(chatbot, CLAIM, name, DOWNLOAD, {"spec": spec}, records, owned=not storage.retain)
    if records:
        claim["metadata"]["uid"] = uid
    return claim
