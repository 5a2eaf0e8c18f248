"""Reads what a command needs to know. Thin: what it means is decided elsewhere. It must not print."""

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from chatbot_operator.api import Chatbot, InvalidChatbot, parse_chatbot
from chatbot_operator.cluster import ClusterError, Forbidden, NotFound
from chatbot_operator.kinds import (
    CHATBOT,
    CHILD_KINDS,
    CLAIM,
    DEPLOYMENT,
    EVENT,
    OPTIONAL_KINDS,
    POD,
    SERVICE,
    Key,
    Kind,
    RawObject,
    Ref,
    ref_of,
)
from chatbot_operator.names import CHATBOT_LABEL, SELECTOR
from chatbot_operator.store import Snapshot, trim
from kubectl_chatbot import status
from kubectl_chatbot.client import Client
from kubectl_chatbot.facts import Facts, SecretKeys
from kubectl_chatbot.findings import Unknown
from kubectl_chatbot.needs import claim_of, secrets_of
from kubectl_chatbot.rehearsal import World
from kubectl_chatbot.settings import SELECTOR as OPERATORS

NODE = Kind("Node", "", "v1", "nodes")
STORAGE_CLASS = Kind("StorageClass", "storage.k8s.io", "v1", "storageclasses")
QUOTA = Kind("ResourceQuota", "", "v1", "resourcequotas")
SECRET = Kind("Secret", "", "v1", "secrets")

T = TypeVar("T")


class Missing(Exception):
    """There is no such Chatbot, or it is not clear which one is meant; the message says what there is."""


def chatbots(client: Client, namespace: str | None) -> list[RawObject]:
    """Every Chatbot of a namespace, or of the cluster."""
    try:
        return client.list(CHATBOT, namespace)
    except NotFound:
        raise Missing("this cluster does not know Chatbots: install the operator's chart") from None


def raw_chatbot(client: Client, namespace: str, name: str | None) -> RawObject:
    """One Chatbot; without a name the only one of the namespace."""
    if name is not None:
        try:
            return {
                "apiVersion": CHATBOT.api_version,
                "kind": CHATBOT.name,
                **client.object(Ref(CHATBOT, namespace, name)),
            }
        except NotFound:
            pass
    there = {c["metadata"]["name"]: c for c in chatbots(client, namespace)}
    if name is None and len(there) == 1:
        return next(iter(there.values()))
    known = f"there are: {', '.join(sorted(there))}" if there else "there is none"
    if name is None:
        raise Missing(f"which Chatbot? In namespace {namespace} {known}")
    raise Missing(f"no Chatbot {name} in namespace {namespace}; {known}")


def parsed(raw: RawObject) -> Chatbot:
    """The Chatbot. Raises Missing for one that this version does not understand."""
    try:
        return parse_chatbot(raw)
    except InvalidChatbot as error:
        raise Missing(f"Chatbot {raw['metadata']['name']} is not valid: {error}") from None


def events(client: Client, chatbot: Chatbot) -> list[status.Event]:
    """The Events about a Chatbot, oldest first; none if they may not be read."""
    query = {"fieldSelector": f"regarding.uid={chatbot.metadata.uid}"}
    try:
        return status.events_of(client.list(EVENT, chatbot.metadata.namespace, query))
    except Forbidden:
        return []


def world(client: Client, raw: RawObject) -> World:
    """A Chatbot with its children, as the operator sees it."""
    key = Key(raw["metadata"]["namespace"], raw["metadata"]["name"])
    children: dict[Ref, RawObject] = {}
    absent: set[Kind] = set()
    for kind in CHILD_KINDS:
        try:
            found = client.list(kind, key.namespace, {"labelSelector": f"{SELECTOR},{CHATBOT_LABEL}={key.name}"})
        except NotFound:
            if kind not in OPTIONAL_KINDS:
                raise
            absent.add(kind)
            continue
        children |= {ref_of(obj): trim(obj) for obj in found}
    return World(Snapshot(key, raw, children, {}), frozenset(absent))


def with_strangers(client: Client, known: World, refs: Iterable[Ref]) -> World:
    """The same with those objects of these names that are there already: they are somebody else's."""
    found: dict[Ref, RawObject] = {}
    for ref in refs:
        if (there := _maybe(client, ref)) is not None:
            found[ref] = {"apiVersion": ref.kind.api_version, "kind": ref.kind.name, **there}
    return replace(known, snapshot=replace(known.snapshot, strangers=found))


def facts(client: Client, namespace: str, of: Iterable[Chatbot] = ()) -> Facts:
    """What is known of the cluster and the namespace, for these Chatbots."""
    them = tuple(of)
    names = {name for chatbot in them for name in secrets_of(chatbot.spec)}
    claims = {name for chatbot in them if (name := claim_of(chatbot.spec))}
    return Facts(
        version=_tried("the API server's version", lambda: str(client.get("/version")["gitVersion"])),
        definition=_tried("what the API server serves", lambda: _served(client, f"/apis/{CHATBOT.api_version}")),
        operators=operators(client),
        storage_classes=_tried("StorageClasses", lambda: client.list(STORAGE_CLASS, None)),
        metrics=_tried("the metrics API", lambda: _served(client, "/apis/metrics.k8s.io/v1beta1/nodes?limit=1")),
        nodes=_tried("Nodes", lambda: client.list(NODE, None)),
        pods=_tried("pods of all namespaces", lambda: client.list(POD, None)),
        services=_tried("Services of all namespaces", lambda: client.list(SERVICE, None)),
        quotas=_tried("ResourceQuotas", lambda: client.list(QUOTA, namespace)),
        secrets={name: _tried(f"Secret {name}", partial(_keys, client, namespace, name)) for name in names},
        claims={name: _tried(f"claim {name}", partial(_maybe, client, Ref(CLAIM, namespace, name))) for name in claims},
    )


def operators(client: Client) -> list[RawObject] | Unknown:
    """The Deployments of operators."""
    return _tried("Deployments", lambda: client.list(DEPLOYMENT, None, {"labelSelector": OPERATORS}))


def _tried(what: str, read: Callable[[], T]) -> T | Unknown:
    try:
        return read()
    except Forbidden:
        return Unknown(f"You may not read {what}.")
    except ClusterError as error:
        return Unknown(f"{what} could not be read: {error.message}")


def _served(client: Client, resource: str) -> bool:
    try:
        client.get(resource)
    except Forbidden:
        raise
    except ClusterError:
        return False
    return True


def _maybe(client: Client, ref: Ref) -> RawObject | None:
    try:
        return client.object(ref)
    except NotFound:
        return None


def _keys(client: Client, namespace: str, name: str) -> SecretKeys | None:
    """Which keys hold something. The values are dropped here and reach nothing else."""
    secret = _maybe(client, Ref(SECRET, namespace, name))
    return None if secret is None else {key: _holds(value) for key, value in (secret.get("data") or {}).items()}


def _holds(value: str) -> bool:
    try:
        return bool(base64.b64decode(value).strip())
    except (binascii.Error, ValueError):
        return False
