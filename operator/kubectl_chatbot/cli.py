"""The command line: arguments, exit codes, and which part does what. It decides nothing itself."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

from chatbot_operator.api import Phase
from chatbot_operator.cluster import ClusterError, Forbidden, Invalid
from kubectl_chatbot import screen
from kubectl_chatbot.client import Client, NoCluster
from kubectl_chatbot.commands import ask as asking
from kubectl_chatbot.commands import cost as costing
from kubectl_chatbot.commands import doctor as looking
from kubectl_chatbot.commands import logs as reading
from kubectl_chatbot.commands import status as showing
from kubectl_chatbot.commands import switch as switching
from kubectl_chatbot.completion import complete_chatbots
from kubectl_chatbot.gather import Missing
from kubectl_chatbot.logs import Wish
from kubectl_chatbot.settings import InvalidPrices

DONE, NOT_SO, USAGE, UNREACHABLE, STOPPED = 0, 1, 2, 3, 130
EXIT_CODES = """\b
Exit codes:
  0    done
  1    it is not so: no such Chatbot, a failed check, a refused switch, no answer
  2    wrong arguments
  3    the cluster or the pod cannot be reached
  4    an answer began and broke off
  130  stopped by Ctrl-C"""

Command = Callable[..., int]


@dataclass(frozen=True)
class Target:
    """What every command is told: which cluster and namespace, and how to print."""

    client: Client
    namespace: str
    as_json: bool


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(package_name="chatbot-operator", message="%(version)s")
def cli() -> None:
    """Look at Chatbots, talk to them and move them from phase to phase."""


def _common(command: Command) -> Command:
    """The options that every command has, as kubectl names them."""

    def run(*, kubeconfig: str | None, context: str | None, namespace: str | None, output: str, **rest: Any) -> int:
        client = Client(kubeconfig=kubeconfig, context=context)
        return command(Target(client, namespace or client.namespace, output == "json"), **rest)

    run.__doc__, run.__name__ = command.__doc__, command.__name__
    decorated: Any = run
    for option in (
        click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json: for scripts."),
        click.option("--kubeconfig", help="The kubeconfig to use. Default: KUBECONFIG, or ~/.kube/config."),
        click.option("--context", help="The kubeconfig's context to use."),
        click.option("-n", "--namespace", help="Namespace. Default: the context's."),
    ):
        decorated = option(decorated)
    wrapped: Command = decorated
    return wrapped


_name = click.argument("name", required=False, shell_complete=complete_chatbots)


@cli.command()
@_name
@click.option("-A", "--all-namespaces", is_flag=True, help="List the Chatbots of all namespaces.")
@_common
def status(target: Target, name: str | None, all_namespaces: bool) -> int:
    """Show how a Chatbot is, on one screen; without NAME list them."""
    if name is None:
        return showing.list_all(target.client, None if all_namespaces else target.namespace, as_json=target.as_json)
    return showing.show(target.client, target.namespace, name, as_json=target.as_json)


@cli.command()
@_name
@click.argument("question", required=False)
@click.option("--model", default="", help="A model of the Chatbot. Default: its first.")
@click.option("--api-key-file", type=click.Path(path_type=Path), help="File with the API key.")
@click.option("--api-key-prompt", is_flag=True, help="Ask for the API key. Default: CHATBOT_API_KEY, if it is set.")
@click.option("--timeout", type=click.FloatRange(min=1), default=300, help="Longest silence, in seconds.")
@_common
def ask(target: Target, name: str | None, question: str | None, **how: Any) -> int:
    """Talk to a Chatbot through a port-forward to one of its pods.

    With QUESTION one answer; without it a conversation: Ctrl-C stops an answer, Ctrl-D ends. With - as QUESTION it is
    read from standard input.
    """
    return asking.run(target.client, target.namespace, name, question, as_json=target.as_json, **how)


@cli.command()
@click.argument("phase", type=click.Choice(["mock", "hf", "local"]))
@_name
@click.option("--dry-run", is_flag=True, help="Only show what would change and what is missing.")
@click.option("--force", is_flag=True, help="Switch although something is missing.")
@click.option("--wait/--no-wait", default=True, help="Wait until the new phase serves.")
@click.option("--timeout", type=click.FloatRange(min=1), default=1800, help="Longest wait, in seconds.")
@_common
def switch(target: Target, phase: Phase, name: str | None, **how: Any) -> int:
    """Move a Chatbot to another phase: shows what changes, then waits until it serves."""
    return switching.run(target.client, target.namespace, name, phase, as_json=target.as_json, **how)


@cli.command()
@_name
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, also of new pods.")
@click.option("--component", type=click.Choice(["backend", "web", "download"]), help="Only these pods.")
@click.option("-c", "--container", default="", help="Only containers of this name.")
@click.option("--tail", type=click.IntRange(min=0), help="So many last lines of each container. Default: all.")
@click.option("--since", type=int, metavar="SECONDS", help="Only lines of the last seconds.")
@click.option("-p", "--previous", is_flag=True, help="Of the containers before their last restart.")
@click.option("--timestamps", is_flag=True, help="Show when each line was written.")
@_common
def logs(target: Target, name: str | None, follow: bool, timestamps: bool, **which: Any) -> int:
    """Show the logs of all pods of a Chatbot, merged by time."""
    wish = Wish(since_seconds=which.pop("since"), **which)
    return reading.run(
        target.client, target.namespace, name, wish, follow=follow, times=timestamps, as_json=target.as_json
    )


@cli.command()
@_name
@_common
def doctor(target: Target, name: str | None) -> int:
    """Look for what is wrong with the cluster and with a Chatbot; without NAME with all of the namespace."""
    return looking.run(target.client, target.namespace, name, as_json=target.as_json)


@cli.command()
@_name
@click.option("--phase", type=click.Choice(["mock", "hf", "local"]), help="What it would cost in this phase.")
@click.option("--prices", type=click.File("r"), help="File with `prices:` as in the chart's values, to try them out.")
@click.option("-A", "--all-namespaces", is_flag=True, help="List the costs of all namespaces.")
@_common
def cost(target: Target, name: str | None, phase: Phase | None, prices: Any, all_namespaces: bool) -> int:
    """Estimate what a Chatbot costs a month, row by row; without NAME list them with their sum."""
    where = None if all_namespaces else target.namespace
    text = prices.read() if prices else None
    if name is None:
        return costing.all_of(target.client, where, text, as_json=target.as_json)
    return costing.one(target.client, target.namespace, name, phase, text, as_json=target.as_json)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print what makes SHELL complete `kubectl-chatbot`; kubectl itself needs nothing."""
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - the argument's choices are those that click knows
    print(made(cli, {}, "kubectl-chatbot", "_KUBECTL_CHATBOT_COMPLETE").source())
    return DONE


def run(arguments: list[str] | None = None) -> int:
    """The exit code of a command line."""
    try:
        code = cli.main(arguments, prog_name="kubectl chatbot", standalone_mode=False)
        return int(code or DONE)
    except click.exceptions.Abort:
        return STOPPED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return STOPPED
    except BrokenPipeError:  # `kubectl chatbot logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except InvalidPrices as error:
        return _fail(f"--prices: {error}", USAGE)
    except Missing as error:
        return _fail(str(error), NOT_SO)
    except NoCluster as error:
        return _fail(str(error), UNREACHABLE)
    except (Forbidden, Invalid) as error:
        return _fail(error.message, NOT_SO)
    except ClusterError as error:
        return _fail(error.message, UNREACHABLE)


def _fail(message: str, code: int) -> int:
    screen.tell(f"error: {message}", "red")
    return code


def main() -> None:
    """The console script."""
    sys.exit(run())
