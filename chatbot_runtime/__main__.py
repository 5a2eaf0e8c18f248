"""The command line: `python -m chatbot_runtime serve | download | ask | check | settings`.

It must not know how any of them works.

Each command imports what it needs itself, so that `ask` is quick.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from chatbot_runtime.ask import EXIT_CODES, ask

BAD_SETTINGS = 2
CHECK_EXIT_CODES = """\
exit codes:
  0    the provider can be used
  1    it cannot: the reason is named, with what helps
  2    wrong settings or arguments
  3    it could not be found out: who would know does not answer
  130  stopped by Ctrl-C"""
DOWNLOAD_EXIT_CODES = """\
exit codes:
  0   the models are on the volume, verified, and the list is marked as whole
  1   not yet: another try may bring them, and goes on where this one ended
  42  never: another try cannot mend it (no such model, no room, wrong settings)"""
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    commands = {"serve": _serve, "download": _download, "ask": _ask, "check": _check, "settings": _settings}
    try:
        return commands[arguments.command](arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _serve(arguments: argparse.Namespace) -> int:
    from chatbot_runtime.config import Config, ConfigError

    terminal = sys.stdout.isatty()
    environ = dict(os.environ)
    if terminal:
        environ = {"CHATBOT_HOST": "127.0.0.1", "CHATBOT_PRE_STOP_SECONDS": "0"} | environ
    for name in ("phase", "host", "port", "internal_port", "settings_file", "keys_dir"):
        if (value := getattr(arguments, name)) is not None:
            environ[f"CHATBOT_{name.upper()}"] = value
    try:
        config = Config.from_env(environ)

        from chatbot_runtime.serve import serve

        serve(config, partial(_welcome, config.name, config.phase, config.host) if terminal else None)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_SETTINGS
    return 0


def _download(_: argparse.Namespace) -> NoReturn:
    from chatbot_runtime.downloads.process import download

    code = download(os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a thread may hang in a slow volume or an unanswered question: nobody waits for it


def _check(arguments: argparse.Namespace) -> int:
    from chatbot_runtime.check import check_config
    from chatbot_runtime.config import Config, ConfigError

    environ = dict(os.environ) | {"CHATBOT_PHASE": "hf"}
    given = {"base_url": arguments.base_url, "token_file": arguments.token_file, "models": ",".join(arguments.model)}
    environ |= {f"CHATBOT_{name.upper()}": value for name, value in given.items() if value}
    try:
        report = check_config(Config.from_env(environ))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_SETTINGS
    print(report.json() if arguments.output == "json" else report.text())
    return report.exit_code


def _settings(_: argparse.Namespace) -> int:
    from chatbot_runtime.config import settings_table

    print(settings_table(), end="")
    return 0


def _ask(arguments: argparse.Namespace) -> int:
    return ask(
        sys.stdin.read() if arguments.question == "-" else arguments.question,
        url=arguments.url,
        api_key_file=arguments.api_key_file,
        model=arguments.model,
        stream=arguments.stream,
        output=arguments.output,
        timeout=arguments.timeout,
        wait=arguments.wait,
    )


def _welcome(name: str, phase: str, host: str, public: int, internal: int) -> None:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    url = f"http://{host}:{public}"
    print(
        f"""
The chatbot {name!r} (phase {phase}) answers at {url}

  ask it     python -m chatbot_runtime ask "hello" --url {url}
  with curl  curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' \\
               -d '{{"messages": [{{"role": "user", "content": "hello"}}], "stream": true}}'
  its state  curl http://{host}:{internal}/status   (also /readyz, /livez, /metrics)

Ctrl-C stops it.
""",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chatbot_runtime", description="The backend of a Chatbot.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="serve | download | ask | check | settings")

    serve = commands.add_parser(
        "serve",
        help="answer questions over an OpenAI-compatible API",
        description="Answers over an OpenAI-compatible API. Every setting is an environment variable CHATBOT_...; "
        "`settings` lists them. Options given here win over the environment.",
        epilog="exit codes: 0 told to stop, 1 a fault, 2 a setting cannot be used",
    )
    serve.add_argument("--phase", help="which provider answers (CHATBOT_PHASE)")
    serve.add_argument("--host", help="address to listen on (CHATBOT_HOST)")
    serve.add_argument("--port", help="public port (CHATBOT_PORT)")
    serve.add_argument("--internal-port", help="port of health, status and metrics (CHATBOT_INTERNAL_PORT)")
    serve.add_argument("--settings-file", help="JSON file that may change while it runs (CHATBOT_SETTINGS_FILE)")
    serve.add_argument("--keys-dir", help="directory of API keys, a file a client (CHATBOT_KEYS_DIR)")

    commands.add_parser(
        "download",
        help="bring models onto a volume",
        description="Brings the models of CHATBOT_MODELS (hf://owner/repo/path/file.gguf[@revision], or names of "
        "Ollama's) onto the volume at CHATBOT_MODELS_DIR, and marks the list CHATBOT_LIST_HASH as whole. Every setting "
        "is an environment variable.",
        epilog=DOWNLOAD_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    ask = commands.add_parser(
        "ask",
        help="ask one question",
        description="Asks one question and shows the answer while it comes.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ask.add_argument("question", help="what to ask; - reads it from standard input")
    ask.add_argument(
        "--url",
        default=os.environ.get("CHATBOT_URL", "http://127.0.0.1:8000"),
        help="the chatbot's address (CHATBOT_URL; default %(default)s)",
    )
    ask.add_argument("--api-key-file", type=Path, help="file with the API key; a key is never an argument")
    ask.add_argument("--model", default="", help="a model of the chatbot (default: its first)")
    ask.add_argument("--no-stream", dest="stream", action="store_false", help="wait for the whole answer")
    ask.add_argument("--output", choices=("text", "json"), default="text", help="json: one object, for scripts")
    ask.add_argument("--timeout", type=float, default=300, help="longest silence in seconds (default %(default)s)")
    ask.add_argument(
        "--wait", type=float, default=0, help="seconds to go on asking a server that is not there yet (default 0)"
    )

    check = commands.add_parser(
        "check",
        help="look whether the provider of phase hf can be used",
        description="Looks whether the token is good and the models are there, and says what helps. Asks no model a "
        "question. Settings are those of `serve`; options given here win over the environment.",
        epilog=CHECK_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("--model", action="append", default=[], help="a model to look for (CHATBOT_MODELS); may repeat")
    check.add_argument("--base-url", help="the server's address (CHATBOT_BASE_URL)")
    check.add_argument("--token-file", help="file with the token (CHATBOT_TOKEN_FILE); a token is never an argument")
    check.add_argument("--output", choices=("text", "json"), default="text", help="json: one object, for scripts")

    commands.add_parser("settings", help="list the settings of `serve` as a Markdown table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
