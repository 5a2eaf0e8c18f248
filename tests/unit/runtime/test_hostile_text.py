"""Hostile text in names, settings and questions stays text: it reaches no header and breaks no stream of events."""

import itertools
import json
import re
from collections.abc import Iterator

import pytest

from tests.support.runtime_process import CHAT, FAST, RuntimeProcess, chat_bytes, events, question, read_until

PIECES = (
    "\r\n", "\n\n", "\r", "\0", "\x85", "\N{LINE SEPARATOR}", "\x1b[31m", "\N{RIGHT-TO-LEFT OVERRIDE}",
    "\N{ROBOT FACE}", "data: [DONE]", "data: {}", "event: x", ": ping", "Set-Cookie: a=b", "X-Injected: 1",
    "HTTP/1.1 200 OK", "Content-Length: 0", "</script><script>", "${jndi:ldap://x}", "%0d%0aX-Injected:1",
    "$(id)", "`id`", "'; --", "{{7*7}}", "../../etc/passwd",
)  # fmt: skip
HOSTILE = tuple(f"evil{first}{second}evil" for first, second in itertools.product(PIECES, PIECES))
NAME = "evil\r\nX-Injected: 1\r\n\r\ndata: [DONE]\n\n<\N{ROBOT FACE}>evil"  # no NUL: it comes by the environment
HEADERS = {
    b"content-type": rb"(application/json|text/event-stream)(; charset=utf-8)?",
    b"content-length": rb"\d+",
    b"transfer-encoding": rb"chunked",
    b"date": rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT",
    b"cache-control": rb"no-cache",
    b"x-accel-buffering": rb"no",
    b"x-request-id": rb"[0-9a-f]{32}",
    b"x-chatbot-phase": rb"mock",
    b"allow": rb"[A-Z, ]+",
}


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """A runtime whose name, replies and system prompt are hostile."""
    settings = tmp_path_factory.mktemp("evil") / "settings.json"
    mock = FAST["mock"] | {"replies": HOSTILE}
    settings.write_text(json.dumps(FAST | {"mock": mock, "systemPrompt": "".join(HOSTILE)}))
    with RuntimeProcess(name=NAME, settings_file=settings) as process:
        yield process
        assert not [line for line in process.lines if "Traceback" in line]


def head_is_clean(head: bytes) -> None:
    """Only headers that we know, with values that we make."""
    status, *lines = head.split(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 \d{3} [A-Za-z -]+", status), status
    for line in lines:
        name, _, value = line.partition(b": ")
        pattern = HEADERS.get(name.lower())
        assert pattern, f"unexpected header {line!r}"
        assert re.fullmatch(pattern, value), line


def test_there_are_enough_hostile_strings() -> None:
    assert len(set(HOSTILE)) >= 500


def test_questions_and_replies_reach_no_header_and_break_no_stream(evil: RuntimeProcess) -> None:
    seen = set()
    with evil.connect() as connection:
        for text in HOSTILE:
            connection.sendall(chat_bytes(question(text, stream=True)))
            head, _, body = read_until(connection, b"0\r\n\r\n").partition(b"\r\n\r\n")
            head_is_clean(head)
            said = events(dechunked(body))
            assert said.count("[DONE]") == 1
            assert said[-1] == "[DONE]"
            reply = "".join(event["choices"][0]["delta"].get("content", "") for event in said[:-1])
            assert reply in HOSTILE
            seen.add(reply)
    assert len(seen) > 300  # which reply comes is decided by a hash of the question


def dechunked(body: bytes) -> bytes:
    """The body of a chunked answer."""
    whole = b""
    while body:
        length, _, rest = body.partition(b"\r\n")
        whole += rest[: int(length, 16)]
        body = rest[int(length, 16) + 2 :]
    return whole


@pytest.mark.parametrize("field", ["model", "role", "stop"])
def test_other_fields_reach_no_header(evil: RuntimeProcess, field: str) -> None:
    with evil.connect() as connection:
        for text in HOSTILE[::5]:
            body = question() | {field: text} if field != "role" else {"messages": [{"role": text, "content": "x"}]}
            connection.sendall(chat_bytes(body))
            head, _, _ = read_until(connection, b"}}").partition(b"\r\n\r\n")
            head_is_clean(head)


def test_the_chatbots_name_reaches_no_header(evil: RuntimeProcess) -> None:
    requests = [b"GET /v1/models HTTP/1.1", b"GET /v1/status HTTP/1.1", b"GET /v1/none HTTP/1.1"]
    for request in requests:
        with evil.connect() as connection:
            connection.sendall(request + b"\r\nHost: x\r\n\r\n")
            head, _, _ = read_until(connection, b"}").partition(b"\r\n\r\n")
            head_is_clean(head)
    reply = evil.request("POST", CHAT, question(model=NAME))
    assert reply.status == 200
    assert evil.internal("/metrics").status == 200
