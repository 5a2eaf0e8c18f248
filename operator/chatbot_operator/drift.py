"""Whether a live object is as we want it: compares only the leaves that we set. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from chatbot_operator.kinds import RawObject
from chatbot_operator.names import APPLIED_HASH, short_hash
from chatbot_operator.units import same_quantity

_MERGE_KEYS = ("name", "mountPath", "uid", "topologyKey", "key")
"""What tells the items of a list apart, by the API's own list-map keys; in this order."""

_MISSING = "\0missing"


def wanted_hash(wanted: RawObject) -> str:
    """The name of exactly what we want of an object."""
    return short_hash(wanted)


def with_hash(wanted: RawObject) -> dict[str, Any]:
    """The object with that name as an annotation."""
    metadata = wanted["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED_HASH: wanted_hash(wanted)}
    return {**wanted, "metadata": {**metadata, "annotations": annotations}}


def applied_hash(obj: RawObject) -> str:
    """What we wanted when the object was last applied; empty if never."""
    return str(obj["metadata"].get("annotations", {}).get(APPLIED_HASH, ""))


def fingerprint(wanted: RawObject, live: RawObject) -> str:
    """A name for the live values of the leaves that we set."""
    return short_hash(project(wanted, live))


def project(wanted: Any, live: Any) -> Any:
    """The live value of every leaf that `wanted` sets, in the shape of `wanted`."""
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return _MISSING
        return {k: project(v, live.get(k, _MISSING)) for k, v in wanted.items()}
    if isinstance(wanted, list | tuple):
        if not isinstance(live, Sequence) or isinstance(live, str):
            return _MISSING
        return _project_list(wanted, live)
    return live


def same(wanted: Any, live: Any) -> bool:
    """Whether every leaf that `wanted` sets has that value in `live`; 1024Mi is 1Gi."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(same(v, live.get(k, _MISSING)) for k, v in wanted.items())
    if isinstance(wanted, list | tuple):
        if not wanted and live == _MISSING:  # the server does not store an empty list
            return True
        if not isinstance(live, Sequence) or isinstance(live, str):
            return False
        pairs = _project_pairs(wanted, live)
        return pairs is not None and all(same(w, found) for w, found in pairs)
    return bool(wanted == live) or (
        isinstance(wanted, str) and isinstance(live, str | int) and same_quantity(wanted, live)
    )


def _project_list(wanted: Sequence[Any], live: Sequence[Any]) -> Any:
    pairs = _project_pairs(wanted, live)
    return _MISSING if pairs is None else [project(w, found) for w, found in pairs]


def _project_pairs(wanted: Sequence[Any], live: Sequence[Any]) -> list[tuple[Any, Any]] | None:
    """Each wanted item with its live one. In a keyed list others may stand between them (an injected sidecar)."""
    key = _merge_key(wanted)
    if key is None:
        return list(zip(wanted, live, strict=True)) if len(wanted) == len(live) else None
    by_key = {item[key]: item for item in live if isinstance(item, Mapping) and key in item}
    return [(item, by_key.get(item[key], _MISSING)) for item in wanted]


def _merge_key(items: Sequence[Any]) -> str | None:
    if not items or not all(isinstance(item, Mapping) for item in items):
        return None
    return next((k for k in _MERGE_KEYS if all(k in item for item in items) and _distinct(items, k)), None)


def _distinct(items: Sequence[Mapping[str, Any]], key: str) -> bool:
    return len({str(item[key]) for item in items}) == len(items)
