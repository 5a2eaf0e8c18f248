"""`kubectl chatbot ask`."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from chatbot_operator.api import Chatbot
from chatbot_operator.cluster import ClusterError
from chatbot_operator.desired.service import HTTP_PORT
from chatbot_operator.kinds import POD
from chatbot_operator.names import CHATBOT_LABEL
from chatbot_runtime.ask import AskError
from kubectl_chatbot import gather, pods, screen, status
from kubectl_chatbot.chat import Conversation, Dial, NoPod, api_key
from kubectl_chatbot.client import Client

STOPPED = 130


def run(
    client: Client,
    namespace: str,
    name: str | None,
    question: str | None,
    *,
    as_json: bool,
    model: str,
    api_key_file: Path | None,
    api_key_prompt: bool,
    timeout: float,
) -> int:
    """One answer, or a conversation."""
    chatbot = gather.parsed(gather.raw_chatbot(client, namespace, name))
    try:
        key = api_key(api_key_file, prompt=api_key_prompt)
        talk = Conversation(_dial(client, chatbot), key=key, model=model, timeout=timeout)
        if question is None:
            return _converse(talk, chatbot, as_json=as_json)
        return _once(talk, sys.stdin.read() if question == "-" else question, as_json=as_json)
    except AskError as error:
        if as_json:
            screen.as_json({"error": {"message": str(error), "status": error.status}})
        else:
            screen.tell(f"error: {error}", "red")
        return error.code


def _dial(client: Client, chatbot: Chatbot) -> Dial:
    """Connects to a pod that can answer now: another one than before, if that has gone."""
    namespace, name = chatbot.metadata.namespace, chatbot.metadata.name

    def dial() -> socket.socket:
        found = client.list(POD, namespace, {"labelSelector": f"{CHATBOT_LABEL}={name}"})
        serving = gather.parsed(gather.raw_chatbot(client, namespace, name)).status.serving_phase
        names = pods.answering(found, serving)
        if not names:
            raise NoPod(f"no backend pod of {name} is ready. See: kubectl chatbot status {name}")
        return client.dial(namespace, names[0], HTTP_PORT)

    def reached() -> socket.socket:
        try:
            return dial()
        except ClusterError as error:
            raise NoPod(error.message) from None

    return reached


def _once(talk: Conversation, question: str, *, as_json: bool, line: bool = False) -> int:
    pieces = talk.ask(question)
    if as_json:
        for _ in pieces:
            pass
        screen.as_json({k: v for k, v in vars(talk.reply).items() if k != "pieces"}, line=line)
        return 0
    _print(pieces)
    if sys.stderr.isatty():
        screen.tell(talk.who(), "dim")
    return 0


def _print(pieces: Iterator[str]) -> None:
    """As it comes, and always with an end of line."""
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
    finally:
        print(flush=True)


def _converse(talk: Conversation, chatbot: Chatbot, *, as_json: bool) -> int:
    """Until the input ends. On a terminal with a prompt; from a file each line is a question."""
    interactive, code = sys.stdin.isatty(), 0
    if interactive:
        serving = status.serving(chatbot)
        screen.tell(f"{chatbot.metadata.name} serves phase {serving}. Ctrl-C stops an answer, Ctrl-D ends.", "dim")
    for question in _questions(interactive=interactive):
        try:
            _once(talk, question, as_json=as_json, line=True)
            code = 0
        except AskError as error:
            screen.tell(f"error: {error}", "red")
            code = error.code
        except KeyboardInterrupt:
            if not interactive:
                return STOPPED
            screen.tell("(stopped)", "dim")
    return 0 if interactive else code


def _questions(*, interactive: bool) -> Iterator[str]:
    """What is typed. Ctrl-C at the prompt throws the line away; Ctrl-D ends."""
    if interactive:
        import readline  # noqa: F401 - gives `input` its editing and its history
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except EOFError:
            if interactive:
                print()
            return
        except KeyboardInterrupt:
            if not interactive:
                raise
            print()
            continue
        if line:
            yield line
