"""`python -m kubectl_chatbot`, and the console scripts."""

import sys


def main() -> None:
    """kubectl-chatbot. Exit code 2 where what it needs was not installed with it."""
    try:
        from kubectl_chatbot import cli
    except ModuleNotFoundError as error:
        sys.exit(_incomplete(error))
    cli.main()


def complete() -> None:
    """kubectl_complete-chatbot: says nothing rather than something wrong."""
    try:
        from kubectl_chatbot import completion
    except ModuleNotFoundError:
        return
    completion.kubectl()


def _incomplete(error: ModuleNotFoundError) -> int:
    print(f"error: {error.name} is missing: pip install 'chatbot-operator[cli]'", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
