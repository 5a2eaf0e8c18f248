"""Logs that are followed while connections end and containers are started again."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import pytest

from chatbot_operator.cluster import Transient
from kubectl_chatbot import logs
from kubectl_chatbot.client import Client
from kubectl_chatbot.logs import Following, Wish
from kubectl_chatbot.pods import Source

ONE = "2030-01-01T00:00:01.5Z"
TWO = "2030-01-01T00:00:02.5Z"


class Scripted(Client):
    """The calls for logs, answered in turn; a line of None is a connection that breaks off."""

    def __init__(self, *answers: list[str | None]) -> None:
        self.asked: list[Mapping[str, str]] = []
        self._answers = iter(answers)

    def lines(self, namespace: str, pod: str, query: Mapping[str, str]) -> Iterator[str]:  # noqa: ARG002
        self.asked.append(query)
        for line in next(self._answers, []):
            if line is None:
                raise Transient("broken off")
            yield line


def followed(client: Client, count: int, *looks: list[Source], wish: Wish | None = None) -> list[str]:
    """The first lines, while the looks find these containers; the last look goes on."""
    queue = [*looks]
    found = Following(client, "shop", wish or Wish(), lambda: queue.pop(0) if len(queue) > 1 else queue[0])
    return [line.text for line in islice(found, count)]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOOK_SECONDS", 0.05)


def test_a_connection_that_breaks_off_goes_on_where_it_was() -> None:
    client = Scripted([f"{ONE} one", None], [f"{ONE} one", f"{TWO} two"])
    assert followed(client, 2, [Source("p", "c")], wish=Wish(tail=5)) == ["one", "two"]
    assert (client.asked[0]["tailLines"], client.asked[1]["sinceTime"]) == ("5", ONE)
    assert "tailLines" not in client.asked[1]


def test_a_container_that_is_started_again_is_another_one() -> None:
    client = Scripted([f"{ONE} before"], [f"{TWO} after"])
    looks = [[Source("p", "c", running=False)], [Source("p", "c", restarts=1)]]
    assert followed(client, 2, *looks) == ["before", "after"]
    assert "sinceTime" not in client.asked[1]


def test_a_container_that_has_ended_is_read_once() -> None:
    client = Scripted([f"{ONE} done"], [f"{TWO} alive"])
    ended, running = Source("p", "c", running=False), Source("q", "c")
    looks: list[Any] = [[ended], [ended], [ended], [ended, running]]
    assert followed(client, 2, *looks) == ["done", "alive"]
    assert len(client.asked) == 2
