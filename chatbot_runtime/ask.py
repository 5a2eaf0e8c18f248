"""Questions from a terminal or a script, to any OpenAI-compatible server.

It must not know the server's insides, nor how it is reached: handlers of urllib do.
"""

import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

ANSWERED, REFUSED, UNREACHABLE, BROKEN_OFF = 0, 1, 3, 4
EXIT_CODES = """\
exit codes:
  0    answered
  1    the server refused, or could not answer
  2    wrong arguments
  3    the server cannot be reached, or did not answer in time
  4    the answer began and broke off
  130  stopped by Ctrl-C"""


Message = dict[str, str]
"""One turn of a conversation: its `role` and its `content`."""

_NOT_READY = {502, 503, 504}
_AGAIN_SECONDS = 0.5
"""Between two tries at a server that is not there yet."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: followed, it would take the API key to another host."""

    def redirect_request(self, *_: object) -> None:
        """Not followed."""


class AskError(Exception):
    """No answer, or only part of one; `code` is the exit code."""

    def __init__(self, code: int, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass
class Reply:
    """What came back."""

    answer: str = ""
    model: str = ""
    phase: str | None = None
    fallback: str | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    request_id: str | None = None
    seconds: float = 0
    pieces: int = field(default=0, repr=False)


def ask(
    question: str,
    *,
    url: str,
    api_key_file: Path | None = None,
    model: str = "",
    stream: bool = True,
    output: str = "text",
    timeout: float = 300,
    wait: float = 0,
) -> int:
    """Asks, and writes the answer to standard output. Returns the exit code.

    `output`: `text`, or `json` for one object. `timeout`: longest silence of the server, in seconds. `wait`: seconds in
    which a server that cannot be reached or is not ready yet is asked again.
    """
    reply = Reply()
    begun = time.monotonic()
    try:
        request = request_of([{"role": "user", "content": question}], url, key_in(api_key_file), model, stream)
        for piece in _once_there(partial(pieces, request, reply, stream, timeout), begun + wait):
            if output == "text":
                print(piece, end="", flush=True)
    except AskError as error:
        _fail(error, reply, output)
        return error.code
    reply.seconds = round(time.monotonic() - begun, 3)
    if output == "json":
        print(json.dumps({name: value for name, value in vars(reply).items() if name != "pieces"}))
    else:
        print()
        if sys.stderr.isatty():
            print(footer(reply), file=sys.stderr)
    return ANSWERED


def _fail(error: AskError, reply: Reply, output: str) -> None:
    if output == "json":
        facts = {"message": str(error), "status": error.status, "request_id": reply.request_id}
        print(json.dumps({"error": facts, "answer": reply.answer}))
        return
    if reply.answer:
        print()
    print(f"error: {error}", file=sys.stderr)


def footer(reply: Reply) -> str:
    """Who answered, in one line."""
    facts = [reply.model]
    if reply.phase:
        facts.append(f"phase {reply.phase}")
    if reply.fallback:
        facts.append(f"fallback: {reply.fallback}")
    if reply.usage:
        facts.append(f"{reply.usage.get('completion_tokens')} tokens")
    return f"({', '.join(facts)}, {reply.seconds:.1f} s)"


def key_in(file: Path | None) -> str | None:
    """The API key in a file. Raises AskError."""
    if file is None:
        return None
    try:
        key = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise AskError(2, f"--api-key-file: {file} cannot be read: {why}") from None
    return usable(key, f"--api-key-file: {file}")


def usable(key: str, where: str) -> str:
    """The key, if it can be sent. Raises AskError, which names where it came from and never the key."""
    if not key or not key.isascii() or not key.isprintable():
        raise AskError(2, f"{where} must hold one line of printable ASCII")
    return key


def request_of(
    messages: Sequence[Message], url: str, key: str | None, model: str, stream: bool
) -> urllib.request.Request:
    """The request that asks for the next answer of a conversation. Raises AskError."""
    base = url.rstrip("/").removesuffix("/v1")
    if not base.startswith(("http://", "https://")):
        raise AskError(2, f"--url: {url!r} must begin with http:// or https://")
    body: dict[str, Any] = {"messages": list(messages), "stream": stream}
    if model:
        body["model"] = model
    if stream:
        body["stream_options"] = {"include_usage": True}
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream" if stream else "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return urllib.request.Request(  # noqa: S310 - the scheme was checked
        f"{base}/v1/chat/completions", json.dumps(body).encode(), headers
    )


def pieces(
    request: urllib.request.Request,
    reply: Reply,
    stream: bool,
    timeout: float,
    *handlers: urllib.request.BaseHandler,
) -> Iterator[str]:
    """The answer as it comes; `reply` is filled in meanwhile. `handlers` make the connection. Raises AskError."""
    try:
        with urllib.request.build_opener(NoRedirect, *handlers).open(request, timeout=timeout) as response:
            reply.request_id = response.headers.get("x-request-id")
            for piece in _streamed(response, reply) if stream else _whole(response, reply):
                reply.answer += piece
                yield piece
    except urllib.error.HTTPError as error:
        with error:
            reply.request_id = error.headers.get("x-request-id")
            raise AskError(REFUSED, _refusal(error), error.code) from None
    except (OSError, http.client.HTTPException) as error:
        if reply.answer:
            raise AskError(BROKEN_OFF, f"the connection broke off: {error}") from None
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise AskError(UNREACHABLE, f"no answer from {request.host} within {timeout:g} s") from None
        why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise AskError(
            UNREACHABLE, f"{request.host} cannot be reached: {why}. Is it running, is --url right?"
        ) from None


def _once_there(ask_once: Callable[[], Iterator[str]], end: float) -> Iterator[str]:
    """The pieces of the first try that is not made too early; the last one counts in any case."""
    while True:
        try:
            yield from ask_once()
            return
        except AskError as error:
            early = error.code == UNREACHABLE or error.status in _NOT_READY
            if not early or time.monotonic() + _AGAIN_SECONDS > end:
                raise
            time.sleep(_AGAIN_SECONDS)  # who starts a server at that moment does not tell us


def _streamed(response: BinaryIO, reply: Reply) -> Iterator[str]:
    for line in response:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        event = _json(data)
        if "error" in event:
            raise AskError(BROKEN_OFF if reply.answer else REFUSED, str(event["error"].get("message")))
        _note(reply, event)
        for choice in event.get("choices") or ():
            reply.finish_reason = choice.get("finish_reason") or reply.finish_reason
            if content := (choice.get("delta") or {}).get("content"):
                yield content
    raise AskError(BROKEN_OFF, "the answer ended before it was complete")


def _whole(response: BinaryIO, reply: Reply) -> Iterator[str]:
    event = _json(response.read())
    _note(reply, event)
    for choice in event.get("choices") or ():
        reply.finish_reason = choice.get("finish_reason")
        yield (choice.get("message") or {}).get("content") or ""


def _note(reply: Reply, event: dict[str, Any]) -> None:
    reply.model = event.get("model") or reply.model
    reply.usage = event.get("usage") or reply.usage
    if chatbot := event.get("chatbot"):
        reply.phase, reply.fallback = chatbot.get("phase"), chatbot.get("fallback")


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise AskError(REFUSED, "the server's answer is not that of an OpenAI-compatible API: is --url right?")
    return value


def _refusal(error: urllib.error.HTTPError) -> str:
    """The server's own words if it has some, and when to try again."""
    try:
        message = str(json.loads(error.read(65_536))["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError):
        message = str(error.reason)
    retry = error.headers.get("Retry-After")
    return f"{message} (HTTP {error.code}{f', try again in {retry} s' if retry else ''})"
