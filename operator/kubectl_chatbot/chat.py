"""A conversation in the terminal, through the API server to a pod. It must not know how answers are made."""

import getpass
import http.client
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from chatbot_runtime.ask import (
    REFUSED,
    UNREACHABLE,
    AskError,
    Message,
    Reply,
    footer,
    key_in,
    pieces,
    request_of,
    usable,
)

KEY_VARIABLE = "CHATBOT_API_KEY"
_HOST = "http://pod"
"""Names nobody: the connection is there already."""

Dial = Callable[[], socket.socket]


class NoPod(AskError):
    """There is no connection to a pod; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__(UNREACHABLE, message)


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, *, dial: Dial, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._dial = dial

    def connect(self) -> None:
        """Takes the connection through the API server."""
        self.sock = self._dial()
        self.sock.settimeout(self.timeout)


class _Handler(urllib.request.HTTPHandler):
    """Has urllib speak over such connections."""

    def __init__(self, dial: Dial) -> None:
        super().__init__()
        self._dial = dial

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Connection, dial=self._dial), req)


def api_key(file: Path | None, *, prompt: bool) -> str | None:
    """The API key from a file, a prompt or the environment, in this order. Raises AskError."""
    if file is not None:
        return key_in(file)
    if prompt:
        return usable(getpass.getpass("API key: ").strip(), "the API key")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    return usable(key, KEY_VARIABLE) if key else None


class Conversation:
    """Questions and answers so far; each question goes over a connection of its own, so that a pod may go meanwhile."""

    def __init__(self, dial: Dial, *, key: str | None, model: str, timeout: float) -> None:
        self._dial, self._key, self._model, self._timeout = dial, key, model, timeout
        self.messages: list[Message] = []
        self.reply = Reply()

    def ask(self, question: str) -> Iterator[str]:
        """The answer as it comes. What came before it broke off or was stopped stays in the conversation; a question
        that nobody began to answer does not. Raises AskError."""
        self.reply, begun = Reply(), time.monotonic()
        asked = [*self.messages, {"role": "user", "content": question}]
        request = request_of(asked, _HOST, self._key, self._model, True)
        without_proxy = urllib.request.ProxyHandler({})
        try:
            yield from pieces(request, self.reply, True, self._timeout, _Handler(self._dial), without_proxy)
        except AskError as error:
            if error.code == UNREACHABLE and not isinstance(error, NoPod):
                raise AskError(UNREACHABLE, "the pod did not answer; kubectl chatbot status says how it is") from None
            if error.code == REFUSED and error.status == 401:
                told = f"{error} Give one by --api-key-file, --api-key-prompt or {KEY_VARIABLE}"
                raise AskError(REFUSED, told, error.status) from None
            raise
        finally:
            self.reply.seconds = round(time.monotonic() - begun, 3)
            if self.reply.answer:
                self.messages = [*asked, {"role": "assistant", "content": self.reply.answer}]

    def who(self) -> str:
        """Who answered last, in one line."""
        return footer(self.reply)
