"""Rows C1, C2, C8 and C9 of the design and R4: what is ours is deleted, edited, held."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

from chatbot_operator.kinds import (
    AUTOSCALER,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from chatbot_operator.names import backend, peers
from chatbot_operator.rest import path
from tests.faults.admin import Object, Refused
from tests.faults.harness import Row, Run
from tests.faults.lane import DRIFT_BOUND, RESYNC_BOUND, Lane
from tests.faults.rows.steps import start


def children(name: str) -> list[tuple[Kind, str]]:
    """What a mock has."""
    own = backend(name)
    return [
        (SERVICE_ACCOUNT, own),
        (CONFIG_MAP, own),
        (NETWORK_POLICY, own),
        (SERVICE, name),
        (SERVICE, own),
        (SERVICE, peers(name)),
        (DEPLOYMENT, own),
        (AUTOSCALER, own),
        (DISRUPTION_BUDGET, own),
    ]


async def each_child_deleted(run: Run) -> None:
    lane, (name,) = run.lane, await start(run)
    for kind, child in children(name):
        old = lane.live(kind, child)
        assert old is not None, f"there is no {kind} {child}"
        uid = old["metadata"]["uid"]
        began = time.monotonic()
        await lane.admin.delete(kind, lane.namespace, child)

        def back(kind: Kind = kind, child: str = child, uid: str = uid) -> bool:
            live = lane.live(kind, child)
            return live is not None and live["metadata"]["uid"] != uid

        await lane.world.until(f"{kind} {child} is back", back, DRIFT_BOUND)
        run.tally.recovery.append(time.monotonic() - began)
        run.tally.runs += 1
    await lane.settled()
    # Without its Service or its Deployment nothing answers: that is what was done to it. Pods of the deleted Deployment
    # are still ready for a moment, and no longer the Chatbot's.
    await run.check(waive=("O5", "O9"))


# owned fields ----------------------------------------------------------------------------------------------------


def owned_leaves(obj: Object) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and value of every leaf that the operator's applies own; list items by what names them."""
    for entry in obj["metadata"].get("managedFields", ()):
        if entry["manager"] == "chatbot-operator" and entry["operation"] == "Apply":
            yield from _owned(entry["fieldsV1"], obj, ())


