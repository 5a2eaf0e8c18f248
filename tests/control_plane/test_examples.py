"""Every manifest of examples/ on a real API server: all its objects are admitted, and what it lacks is said.

The cluster has fake nodes, on which pods only seem to run, and nothing of what an example takes for granted but what an
object could not be admitted without.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from tests.control_plane.conftest import Operated
from tests.support import gateway
from tests.support.chatbot import Bot, now, operator_calls
from tests.support.cluster import ClusterAccess, make_namespace
from tests.support.operator import wait_for

EXAMPLES = {path.stem: path for path in sorted(Path("examples").glob("*.yaml"))}
ALWAYS = {
    *("configmaps", "deployments", "horizontalpodautoscalers", "networkpolicies"),
    *("poddisruptionbudgets", "serviceaccounts", "services"),
}
DOWNLOAD = {"jobs", "persistentvolumeclaims"}
SECONDS = 20
REFUSALS = (400, 403, 422)
"""Answers to a write that no further try would mend."""


@dataclass(frozen=True)
class Expected:
    """What Ready says in the end, with what words, and which kinds of objects there are besides those of a mock."""

    reason: str = "Serving"
    words: str = "What was asked for serves."
    more: frozenset[str] = frozenset()


EXPECTED = {
    "full": Expected("Unschedulable", "node affinity/selector", frozenset({"ingresses"})),
    "hf": Expected(),
    "local-claim": Expected("ClaimMissing", "there is no claim my-models"),
    "local-gguf": Expected("Unschedulable", "Insufficient nvidia.com/gpu", frozenset(DOWNLOAD)),
    "local-image": Expected(),
    "local-ollama": Expected(more=frozenset(DOWNLOAD)),
    "mock": Expected(),
    "production": Expected("NoStorageClass", "there is no StorageClass shared", frozenset({*DOWNLOAD, "httproutes"})),
}


@dataclass(frozen=True)
class Applied:
    """The examples, each in a namespace of its own."""

    since: datetime
    bots: dict[str, Bot]


@pytest.fixture(scope="module")
def taken_for_granted(control_plane: ClusterAccess) -> None:
    """Without a kind or a PriorityClass that an object names the API server does not take the object."""
    gateway.install(control_plane)
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}}
    control_plane.apply({**priority, "value": 1000})


@pytest.fixture(scope="module")
def applied(taken_for_granted: None, operated: Operated) -> Iterator[Applied]:
    """All of them at once, where Pod Security lets in nothing that may do more than it must."""
    with ExitStack() as stack:
        since, bots = now(), {}
        for stem, path in EXAMPLES.items():
            namespace = stack.enter_context(make_namespace(operated.access, stem))
            restricted = "pod-security.kubernetes.io/enforce=restricted"
            operated.access.kubectl("label", "namespace", namespace, restricted)
            operated.access.kubectl("apply", "-n", namespace, "-f", str(path))
            bots[stem] = Bot(operated.access, namespace, yaml.safe_load(path.read_text())["metadata"]["name"])
        yield Applied(since, bots)


def writes(applied: Applied, bot: Bot) -> list[tuple[str, int]]:
    """The operator's writes of objects there: kind, and status of the answer."""
    calls = operator_calls(bot.access, applied.since, namespace=bot.namespace)
    pairs = ((c["objectRef"]["resource"], c["responseStatus"]["code"]) for c in calls if c["verb"] != "get")
    return [(kind, status) for kind, status in pairs if kind != "events"]


def made(applied: Applied, bot: Bot) -> set[str]:
    """The kinds of objects that the operator has made there."""
    return {kind for kind, status in writes(applied, bot) if status == 201}


@pytest.mark.parametrize("stem", EXAMPLES)
def test_an_example_is_admitted_whole_and_ready_says_what_this_cluster_lacks(applied: Applied, stem: str) -> None:
    bot, expected = applied.bots[stem], EXPECTED[stem]

    def told() -> bool:
        ready = bot.condition("Ready")
        return ready.get("reason") == expected.reason and expected.words in ready["message"]

    wait_for(f"{stem}: Ready says {expected.reason}", told, SECONDS)
    kinds = ALWAYS | expected.more
    wait_for(f"{stem}: there are {kinds}", lambda: made(applied, bot) >= kinds, SECONDS)
    assert made(applied, bot) == kinds
    assert [w for w in writes(applied, bot) if w[1] in REFUSALS] == []
    assert [e["message"] for e in bot.get("events", "--field-selector=reason=FailedCreate")["items"]] == []
