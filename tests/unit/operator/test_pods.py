"""Asking a pod for its state: whatever it answers, the result is a report."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from chatbot_operator import pods
from chatbot_operator.pods import PodClient
from chatbot_operator.reports import PodReport, parse
from chatbot_runtime.contract import CONTRACT_VERSION, PodStatus

STATUS = PodStatus(chatbot="demo", phase="mock", revision="12345678", ready=True, settings_hash="abc")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def body(**fields: object) -> bytes:
    return json.dumps(STATUS.model_dump(mode="json", by_alias=True) | fields).encode()


@asynccontextmanager
async def pod(handler: Handler) -> AsyncIterator[PodClient]:
    app = web.Application()
    app.add_routes([web.get("/{path:.*}", handler)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        yield PodClient(session, f"http://{{ip}}:{port}/status")
    await runner.cleanup()


async def ask(handler: Handler) -> PodReport:
    async with pod(handler) as client:
        return await client.ask(ip="127.0.0.1", namespace="ns", name="demo-1")


async def test_a_good_answer_is_the_pods_status() -> None:
    async def good(_: web.Request) -> web.Response:
        return web.Response(body=body())

    assert await ask(good) == PodReport(status=STATUS)


async def test_fields_of_a_newer_runtime_are_ignored() -> None:
    async def newer(_: web.Request) -> web.Response:
        return web.Response(body=body(mood="fine"))

    assert (await ask(newer)).status == STATUS


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b'{"chatbot": 1}', b"\xff\xfe", b"null"])
async def test_an_answer_that_cannot_be_read_is_incompatible(answer: bytes) -> None:
    async def strange(_: web.Request) -> web.Response:
        return web.Response(body=answer)

    report = await ask(strange)
    assert report.status is None
    assert report.incompatible


async def test_another_contract_is_incompatible_and_both_versions_are_named() -> None:
    report = parse(body(contractVersion=CONTRACT_VERSION + 1))
    assert report.incompatible
    assert str(CONTRACT_VERSION + 1) in report.problem


async def test_an_error_and_a_redirect_are_reported_and_not_followed() -> None:
    asked = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/other"})

    report = await ask(elsewhere)
    assert "302" in report.problem
    assert asked == ["/status"]


async def test_a_huge_answer_is_given_up() -> None:
    sent = 0

    async def huge(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(10_000):
                await response.write(b"x" * 8192)
                sent += 8192
        except ConnectionError:
            pass
        return response

    report = await ask(huge)
    assert "larger than" in report.problem
    assert sent < 40_000_000


async def test_a_silent_pod_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "TIMEOUT_SECONDS", 0.1)
    released = asyncio.Event()

    async def silent(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with pod(silent) as client:
        report = await client.ask(ip="127.0.0.1", namespace="ns", name="demo-1")
        released.set()
    assert "did not answer" in report.problem


async def test_nobody_there_is_a_report_too() -> None:
    async with aiohttp.ClientSession() as session:
        client = PodClient(session, "http://{ip}:1/status")
        report = await client.ask(ip="127.0.0.1", namespace="ns", name="demo-1")
    assert "cannot be reached" in report.problem
