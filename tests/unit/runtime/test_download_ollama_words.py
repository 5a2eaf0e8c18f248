"""What an Ollama server says of a pull, well or badly, and what is made of it: a server that says what a test likes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from chatbot_runtime.contract import DownloadReason
from chatbot_runtime.downloads.ollama import OllamaSource, reason_of
from tests.support.fetching import Told, is_so, refusal


@asynccontextmanager
async def speaking(*lines: str, status: int = 200, silent: bool = False, again: bool = False) -> AsyncIterator[str]:
    """A server that answers a pull with these very lines. `silent`: and does not end; `again`: and repeats them."""

    async def pull(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        while True:
            for line in lines:
                await response.write(f"{line}\n".encode())
            if not again:
                break
            await asyncio.sleep(0.05)  # as often as Ollama says where it is
        if silent:
            await asyncio.Event().wait()
        return response

    async def root(_: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    app = web.Application()
    app.add_routes([web.get("/", root), web.post("/api/pull", pull), web.delete("/api/delete", pull)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((), 200),
        (('{"status":"pulling manifest"}',), 200),
        (("no JSON",), 200),
        (("[1]",), 200),
        (('{"status":"' + "x" * 300_000 + '"}',), 200),
        (("busy",), 503),
        (('{"error":null}',), 500),
    ],
)
async def test_what_is_no_success_is_none(tmp_path: Path, lines: tuple[str, ...], status: int) -> None:
    async with speaking(*lines, status=status) as url:
        ours = OllamaSource(url, "", False, tmp_path, 5, 5)
        assert (await refusal(ours.fetch("tiny", Told()))).reason == "SourceUnreachable"
        await ours.close()


async def test_a_server_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async with speaking(silent=True) as url, asyncio.timeout(5):
        ours = OllamaSource(url, "", False, tmp_path, 0.3, 5)
        for work in (ours.fetch("tiny", Told()), ours.remove("tiny")):
            assert (await refusal(work)).reason == "SourceUnreachable"
        await ours.close()


async def test_lines_that_say_nothing_new_are_no_progress(tmp_path: Path) -> None:
    line = json.dumps({"status": "pulling 0", "digest": f"sha256:{'0' * 64}", "total": 9, "completed": 5})
    async with speaking(line, again=True) as url, asyncio.timeout(5):
        ours = OllamaSource(url, "", False, tmp_path, 0.3, 5)
        assert "silent" in str(await refusal(ours.fetch("tiny", Told())))
        await ours.close()


async def test_ollama_may_compare_digests_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatbot_runtime.downloads.ollama.HASHED_BYTES_PER_SECOND", 1)
    blob = json.dumps({"status": "pulling 0", "digest": f"sha256:{'0' * 64}", "total": 100, "completed": 100})
    async with speaking(blob, '{"status":"verifying sha256 digest"}', silent=True) as url:
        ours = OllamaSource(url, "", False, tmp_path, 0.2, 5)
        seen = Told()
        fetch = asyncio.create_task(ours.fetch("tiny", seen))
        await is_so(lambda: seen.verified, "the line has come")
        done, _ = await asyncio.wait({fetch}, timeout=1)
        assert not done
        fetch.cancel()
        await asyncio.wait({fetch})
        await ours.close()


async def test_a_model_that_cannot_be_removed_is_said(tmp_path: Path) -> None:
    said = "remove /models/manifests/registry.ollama.ai/library/tiny/latest: read-only file system"
    async with speaking(json.dumps({"error": said}), status=500) as url:
        ours = OllamaSource(url, "", False, tmp_path, 5, 5)
        error = await refusal(ours.remove("tiny"))
        await ours.close()
    assert error.reason == "DownloadFailed"
    assert "read-only" in str(error)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("pull model manifest: file does not exist", "ModelNotFound"),
        ("file does not exist", "SourceUnreachable"),
        ("pull model manifest: 401: {}", "TokenRejected"),
        ('pull model manifest: realm host "" does not match original host "r:1"', "TokenRejected"),
        ("pull model manifest: 403: {}", "AccessDenied"),
        ("pull model manifest: 412: a newer version of Ollama is needed", "DownloadFailed"),
        ('pull model manifest: 429: {"errors":[{"message":"no space left on device"}]}', "SourceUnreachable"),
        ("pull model manifest: 503: ", "SourceUnreachable"),
        ("500: ", "SourceUnreachable"),
        ('pull model manifest: Get "http://r:1/": dial tcp r:1: connect: connection refused', "SourceUnreachable"),
        ("dial tcp 10.0.0.1:443: connect: permission denied", "SourceUnreachable"),
        ("dial tcp: lookup r on 10.0.0.1:53: no such host", "SourceUnreachable"),
        ("EOF", "SourceUnreachable"),
        ("max retries exceeded: unexpected EOF", "SourceUnreachable"),
        ("write /models/blobs/sha256-0-partial: no space left on device", "StorageFull"),
        ("digest mismatch, file must be downloaded again: want sha256:0, got sha256:1", "DigestMismatch"),
        ("open /models/blobs/sha256-0-partial-0: read-only file system", "DownloadFailed"),
        ("mkdir /models/manifests/r: permission denied", "DownloadFailed"),
        ("http: no Location header in response", "DownloadFailed"),
        ("invalid model name", "ModelNotFound"),
        ("remove /models/blobs/sha256-0-partial-2: no such file or directory", "SourceUnreachable"),
    ],
)
def test_what_ollama_says_has_a_reason(said: str, reason: DownloadReason) -> None:
    assert reason_of(said) == reason


async def test_what_is_said_of_a_failure_lets_nobody_in(tmp_path: Path) -> None:
    said = 'Get "https://store.example/blob?X-Signature=secret": dial tcp: i/o timeout'
    async with speaking(json.dumps({"error": said})) as url:
        ours = OllamaSource(url, "", False, tmp_path, 5, 5)
        error = await refusal(ours.fetch("tiny", Told()))
        await ours.close()
    assert "insecure" not in str(error)
    assert "i/o timeout" in str(error)
    assert "store.example" in str(error)
    assert "secret" not in str(error)
