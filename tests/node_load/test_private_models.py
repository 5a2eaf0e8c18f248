"""The private model's bad days on a real node: what is told of each, that the old phase serves, and how it is mended.

The three ways to the weights, lost engines, full volumes, a Hub that is away: see `tests/node/test_chatbots_local.py`.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess
from tests.support.load import OPEN_DOOR
from tests.support.model_hub import SENTENCES, ModelHub, baked, gguf, reference
from tests.support.operator import wait_for
from tests.support.private import (
    CAUSE_SECONDS,
    MOCK,
    SMALL,
    answers_of,
    asked_all_along,
    end_engine,
    fill,
    job,
    local,
    pods,
    say,
    serve_local,
    serve_mock,
)

pytestmark = pytest.mark.needs("pods run", "storage")


def test_a_model_that_is_here_is_not_fetched_again_by_new_pods_and_nobody_gets_a_canned_answer(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    model, text = reference("org/tiny"), SENTENCES["org/tiny"]
    serve_local(bot, local(engine), fallback={"to": "mock"})
    wait_for("the Job has gone", lambda: not job(bot), 30)
    (claim,) = bot.get("pvc")["items"]
    hub.forget()
    bot.kubectl("delete", pods(bot)[0]["metadata"]["name"].join(("pod/", "")), "--wait=false")
    answers_of(bot, model, 60)
    bot.kubectl("rollout", "restart", "deployment/demo-backend")
    end = time.monotonic() + 25
    while time.monotonic() < end or bot.condition("Ready").get("status") != "True":
        answer = say(bot)
        assert answer in ((model, text), ("", "no connection")), answer
        assert time.monotonic() < end + 60
    assert hub.asked() == []
    assert job(bot) == {}
    assert [c["metadata"]["uid"] for c in bot.get("pvc")["items"]] == [claim["metadata"]["uid"]]


def test_the_engine_dies_and_is_started_again_beside_a_runtime_that_always_says_so(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    well = (reference("org/tiny"), SENTENCES["org/tiny"])
    serve_local(bot, local(engine))
    (pod,) = pods(bot)
    with asked_all_along(bot) as seen:
        for _ in range(3):
            end_engine(bot, pod)
            wait_for("the model answers again", lambda: say(bot) == well, 30)
    assert well in seen
    assert seen - {well} <= {("", "engine_down"), ("", "model_not_ready")}
    (found,) = pods(bot)
    assert found["metadata"]["uid"] == pod["metadata"]["uid"]
    statuses = [*found["status"]["containerStatuses"], *found["status"]["initContainerStatuses"]]
    assert [status["restartCount"] for status in statuses] == [0, 0]
    bot.wait_ready(40)


def test_weights_in_a_claim_of_ones_own_are_served_and_what_is_missing_is_told(
    chart: ClusterAccess, bot: Bot, hub: ModelHub, engine: str
) -> None:
    sentence = "These weights were here before."
    serve_mock(bot)
    mine = {"source": {"claim": {"name": "mine", "subPath": "llm"}}}
    bot.patch(phase="local", local=local(engine, "org/mine", **mine))
    missing = bot.wait_reason("ClaimMissing", CAUSE_SECONDS)
    assert "local.source.claim.name: there is no claim mine" in missing["message"]
    assert say(bot)[0] == "mock"
    fill(chart, bot.namespace, "mine", {"llm/other.gguf": gguf(sentence)})
    # The scheduler tries again when a claim comes; a pod that could not be placed waits for at most some minutes.
    not_found = bot.wait_reason("ModelNotFound", 90)
    assert "it holds other.gguf" in not_found["message"]
    assert say(bot)[0] == "mock"
    named = "hf://org/mine/other.gguf"
    bot.patch(local={"models": [named]})
    assert answers_of(bot, named, 90)[-1] == (named, sentence)
    bot.wait_ready(30)
    assert bot.condition("ModelReady")["reason"] == "Mounted"


def test_weights_in_the_engines_image_are_served(chart: ClusterAccess, bot: Bot) -> None:
    sentence = "I was baked into an image."
    image, folder = baked(chart, sentence)
    model = reference("org/baked")
    source = {"image": {"reference": image, "path": folder, "pullPolicy": "Never"}}
    serve_mock(bot, local={"models": [model], "source": source, "resources": SMALL, "contextLength": 512})
    bot.patch(phase="local")
    assert answers_of(bot, model, 60) == [("mock", "A canned answer."), (model, sentence)]
    bot.wait_ready(30)
    assert bot.condition("ModelReady")["reason"] == "Baked"
    assert bot.get("pvc")["items"] == []


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a `spec.local`, the reason that is told, and a part of its message; then what mends it."""

    local: dict[str, Any]
    reason: str
    words: str
    mended: dict[str, Any]
    seconds: float = CAUSE_SECONDS


