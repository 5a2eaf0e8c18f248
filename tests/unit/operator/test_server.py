"""The operator's own pages, and what its probes are judged by."""

import aiohttp

from chatbot_operator.metrics import Chatbots, Metrics
from chatbot_operator.server import LEASE_SILENCE_SECONDS, RESYNC_SILENCE_SECONDS, Health, serving


async def page(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_it_is_ready_once_every_kind_was_listed() -> None:
    synced = False
    health = Health(lambda: 0.0, 0.0, synced=lambda: synced)
    async with serving("127.0.0.1", 0, health, lambda: b"") as port:
        assert (await page(port, "/readyz"))[0] == 503
        synced = True
        assert (await page(port, "/readyz"))[0] == 200


async def test_it_is_alive_until_the_lease_is_silent_for_too_long() -> None:
    now = 0.0
    health = Health(lambda: now, 0.0, resynced=lambda: now)
    async with serving("127.0.0.1", 0, health, lambda: b"") as port:
        now = LEASE_SILENCE_SECONDS - 1
        assert await page(port, "/livez") == (200, "ok")
        now = LEASE_SILENCE_SECONDS + 1
        status, text = await page(port, "/livez")
        assert (status, "Lease" in text) == (503, True)
        health.lease_seen = now
        assert (await page(port, "/livez"))[0] == 200


def test_it_is_not_alive_when_no_full_list_ends() -> None:
    now = RESYNC_SILENCE_SECONDS + 1
    health = Health(lambda: now, 0.0, lease_seen=now, resynced=lambda: 0.5)
    assert "full list" in health.problem()


def test_chatbots_are_counted_by_phase_and_readiness_when_somebody_scrapes() -> None:
    conditions = [
        {"type": "Ready", "status": "True", "reason": "Serving"},
        {"type": "Progressing", "status": "False", "reason": "Settled"},
    ]
    metadata = {"namespace": "shop", "name": "demo"}
    ready = {"metadata": metadata, "spec": {"phase": "mock"}, "status": {"conditions": conditions}}
    metrics = Metrics()
    metrics.watch(depth=lambda: 3, leading=lambda: True, chatbots=Chatbots(lambda: [ready, {"spec": {}}]))
    metrics.observe_call("get", "pods", 200, 0.01)
    text = metrics.text().decode()
    assert 'chatbot_operator_chatbots{phase="mock",ready="True"} 1.0' in text
    assert 'chatbot_operator_chatbots{phase="",ready="Unknown"} 1.0' in text
    told = 'chatbot="demo",chatbot_namespace="shop",condition="Ready",reason="Serving",status="True"'
    assert f"chatbot_operator_chatbot_condition{{{told}}} 1.0" in text
    assert "Progressing" not in text
    assert "chatbot_operator_queue_depth 3.0" in text
    assert "chatbot_operator_leader 1.0" in text
    assert 'chatbot_operator_api_calls_total{code="200",resource="pods",verb="get"} 1.0' in text


async def test_it_is_ready_once_it_is_synced_and_nothing_is_in_the_way() -> None:
    synced, refusal = False, ""
    health = Health(lambda: 0.0, 0.0, synced=lambda: synced, refusal=lambda: refusal)
    async with serving("127.0.0.1", 0, health, lambda: b"") as port:
        assert await page(port, "/readyz") == (503, "not synced yet")
        synced = True
        assert await page(port, "/readyz") == (200, "ok")
        refusal = "another install serves shop"
        assert await page(port, "/readyz") == (503, "another install serves shop")
