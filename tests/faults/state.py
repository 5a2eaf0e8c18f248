"""What one Chatbot has come to, as flat leaves that two equal ones share. Pure: it must not know how it came about."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from chatbot_operator import names
from chatbot_operator.kinds import (
    AUTOSCALER,
    CHATBOT,
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    JOB,
    NETWORK_POLICY,
    SERVICE,
    SERVICE_ACCOUNT,
)
from tests.faults.admin import Object
from tests.faults.world import Id, label

State = dict[str, Any]
"""`Kind/name.path.to.leaf` -> value."""

COMPARED = frozenset(
    k.name
    for k in (
        DEPLOYMENT,
        SERVICE,
        CONFIG_MAP,
        SERVICE_ACCOUNT,
        AUTOSCALER,
        DISRUPTION_BUDGET,
        NETWORK_POLICY,
        CLAIM,
        JOB,
    )
)
"""Pods and ReplicaSets are the controllers' own; there is one for each template that there ever was."""

_METADATA = ("annotations", "labels", "ownerReferences", "finalizers", "deletionTimestamp")
_PATH_DEPENDENT = frozenset(
    {"deployment.kubernetes.io/revision", names.APPLIED_HASH}
)  # counts templates; covers the owner's uid
_PROVED = "verifiedRevisions"
"""Of the settings: which providers have proved themselves depends on the past."""

SCALING_TROUBLE = " The autoscaler cannot work now"
"""Whether the metrics API knows a fake pod yet is a matter of time."""
_KEYS = ("type", "name", "key", "port")


def state_of(world: Mapping[Id, Object], namespace: str, chatbot: str) -> State:
    """Every leaf of the Chatbot's status and of its children, with its names and uid replaced by words."""
    leaves: State = {}
    own = world.get(Id(CHATBOT.name, chatbot))
    uid = str(own["metadata"]["uid"]) if own else chatbot
    for id_, obj in world.items():
        if id_ == (CHATBOT.name, chatbot):
            shown: Any = {"status": _status(obj)}
        elif id_.kind in COMPARED and label(obj) == chatbot:
            shown = _child(obj)
        else:
            continue
        name = id_.name.replace(chatbot, "CHATBOT")
        text = json.dumps(shown).replace(uid, "UID").replace(namespace, "NAMESPACE").replace(chatbot, "CHATBOT")
        leaves |= _leaves(json.loads(text), f"{id_.kind}/{name}")
    for scaled in _numbers_of_autoscalers(world, chatbot):
        leaves.pop(scaled, None)
    return leaves


def _numbers_of_autoscalers(world: Mapping[Id, Object], chatbot: str) -> list[str]:
    """The leaves that an autoscaler decides, which keeps what it finds as long as it may."""
    scaled = [n for n in (names.backend, names.web) if Id(AUTOSCALER.name, n(chatbot)) in world]
    found = [f"Deployment/{n('CHATBOT')}.spec.replicas" for n in scaled]
    if names.backend in scaled:
        found += [f"Chatbot/CHATBOT.status.{count}" for count in ("replicas", "readyReplicas")]
    return found


def differences(found: State, wanted: State, mask: Iterable[str] = ()) -> list[str]:
    """One line for each leaf that differs and is not masked."""
    hidden = set(mask)
    missing = object()
    lines = []
    for leaf in sorted((found.keys() | wanted.keys()) - hidden):
        is_, should = found.get(leaf, missing), wanted.get(leaf, missing)
        if is_ != should:
            said = ["nothing" if v is missing else json.dumps(v, ensure_ascii=False)[:200] for v in (is_, should)]
            lines.append(f"{leaf} is {said[0]}, should be {said[1]}")
    return lines


def learn_mask(one: State, other: State) -> frozenset[str]:
    """The leaves in which two undisturbed runs of the same differ: what no comparison may look at."""
    missing = object()
    return frozenset(k for k in one.keys() | other.keys() if one.get(k, missing) != other.get(k, missing))


def _status(chatbot: Object) -> Object:
    status = dict(chatbot.get("status", {}))
    status.pop("observedGeneration", None)
    conditions = status.get("conditions", ())
    drop = ("lastTransitionTime", "observedGeneration")
    status["conditions"] = [{k: v for k, v in c.items() if k not in drop} for c in conditions]
    for condition in status["conditions"]:
        condition["message"] = condition["message"].partition(SCALING_TROUBLE)[0]
    return status


def _child(obj: Object) -> Object:
    if text := obj.get("data", {}).get(names.SETTINGS_KEY):
        settings = {k: v for k, v in json.loads(text).items() if k != _PROVED}
        obj = {**obj, "data": {**obj["data"], names.SETTINGS_KEY: json.dumps(settings)}}
    metadata = {k: v for k, v in obj["metadata"].items() if k in _METADATA}
    annotations = metadata.get("annotations", {})
    metadata["annotations"] = {k: v for k, v in annotations.items() if k not in _PATH_DEPENDENT}
    rest = {k: v for k, v in obj.items() if k not in ("metadata", "status", "apiVersion", "kind")}
    return {**rest, "metadata": metadata, "applied": _applied(obj)}


def _applied(obj: Object) -> str:
    """The fields that the operator's applies own."""
    entries = obj["metadata"].get("managedFields", ())
    ours = [e["fieldsV1"] for e in entries if e["manager"] == names.MANAGER and e["operation"] == "Apply"]
    return json.dumps(ours, sort_keys=True)


def _leaves(value: Any, path: str) -> State:
    if isinstance(value, Mapping) and value:
        found: State = {}
        for key, item in value.items():
            found |= _leaves(item, f"{path}.{key}")
        return found
    if isinstance(value, list) and value:
        found = {}
        for index, item in enumerate(value):
            found |= _leaves(item, f"{path}[{_name(item, index)}]")
        return found
    return {path: value} if value not in ({}, []) else {}


def _name(item: Any, index: int) -> str:
    if isinstance(item, Mapping):
        return str(next((item[k] for k in _KEYS if isinstance(item.get(k), str)), index))
    return str(index)