GONE = "hf://org/gone/model.gguf"
TROUBLES = {
    "missing-model": Trouble({"models": [GONE]}, "ModelNotFound", "org/gone", {"models": [reference("org/tiny")]}),
    "gated": Trouble(
        {"models": [reference("org/gated")]}, "AccessDenied", "gated", {"tokenSecretRef": {"name": "hub"}}
    ),
    "no-model": Trouble(
        {"models": [reference("org/broken")]},
        "DownloadFailed",
        "is no GGUF file",
        {"models": [reference("org/tiny")]},
    ),
    "no-class": Trouble(
        {"storage": {"storageClassName": "nowhere"}},
        "NoStorageClass",
        "there is no StorageClass nowhere",
        {"storage": {"storageClassName": None}},
    ),
    "no-image": Trouble(
        {"image": "registry.invalid/engine:1"},
        "ImagePullFailed",
        "registry.invalid",
        {"image": None},
        seconds=60,  # until the node gives up to look for the host
    ),
    "too-large": Trouble(
        {"contextLength": 1_048_576, "parallel": 64},
        "InsufficientMemory",
        "the engine has 192 MiB",
        {"contextLength": 512, "parallel": 1},
    ),
}


def test_what_can_be_wrong_with_a_private_model_is_told_while_the_old_phase_serves_and_mended_by_an_edit(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    bots = {name: replace(bot, name=name) for name in TROUBLES}
    for one in bots.values():
        one.create(mock=MOCK, access=OPEN_DOOR, backend={"autoscaling": {"maxReplicas": 1}})
    for one in bots.values():
        one.wait_ready(120)
    for name, trouble in TROUBLES.items():
        bots[name].patch(phase="local", local=local(engine) | trouble.local)
        told = bots[name].wait_reason(trouble.reason, trouble.seconds)
        assert trouble.words in told["message"], told["message"]
        assert bots[name].condition("Available")["status"] == "True"
        assert say(bots[name]) == ("mock", "A canned answer.")
    hub_secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}, "stringData": {"token": "hf_good"}}
    bot.access.apply(hub_secret, namespace=bot.namespace)
    for name, trouble in TROUBLES.items():
        mended = trouble.mended | ({"image": engine} if "image" in trouble.mended else {})
        bots[name].patch(local=mended)
    for one in bots.values():
        one.wait_ready(180)
        assert say(one)[0].startswith("hf://")


def test_a_hub_that_is_away_or_altered_is_told_and_the_download_goes_on_by_itself(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    serve_mock(bot, local=local(engine, "org/slow"))
    hub.behave(status={"api": 503, "resolve": 503})
    bot.patch(phase="local")
    told = bot.wait_reason("SourceUnreachable", CAUSE_SECONDS)
    assert "HTTP 503" in told["message"]
    hub.behave(corrupt=1_000_000)
    bot.wait_reason("DigestMismatch", 120)
    assert say(bot)[0] == "mock"
    hub.behave()
    model = reference("org/slow")
    assert answers_of(bot, model, 150)[-1] == (model, SENTENCES["org/slow"])
    bot.wait_ready(30)


def test_an_engine_that_the_kernel_kills_for_its_memory_is_told_and_the_old_phase_serves(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    tight = {"resources": {"requests": {"cpu": "200m", "memory": "176Mi"}}}
    serve_mock(bot, local=local(engine, "org/heavy") | tight)
    bot.patch(phase="local")
    told = bot.wait_reason("OutOfMemory", 60)
    assert "spec.local.resources.requests.memory" in told["message"]
    assert say(bot)[0] == "mock"
    bot.patch(local={"resources": SMALL})
    answers_of(bot, reference("org/heavy"), 90)
    bot.wait_ready(60)


def test_a_volume_that_is_too_small_is_told_with_its_numbers_and_grows_by_an_edit_of_its_size(
    bot: Bot, hub: ModelHub, engine: str
) -> None:
    if "sized" not in bot.access.kubectl("get", "storageclass", "-o", "name").stdout:
        pytest.skip("the cluster has no class of volumes with a real size")
    small = {"storage": {"storageClassName": "sized", "size": "2Mi"}}
    serve_mock(bot, local=local(engine, "org/slow", **small))
    bot.patch(phase="local")
    told = bot.wait_reason("StorageFull", CAUSE_SECONDS)
    assert "Raise local.storage.size" in told["message"]
    assert say(bot)[0] == "mock"
    bot.patch(local={"storage": {"size": "16Mi"}})
    model = reference("org/slow")
    assert answers_of(bot, model, 90)[-1] == (model, SENTENCES["org/slow"])
    bot.wait_ready(30)
