"""Asks an Ollama server, and a registry of two models for it. No test logic here."""

import http.client
import json
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.ollama_process import Ollama
from tests.support.ollama_registry import Registry, model_bytes
from tests.support.runtime_process import Reply

HELLO = " Hello from a tiny test model."
SLOW = "".join(f" w{number:03}" for number in range(1, 401))
ASK = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"
JSON, JSON8, TEXT, LINES = "application/json", "application/json; charset=utf-8", "text/plain", "application/x-ndjson"


def stand_in_registry() -> Registry:
    """A registry, not started, with a model that answers at once and one that is slow to load and to speak."""
    return Registry({"tiny": HELLO, "slow": model_bytes(SLOW, 200_000, load_seconds=0.3, tokens_per_second=100)})


def started(folder: Path, registry: Registry, **environ: str) -> Ollama:
    """A server that has the models, by the names of Ollama's own registry too, as after a copy."""
    ollama = Ollama(folder, environ=environ)
    ollama.start()
    for name in ("tiny", "slow"):
        assert pulled(ollama, registry, name)[-1] == '{"status":"success"}'
    manifests = ollama.models / "manifests"
    shutil.copytree(manifests / registry.host, manifests / "registry.ollama.ai")
    return ollama


@contextmanager
def closing(ollama: Ollama) -> Iterator[Ollama]:
    try:
        yield ollama
    finally:
        if ollama.process.poll() is None:
            ollama.end(signal.SIGKILL)


def ask(ollama: Ollama, method: str, path: str, body: object = None, **headers: str) -> Reply:
    """One request; `body`: text as it is, or a value sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", ollama.port, timeout=20)
    try:
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        connection.request(method, path, text, headers)
        response = connection.getresponse()
        return Reply(response.status, response.getheaders(), response.read())
    finally:
        connection.close()


def chat(ollama: Ollama, model: str = "tiny", **more: Any) -> Reply:
    return ask(ollama, "POST", CHAT, {"model": model, "messages": ASK, **more})


def begun(ollama: Ollama, path: str, **body: Any) -> socket.socket:
    """A connection on which was asked, for an answer that comes bit by bit."""
    connection = socket.create_connection(("127.0.0.1", ollama.port), timeout=20)
    text = json.dumps(body)
    headers = f"Host: localhost\r\nConnection: close\r\nContent-Length: {len(text)}"
    connection.sendall(f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n{text}".encode())
    return connection


def plain(text: bytes | str) -> str:
    """Without what differs from one time to the next."""
    text = text if isinstance(text, str) else text.decode()
    text = re.sub(r'"chatcmpl-\d+"', '"chatcmpl-N"', text)
    text = re.sub(r'"(created|size|\w+_duration)":\d+', r'"\1":N', text)
    text = re.sub(r'"(created_at|modified_at)":"[\dT:.-]+Z"', r'"\1":"T"', text)
    return re.sub(r'"digest":"[0-9a-f]{64}"', '"digest":"D"', text)


def pulled(ollama: Ollama, registry: Registry, name: str, **more: Any) -> list[str]:
    """The lines of a pull."""
    body = {"model": f"{registry.host}/library/{name}:latest", "insecure": True, **more}
    reply = ask(ollama, "POST", "/api/pull", body)
    assert (reply.status, reply.header("content-type")) == (200, LINES)
    return reply.body.decode().splitlines()


def digests(registry: Registry, name: str) -> list[str]:
    manifest = json.loads(registry.manifests[f"library/{name}:latest"])
    return [layer["digest"] for layer in (*manifest["layers"], manifest["config"])]
