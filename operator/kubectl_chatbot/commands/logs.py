"""`kubectl chatbot logs`."""

from collections.abc import Iterable

from kubectl_chatbot import gather, screen
from kubectl_chatbot.client import Client
from kubectl_chatbot.logs import Following, Line, Wish, merged, sources
from kubectl_chatbot.pods import Source, label

_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "red")


def run(
    client: Client, namespace: str, name: str | None, wish: Wish, *, follow: bool, times: bool, as_json: bool
) -> int:
    """All that there is; with `follow` also what comes, until Ctrl-C."""
    chatbot = str(gather.raw_chatbot(client, namespace, name)["metadata"]["name"])
    known: list[Source] = []

    def look() -> list[Source]:
        found = sources(client, namespace, chatbot, wish)
        known.extend(one for one in found if one not in known)
        return found

    lines: Iterable[Line]
    if follow:
        lines = Following(client, namespace, wish, look)
    else:
        found = look()
        if not found:
            screen.tell(f"No container of {chatbot} has a log yet. See: kubectl chatbot status {chatbot}")
        lines = merged(client, namespace, found, wish)
    for line in lines:
        _print(line, known, times=times, as_json=as_json)
    return 0


def _print(line: Line, known: list[Source], *, times: bool, as_json: bool) -> None:
    if as_json:
        source = {"pod": line.source.pod, "container": line.source.container}
        screen.as_json({"time": line.at, **source, "line": line.text}, line=True)
        return
    said = label(line.source, known)
    out = screen.console()
    out.print(said, style=_STYLES[known.index(line.source) % len(_STYLES)], end=" ", soft_wrap=True)
    print(f"{line.at} {line.text}" if times else line.text, flush=True)
