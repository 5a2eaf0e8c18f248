"""An API key is seen by nobody but the process that holds it: a canary in every place where one may be given."""

import json
from collections.abc import Iterator
from pathlib import Path

from tests.support.runtime_process import CHAT, FAST, RuntimeProcess, chat_bytes, question, read_all, until

CANARY = "canary-5c1f9ad27b"
WRONG = f"{CANARY}-mistyped"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def answers(process: RuntimeProcess) -> Iterator[bytes]:
    """All that a client gets to see, heads and bodies, for keys good and bad in places right and wrong."""
    given = [bearer(CANARY), bearer(WRONG), bearer(f"{CANARY} {CANARY}"), {"Authorization": CANARY}]
    given += [{"Authorization": f"Basic {CANARY}"}, {"X-Api-Key": CANARY}, {"Cookie": f"key={CANARY}"}]
    for headers in given:
        with_origin = headers | {"Origin": "https://chat.example"}
        for method, path, body in (
            ("POST", CHAT, question(stream=True)),
            ("POST", CHAT, question()),
            ("POST", CHAT, b"no JSON"),
            ("POST", "/v1/embeddings", {}),
            ("GET", "/v1/models", None),
            ("GET", f"/v1/status?key={CANARY}", None),
            ("GET", f"/v1/{CANARY}", None),
            ("DELETE", f"/v1/models?key={CANARY}", None),
        ):
            reply = process.request(method, path, body, with_origin)
            yield repr(reply.headers).encode() + reply.body
    secret = CANARY.encode()
    for raw in (
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret + b"\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization Bearer " + secret + b"\r\n\r\n",
        b"GET /?" + secret + b" HTTP/9.9\r\n\r\n",
        b"Bearer " + secret + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer " + secret,  # never finished
        chat_bytes(b"{", f"Authorization: Bearer {CANARY}", "Expect: " + CANARY),
        chat_bytes(question(), f"Authorization: Bearer {CANARY}", "Connection: close").replace(b"1.1", b"1.0", 1),
    ):
        with process.connect() as connection:
            connection.sendall(raw)
            connection.shutdown(1)
            yield read_all(connection)


def test_no_key_is_shown_anywhere(tmp_path: Path) -> None:
    settings, keys = tmp_path / "settings.json", tmp_path / "keys"
    access = FAST["access"] | {"mode": "APIKey", "corsOrigins": ["*"]}
    settings.write_text(json.dumps(FAST | {"access": access}))
    keys.mkdir()
    (keys / "alice").write_text(CANARY)
    (keys / "broken").write_text(CANARY * 1000)  # too long, which is logged
    with RuntimeProcess(
        settings_file=settings, keys_dir=keys, log_level="debug", poll_seconds=0.05, header_seconds=1
    ) as process:
        shown = list(answers(process))
        (keys / "alice").write_text(f"{CANARY}-new")
        until(lambda: process.ask(headers=bearer(f"{CANARY}-new")).status == 200, "the new key is known", 5)
        shown += [process.internal(path).body for path in ("/status", "/metrics", "/livez", "/readyz", "/none")]
        shown += [Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    shown += [line.encode() for line in process.lines]
    everything = b"\n".join(shown)
    assert b'"client":"alice"' in everything
    assert b'"level":"debug"' in everything
    assert [text for text in shown if b"canary" in text.lower()] == []
