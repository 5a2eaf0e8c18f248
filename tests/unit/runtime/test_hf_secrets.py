"""The provider's token is seen by nobody but the provider: a canary, with a provider that repeats what it is sent."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import aiohttp
import pytest

from chatbot_runtime.app import build
from chatbot_runtime.config import Config
from chatbot_runtime.providers.upstream import Exchange, Upstream
from tests.support.hosted import Hosted, hosted
from tests.support.router import Router
from tests.support.runtime_process import CHAT, question, until

CANARY = "hf_canary5c1f9ad27b"
SECOND = f"{CANARY}second"
NOT_LIKE_ONE = "canary.5c1f9ad27b/own+server=="
"""A token of another server, which no pattern knows."""


def shown(hf: Hosted) -> Iterator[bytes]:
    """All that a client or an operator gets to see, whatever the provider does."""
    for name, how in (
        ("ok", {}),
        ("echo", {"status": 400}),
        ("echo", {"status": 401}),
        ("echo", {"status": 403}),
        ("echo", {"status": 429}),
        ("echo", {"status": 500}),
        ("status", {"status": 401}),
        ("redirect", {"location": f"http://localhost:9/?{CANARY}"}),
        ("content_type", {"type": f"text/{CANARY}"}),
        ("status", {"status": 500, "body": {"error": {"message": CANARY * 40, "code": CANARY}}}),
        ("status", {"status": 400, "body": {"error": {"message": f"key {CANARY}", "code": CANARY, "param": CANARY}}}),
        ("status", {"status": 400, "body": {"error": f"Bearer {CANARY}"}}),
        ("stall", {"at": "headers"}),
        ("cut", {"at": "middle"}),
    ):
        hf.router.behave(name, **how)
        for stream in (True, False):
            for path in (CHAT, "/v1/embeddings"):
                reply = hf.process.request("POST", path, question(stream=stream))
                yield repr(reply.headers).encode() + reply.body
        for path in ("/status", "/metrics", "/readyz"):
            yield hf.process.internal(path).body
        yield hf.process.request("GET", "/v1/status").body


def seen_by_all(hf: Hosted) -> list[bytes]:
    found = list(shown(hf))
    found += [Path(f"/proc/{hf.process.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    return found


def test_the_token_is_shown_nowhere(tmp_path: Path) -> None:
    with Router() as router:
        router.tokens = {token: {"role": "read", "permissions": []} for token in (CANARY, SECOND)}
        with hosted(tmp_path, router=router, token=CANARY, log_level="debug", refused_seconds=0.01) as hf:
            hf.ready()
            found = seen_by_all(hf)
            hf.give(SECOND)
            router.behave()
            until(lambda: hf.process.ask().status == 200, "it goes on")
            hf.give(f"{CANARY} broken")
            until(lambda: hf.process.status()["token"] == "unreadable", "the broken token is seen")
            found += [hf.process.ask().body, hf.process.internal("/status").body]
            log = "\n".join(hf.process.lines)
        assert any(CANARY in str(request["headers"]) for request in router.requests)
    assert [text for text in found if b"canary" in text.lower()] == []
    assert "canary" not in log.lower()
    assert '"level":"debug"' in log


def test_a_token_that_looks_like_none_is_shown_nowhere(tmp_path: Path) -> None:
    with Router() as router:
        router.tokens = {NOT_LIKE_ONE: {"role": "read", "permissions": []}}
        with hosted(tmp_path, router=router, token=NOT_LIKE_ONE, server="openai", refused_seconds=0.01) as hf:
            hf.ready()
            found = [text for text in seen_by_all(hf) if NOT_LIKE_ONE.encode() in text]
            log = "\n".join(hf.process.lines)
    assert found == []
    assert NOT_LIKE_ONE not in log


def test_the_token_is_not_shown_while_a_pod_asks_why_it_was_refused(tmp_path: Path) -> None:
    with Router() as router:
        router.behave("echo", status=403)
        router.tokens = {CANARY: {"role": f"read {CANARY}", "permissions": []}}
        with hosted(tmp_path, router=router, token=CANARY, log_level="debug", models="org/none") as hf:
            until(lambda: "does not exist" in hf.process.status()["verification"]["message"], "the Hub has been asked")
            found = hf.process.internal("/status").body + "\n".join(hf.process.lines).encode()
    assert b"canary" not in found.lower()


def test_check_does_not_show_the_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(CANARY)
    with Router() as router:
        router.tokens = {CANARY: {"role": CANARY, "permissions": []}}
        for server, state, output in (
            ("router", 0, "text"),
            ("router", 401, "json"),
            ("openai", 0, "json"),
            ("openai", 401, "text"),
        ):
            router.hub_status = state
            router.behave("echo" if state else "ok", status=state or 200)
            ended = subprocess.run(
                [sys.executable, "-m", "chatbot_runtime", "check", "--output", output, "--model", "org/tiny"],
                env=os.environ
                | {"HF_ENDPOINT": router.hub, "CHATBOT_BASE_URL": router.url, "CHATBOT_SERVER": server}
                | {"CHATBOT_ALLOWED_HOSTS": "127.0.0.1", "CHATBOT_TOKEN_FILE": str(token), "NO_PROXY": "*"},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert ended.returncode == (1 if state else 0), ended.stderr
            assert "canary" not in (ended.stdout + ended.stderr).lower()


async def test_no_part_shows_the_token_when_it_is_printed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(CANARY)
    runtime = build(Config(phase="hf", models=("org/tiny",), token_file=tmp_path / "token"))
    hosted_parts = runtime.hosted
    assert hosted_parts is not None
    assert hosted_parts.token.value == CANARY
    upstream = cast("Upstream", hosted_parts.provider)
    exchange = Exchange(cast("aiohttp.ClientResponse", None), 0, CANARY)
    parts = [runtime, runtime.config, hosted_parts, hosted_parts.token, upstream, upstream.route, exchange]
    assert not any(CANARY in repr(part) + str(part) for part in parts)
    assert CANARY not in json.dumps(runtime.status().model_dump(mode="json"))


@pytest.mark.parametrize(
    "prompt", ["You are Zorgblat.", 'Line one\nis "quoted".\tAnd then some more of the same.', "ünï😀code prompt"]
)
@pytest.mark.parametrize("status", [400, 500])
def test_a_server_that_repeats_the_request_does_not_give_the_system_prompt_away(
    hf: Hosted, prompt: str, status: int
) -> None:
    process = hf.use(systemPrompt=prompt)
    for behaviour in ("echo", "status"):
        said = {"error": {"message": f"cannot read: {prompt}"}}
        hf.router.behave(behaviour, status=status, body=said if behaviour == "status" else None)
        for stream in (False, True):
            reply = process.ask(stream=stream)
            assert reply.status == (400 if status == 400 else 503)
            assert prompt[:9].encode() not in reply.body
            assert "not shown" in reply.error["message"]
    hf.router.behave("status", status=400, body={"error": {"message": "max_tokens is too large"}})
    assert "max_tokens is too large" in process.ask().error["message"], "other words of the server are passed on"
