"""The client against a server that answers as an API server does, well and badly."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException

from chatbot_operator import cluster
from chatbot_operator.kinds import CHATBOT, DEPLOYMENT, EVENT, POD, Ref
from chatbot_operator.kube import Kube
from chatbot_operator.names import MANAGER, SCALE_MANAGER
from chatbot_operator.rest import path

POD_REF = Ref(POD, "ns", "demo-1")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def api(
    handler: Handler, *, timeout: float = 5, configuration: Configuration | None = None
) -> AsyncIterator[tuple[Kube, list[tuple[str, str, int]]]]:
    """A client of that server, and the calls that its observer was told of."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = configuration or Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    calls: list[tuple[str, str, int]] = []
    kube = Kube(
        ApiClient(configuration),
        timeout_seconds=timeout,
        observer=lambda verb, resource, code, _: calls.append((verb, resource, code)),
    )
    try:
        yield kube, calls
    finally:
        await kube.close()
        await runner.cleanup()


def status(code: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"kind": "Status", "message": message, "code": code}, status=code, headers=headers)


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (400, "bad", cluster.Invalid),
        (401, "unauthorized", cluster.Transient),
        (403, 'pods is forbidden: User "x" cannot get', cluster.Forbidden),
        (403, "exceeded quota: q", cluster.Forbidden),
        (403, "unable to create new content in namespace ns because it is being terminated", cluster.Terminating),
        (404, "not found", cluster.NotFound),
        (409, "the object has been modified", cluster.Conflict),
        (422, "spec.x: Invalid value", cluster.Invalid),
        (500, "etcdserver: leader changed", cluster.Transient),
        (503, "unavailable", cluster.Transient),
    ],
)
async def test_every_refusal_has_its_error_with_the_servers_own_message(
    code: int, message: str, error: type[cluster.ClusterError]
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return status(code, message)

    async with api(refuse) as (kube, calls):
        with pytest.raises(cluster.ClusterError) as caught:
            await kube.get(POD_REF)
    assert type(caught.value) is error
    assert caught.value.message == message
    assert (caught.value.verb, caught.value.resource) == ("get", "pods")
    assert calls == [("get", "pods", code)]


@pytest.mark.parametrize(("header", "seconds"), [("5", 5.0), ("0", 0.1), ("9999", 60.0), ("soon", 1.0)])
async def test_a_throttled_call_says_how_long_to_wait_within_reason(header: str, seconds: float) -> None:
    async def throttle(_: web.Request) -> web.Response:
        return status(429, "too many requests", {"Retry-After": header})

    async with api(throttle) as (kube, _):
        with pytest.raises(cluster.Throttled) as caught:
            await kube.get(POD_REF)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("body", [b"{", b"<html>", b""])
async def test_an_answer_that_is_not_json_is_trouble_of_the_infrastructure(body: bytes) -> None:
    async def garble(_: web.Request) -> web.Response:
        return web.Response(body=body)

    async with api(garble) as (kube, _):
        with pytest.raises(cluster.Transient):
            await kube.get(POD_REF)


async def test_an_answer_cut_short_and_a_silent_server_are_too() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"kind": ')
        assert request.transport is not None
        request.transport.abort()
        return response

    async with api(cut) as (kube, calls):
        with pytest.raises(cluster.Transient):
            await kube.get(POD_REF)
        assert [c[:2] for c in calls] == [("get", "pods")]

    async def silent(request: web.Request) -> web.StreamResponse:
        await request.content.read()
        response = web.StreamResponse()
        await response.prepare(request)
        while not (request.transport is None or request.transport.is_closing()):
            await response.write(b" ")
        return response

    async with api(silent, timeout=0.2) as (kube, _):
        with pytest.raises(cluster.Transient):
            await kube.get(POD_REF)


async def test_nobody_there_is_trouble_of_the_infrastructure_with_code_zero() -> None:
    configuration = Configuration()
    configuration.host = "http://127.0.0.1:1"
    calls: list[int] = []
    kube = Kube(ApiClient(configuration), observer=lambda _v, _r, code, _s: calls.append(code))
    with pytest.raises(cluster.Transient):
        await kube.get(POD_REF)
    await kube.close()
    assert calls == [0]


async def test_a_list_follows_its_pages_and_its_items_are_named() -> None:
    seen: list[dict[str, str]] = []

    async def pages(request: web.Request) -> web.Response:
        seen.append(dict(request.query))
        first = "continue" not in request.query
        name = "a" if first else "b"
        metadata = {"resourceVersion": "7"} | ({"continue": "next"} if first else {})
        return web.json_response({"metadata": metadata, "items": [{"metadata": {"name": name}}]})

    async with api(pages) as (kube, _):
        listing = await kube.list(POD, None, "app=x")
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b"]
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("v1", "Pod")}
    assert listing.resource_version == "7"
    assert {q["labelSelector"] for q in seen} == {"app=x"}


