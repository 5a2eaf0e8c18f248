"""The shell that starts an engine, run by the real shell with a small program as the engine."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbot_operator.desired.engine_start import ANSWERED, command

ENDS = "echo ended >> $HOME/starts; exit 3"
SERVES = """
trap 'echo told >> $HOME/starts; exit 4' TERM
echo serves >> $HOME/starts
echo up >&2
while true; do sleep 0.05; done"""


class Container:
    """The command in a home of its own; `engine` is what the program does."""

    def __init__(self, home: Path, engine: str) -> None:
        self._home, self._engine = home, home / "engine"
        self.does(engine)
        environment = {"HOME": str(home), "PATH": f"{home}:/usr/bin:/bin"}
        arguments = (*command("engine"), "--flag", "a value")
        self.process = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)

    def does(self, engine: str) -> None:
        new = self._engine.with_suffix(".new")
        new.write_text(f"#!/bin/sh\n{engine}\n")
        new.chmod(0o755)
        new.replace(self._engine)

    def said(self, part: str) -> str:
        """Reads its log up to a line with this part."""
        assert self.process.stderr is not None
        return next(line for line in self.process.stderr if part in line)

    @property
    def starts(self) -> list[str]:
        file = self._home / "starts"
        return file.read_text().split("\n")[:-1] if file.exists() else []


@pytest.fixture
def running(tmp_path: Path) -> Iterator[list[Container]]:
    containers: list[Container] = []
    yield containers
    for container in containers:
        container.process.terminate()
        container.process.communicate(timeout=10)


def test_the_end_of_an_engine_that_never_answered_is_the_containers_with_its_status(tmp_path: Path) -> None:
    container = Container(tmp_path, f'echo "$@" >&2; {ENDS}')
    assert container.process.wait(10) == 3
    assert container.said("flag") == "--flag a value\n"
    assert container.starts == ["ended"]


def test_an_engine_that_has_answered_is_started_again_at_once_then_after_pauses_and_the_container_stays(
    tmp_path: Path, running: list[Container]
) -> None:
    (tmp_path / ANSWERED).touch()
    container = Container(tmp_path, ENDS)
    running.append(container)
    assert "status 3; it is started again in 0 s" in container.said("ended with")
    assert "in 1 s" in container.said("ended with")
    container.does(SERVES)
    assert container.process.poll() is None


def test_the_containers_end_is_the_engines_and_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / ANSWERED).touch()
    container = Container(tmp_path, SERVES)
    container.said("up")
    container.process.send_signal(signal.SIGTERM)
    assert container.process.wait(10) == 4
    assert container.starts == ["serves", "told"]


def test_the_container_also_ends_while_it_pauses(tmp_path: Path) -> None:
    (tmp_path / ANSWERED).touch()
    container = Container(tmp_path, ENDS)
    container.said("in 1 s")
    container.process.send_signal(signal.SIGTERM)
    container.process.wait(10)
    assert set(container.starts) == {"ended"}