def _owned(
    fields: Object, value: Any, at: tuple[str, ...], names: frozenset[str] = frozenset()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """`names` are what tells this item of a list from its neighbours: with another one it would be a neighbour."""
    below = [k for k in fields if k != "." and k.removeprefix("f:") not in names]
    if not below or not isinstance(value, dict | list):
        if not isinstance(value, dict) or not value:
            yield at, value
        return
    for key in below:
        kind, _, name = key.partition(":")
        if kind == "f" and isinstance(value, dict) and name in value:
            yield from _owned(fields[key], value[name], (*at, name))
        elif kind == "k" and isinstance(value, list):
            wanted = json.loads(name)
            for index, item in enumerate(value):
                if all(item.get(k) == v for k, v in wanted.items()):
                    yield from _owned(fields[key], item, (*at, str(index)), frozenset(wanted))


_NEVER = frozenset({"applied-hash", "ownerReferences"})
"""Owner references are row C4; the hash is our own note of what was applied."""


def other(value: Any) -> list[Any]:
    """Different values of the same type, the likeliest to be valid first."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, str):
        return [
            f"{value}x",
            "edited",
            "Always",
            "OnFailure",
            "ClusterIP",
            "NodePort",
            "https",
            "UDP",
            "2",
            "1Gi",
            "File",
        ]
    return []


async def each_field_edited(run: Run) -> None:
    """Every leaf that our applies own, of every child, edited by hand, one at a time."""
    lane = run.lane
    bots = await start(run, 3)
    queue = []
    for index, (kind, child) in enumerate(children(bots[0])):
        live = lane.live(kind, child)
        assert live is not None
        leaves = [at for at, _ in owned_leaves(live) if not _NEVER & {part.rsplit("/", 1)[-1] for part in at}]
        queue += [(index, at) for at in leaves]
    total = len(queue)
    if not run.scope.full:
        queue = run.rng.sample(queue, 15)
    refused: list[str] = []
    shares = [queue[i :: len(bots)] for i in range(len(bots))]
    await asyncio.gather(*(_edit_all(run, name, share, refused) for name, share in zip(bots, shares, strict=True)))
    run.tally.notes.append(f"{len(queue)} of {total} owned fields; {len(refused)} cannot be edited by anybody")
    await lane.settled()
    await run.check(waive=("O9", "O6"))


async def _edit_all(run: Run, name: str, share: list[tuple[int, tuple[str, ...]]], refused: list[str]) -> None:
    lane = run.lane
    for index, at in share:
        kind, child = children(name)[index]
        live = lane.live(kind, child)
        before = _at(live, at)
        edited = await _edit(lane, kind, child, at, before)
        if not edited:
            refused.append(f"{kind} {'.'.join(at)}")
            continue
        began = time.monotonic()

        def repaired(kind: Kind = kind, child: str = child, at: tuple[str, ...] = at, since: int = edited) -> bool:
            live = lane.live(kind, child)
            return live is not None and int(live["metadata"]["resourceVersion"]) > since and _at(live, at) == before  # noqa: B023

        try:
            await lane.world.until(f"{kind} {'.'.join(at)} is put right", repaired, DRIFT_BOUND)
        except AssertionError as error:
            raise AssertionError(f"{error}: it is {_at(lane.live(kind, child), at)!r}, should be {before!r}") from None
        run.tally.recovery.append(time.monotonic() - began)
        run.tally.runs += 1


async def _edit(lane: Lane, kind: Kind, child: str, at: tuple[str, ...], before: Any) -> int:
    """Another value at that place; the resource version of the edit, or 0 if the API server refuses every one."""
    pointer = "/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in at)
    url = path(kind, lane.namespace, child)
    for value in other(before):
        patch = [{"op": "replace", "path": pointer, "value": value}]
        try:
            done = await lane.admin.request("PATCH", url, patch, "application/json-patch+json")
        except Refused as error:
            if error.status not in (400, 409, 422):
                raise
            continue
        if _at(done, at) != before:
            return int(done["metadata"]["resourceVersion"])
    return 0


def _at(obj: Any, at: tuple[str, ...]) -> Any:
    for part in at:
        try:
            obj = obj[int(part)] if isinstance(obj, list) else obj.get(part)
        except (IndexError, AttributeError):
            return None
    return obj


async def settings_edited(run: Run) -> None:
    lane, (name,) = run.lane, await start(run)
    own = backend(name)
    for text in ("$(rm -rf /)", '{"systemPrompt": "evil"}', "\u202e", ""):
        await lane.admin.merge(CONFIG_MAP, lane.namespace, own, {"data": {"settings.json": text}})
        began = time.monotonic()

        def reset(text: str = text) -> bool:
            live = lane.live(CONFIG_MAP, own)
            return live is not None and live["data"]["settings.json"] not in (text, "")

        await lane.world.until("it is reset", reset, DRIFT_BOUND)
        run.tally.recovery.append(time.monotonic() - began)
        await lane.settled()
    await run.check()


async def stuck_terminating(run: Run) -> None:
    lane, (name,) = run.lane, await start(run)
    held = {"metadata": {"finalizers": ["example.com/hold"]}}
    await lane.admin.merge(SERVICE, lane.namespace, peers(name), held)
    await lane.admin.delete(SERVICE, lane.namespace, peers(name))
    condition = await lane.reason(name, "RollingOut", "Terminating", "BackendNotReady", "Starting", timeout=DRIFT_BOUND)
    assert peers(name) in condition["message"], f"the message does not say what it waits for: {condition}"
    await lane.patch(name, systemPrompt="goes on meanwhile")
    await lane.world.until("the others are written", lambda: "goes on meanwhile" in _settings(lane, name), DRIFT_BOUND)
    await lane.admin.merge(SERVICE, lane.namespace, peers(name), {"metadata": {"finalizers": None}})
    await lane.settled(timeout=RESYNC_BOUND)
    await run.check()


def _settings(lane: Lane, name: str) -> str:
    live = lane.live(CONFIG_MAP, backend(name))
    return str(live["data"]["settings.json"]) if live else ""


ROWS: tuple[Row, ...] = (
    Row("C1", "Each child deleted by hand (R4)", "Made again within 10 s", each_child_deleted),
    Row("C2", "Each owned field edited by hand (R4)", "Put right within 10 s", each_field_edited),
    Row("C8", "The settings edited to hold hostile text", "Reset within 10 s", settings_edited),
    Row("C9", "A child held while it goes", "A condition explains it, the others go on", stuck_terminating),
)
