"""Completion of command lines: in shells by click; kubectl asks a program named kubectl_complete-chatbot.

It must never print an error: that would land in somebody's command line.
"""

import sys
from typing import Any

import click
from click.shell_completion import CompletionItem, ShellComplete

_NO_FILES = ":4"
"""What Cobra, on which kubectl is built, reads as: these are all, and no names of files."""


def complete_chatbots(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of Chatbots in the namespace that the command line names so far."""
    from kubectl_chatbot.client import Client
    from kubectl_chatbot.gather import chatbots

    given: dict[str, Any] = context.params
    try:
        client = Client(kubeconfig=given.get("kubeconfig"), context=given.get("context"))
        found = chatbots(client, given.get("namespace") or client.namespace)
    except Exception:  # whatever it is, there is nothing to offer
        return []
    names = (str(c["metadata"]["name"]) for c in found)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def kubectl() -> None:
    """The console script that kubectl asks: the words so far as arguments, the last one incomplete."""
    from kubectl_chatbot.cli import cli

    *words, incomplete = sys.argv[1:] or [""]
    for item in ShellComplete(cli, {}, "kubectl-chatbot", "").get_completions(words, incomplete):
        print(f"{item.value}\t{item.help}" if item.help else item.value)
    print(_NO_FILES)
