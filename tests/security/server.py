"""Asks an API server what it would do with very many objects, without making any. No test logic here."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from chatbot_operator import names
from chatbot_operator.actions import Apply
from chatbot_operator.api import parse_chatbot
from chatbot_operator.desired.deployment import backend_template
from chatbot_operator.kinds import POD, Kind, kind_of
from chatbot_operator.rest import path
from tests.faults.admin import Admin, administrator
from tests.support.chatbots import chatbot
from tests.support.cluster import ClusterAccess
from tests.support.scenes import Scene
from tests.support.simulated_world import KEY

Object = dict[str, Any]

AT_ONCE = 8


@dataclass(frozen=True)
class Answer:
    """What the API server said of one object."""

    stored: Object
    """As it would be stored; empty if it was refused."""
    message: str = ""
    fields: tuple[str, ...] = ()
    """The fields that a refusal names."""

    @property
    def refused(self) -> bool:
        return not self.stored


def ask(access: ClusterAccess, namespace: str, bodies: Iterable[Mapping[str, Any]]) -> list[Answer]:
    """The answer to the creation of each as a dry run: everything is checked and nothing is kept."""

    async def run() -> list[Answer]:
        slots = asyncio.Semaphore(AT_ONCE)
        async with administrator(access.kubeconfig) as admin:
            return await asyncio.gather(*(_ask(admin, slots, namespace, body) for body in bodies))

    return asyncio.run(run())


async def _ask(admin: Admin, slots: asyncio.Semaphore, namespace: str, body: Mapping[str, Any]) -> Answer:
    url = f"{admin.server}{path(_kind(body), namespace)}?dryRun=All"
    metadata = {k: v for k, v in body["metadata"].items() if k not in ("uid", "resourceVersion")}
    whole = {**body, "metadata": {**metadata, "namespace": namespace}}
    async with slots:
        status, answer = await _post(admin, url, whole)
    if status < 400:
        return Answer(answer)
    causes = (answer.get("details") or {}).get("causes") or ()
    return Answer({}, answer["message"], tuple(cause.get("field", "") for cause in causes))


async def _post(admin: Admin, url: str, body: Object) -> tuple[int, Object]:
    """Tried again when the busy machine lets no connection come about: a dry run changes nothing."""
    for tries_left in reversed(range(5)):
        try:
            headers = {"Content-Type": "application/json"}
            async with admin.session.post(url, data=json.dumps(body), headers=headers) as response:
                return response.status, await response.json(content_type=None)
        except aiohttp.ConnectionTimeoutError:
            if not tries_left:
                raise
    raise AssertionError(url)


def _kind(body: Mapping[str, Any]) -> Kind:
    return kind_of(body) if body["kind"] != POD.name else POD


def ask_for_chatbots(access: ClusterAccess, namespace: str, specs: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """The same of Chatbots with these specs."""
    return ask(access, namespace, (chatbot(f"{KEY.name}-{i}", dict(spec)) for i, spec in enumerate(specs)))


def children(spec: Mapping[str, Any]) -> list[Object]:
    """What the operator applies for a Chatbot with this (stored) spec, once the addresses of its Services are known."""
    scene = Scene(spec)
    scene.apply()
    return [dict(action.body) for action in scene.plan().actions if isinstance(action, Apply)]


def pods(spec: Mapping[str, Any]) -> list[Object]:
    """A pod of each template among them, and of the spec's own phase, whatever that waits for."""
    scene = Scene(spec)
    templates = [body["spec"]["template"] for body in children(spec) if "template" in body.get("spec", {})]
    templates.append(backend_template(parse_chatbot(scene.raw), scene.settings))
    return [
        {
            "apiVersion": "v1",
            "kind": POD.name,
            "metadata": {"generateName": "pod-", **template["metadata"]},
            "spec": template["spec"],
        }
        for template in templates
    ]


ACCOUNTS = tuple(
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    for name in (names.backend(KEY.name), names.web(KEY.name))
)
"""Without its own no pod is admitted."""
PRIORITY = "high"
PRIORITY_CLASS = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": PRIORITY},
    "value": 1000,
}