async def test_an_expired_page_is_an_error_and_not_a_short_list() -> None:
    async def expire(request: web.Request) -> web.Response:
        if "continue" in request.query:
            return status(410, "the continue token is expired")
        return web.json_response({"metadata": {"continue": "old"}, "items": [{"metadata": {"name": "a"}}]})

    async with api(expire) as (kube, _):
        with pytest.raises(cluster.ClusterError):
            await kube.list(POD, "ns")


async def test_writes_go_out_as_they_must() -> None:
    sent: list[tuple[str, str, dict[str, str], str, Any]] = []

    async def note(request: web.Request) -> web.Response:
        body = json.loads(await request.read() or b"null")
        sent.append((request.method, request.path, dict(request.query), request.headers["Content-Type"], body))
        return web.json_response({"kind": "x"})

    deployment = Ref(DEPLOYMENT, "ns", "demo-backend")
    async with api(note) as (kube, _):
        await kube.apply(deployment, {"metadata": {"name": "demo-backend"}})
        await kube.apply(deployment, {"metadata": {"name": "demo-backend"}}, new=True)
        await kube.scale(deployment, 3)
        await kube.merge(deployment, {"metadata": {}})
        await kube.put_status(Ref(CHATBOT, "ns", "demo"), {"phase": "mock"}, uid="u")
        await kube.delete(deployment, uid="u", resource_version="9")
        await kube.create(Ref(EVENT, "ns", "e"), {})
    base = "/apis/apps/v1/namespaces/ns/deployments/demo-backend"
    apply, make, scale, merge, status, delete, create = sent
    assert apply[:4] == ("PATCH", base, {"fieldManager": MANAGER, "force": "true"}, "application/apply-patch+yaml")
    assert "resourceVersion" not in apply[4]["metadata"]
    assert make == (*apply[:4], {"metadata": {"name": "demo-backend", "resourceVersion": "1"}})
    assert scale[:3] == ("PATCH", f"{base}/scale", {"fieldManager": SCALE_MANAGER})
    assert scale[4] == {"spec": {"replicas": 3}}
    assert (merge[1], merge[3]) == (base, "application/merge-patch+json")
    assert status[1] == "/apis/chatbot-operator.dev/v1alpha1/namespaces/ns/chatbots/demo/status"
    assert status[3] == "application/json-patch+json"
    assert status[4] == [
        {"op": "test", "path": "/metadata/uid", "value": "u"},
        {"op": "add", "path": "/status", "value": {"phase": "mock"}},
    ]
    assert delete[4]["preconditions"] == {"uid": "u", "resourceVersion": "9"}
    assert delete[4]["propagationPolicy"] == "Background"
    assert create[:2] == ("POST", "/apis/events.k8s.io/v1/namespaces/ns/events")


def with_hook(hook: Any) -> Configuration:
    """Credentials that `hook` renews before each call, as the library does in a pod."""
    configuration = Configuration()
    configuration.api_key = {"BearerToken": "none"}
    configuration.refresh_api_key_hook = hook
    return configuration


async def test_each_call_carries_the_token_of_the_moment_and_goes_past_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    tokens = iter(("first", "second"))

    def renew(configuration: Any) -> None:
        configuration.api_key["BearerToken"] = f"bearer {next(tokens)}"

    configuration = with_hook(renew)
    seen: list[str] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response({})

    async with api(note, configuration=configuration) as (kube, _):
        await kube.get(POD_REF)
        await kube.get(POD_REF)
    assert seen == ["bearer first", "bearer second"]


async def test_a_token_that_cannot_be_read_is_trouble_of_the_infrastructure() -> None:
    def fail(_: Any) -> None:
        raise ConfigException("Token file exists but empty.")

    configuration = with_hook(fail)

    async def never(_: web.Request) -> web.Response:
        raise AssertionError("a call without its token")

    async with api(never, configuration=configuration) as (kube, calls):
        with pytest.raises(cluster.Transient):
            await kube.get(POD_REF)
    assert calls == [("get", "pods", 0)]


async def test_deleting_what_is_gone_is_no_error() -> None:
    async def gone(_: web.Request) -> web.Response:
        return status(404, "not found")

    async with api(gone) as (kube, _):
        await kube.delete(POD_REF, uid="u")


async def test_events_come_oldest_first() -> None:
    async def events(request: web.Request) -> web.Response:
        assert request.query["fieldSelector"] == "regarding.uid=u"
        stamps = ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z")
        return web.json_response({"items": [{"metadata": {"creationTimestamp": s}} for s in stamps]})

    async with api(events) as (kube, _):
        found = await kube.events_about("ns", "u")
    assert [e["metadata"]["creationTimestamp"][:10] for e in found] == ["2026-01-01", "2026-01-02"]


def test_names_are_escaped_in_paths() -> None:
    assert path(POD, "a/b", "c?d") == "/api/v1/namespaces/a%2Fb/pods/c%3Fd"
    assert path(DEPLOYMENT, None) == "/apis/apps/v1/deployments"
