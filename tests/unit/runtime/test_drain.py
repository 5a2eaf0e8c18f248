"""The end of a process: no running answer is cut that could have been finished."""

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chatbot_runtime.drain import Drain
from chatbot_runtime.errors import ApiError
from tests.support.runtime_process import (
    FAST,
    RuntimeProcess,
    chat_bytes,
    events,
    question,
    read_all,
    read_until,
    until,
)


@pytest.fixture
def paced(tmp_path: Path) -> Path:
    """Answers of 50 tokens that take 1 s."""
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(FAST | {"mock": {"replies": ["word " * 50], "tokensPerSecond": 50}}))
    return path


def streams(process: RuntimeProcess, count: int) -> tuple[list[bytes], Callable[[], None]]:
    """Streams that have begun and are read in the background: what they got, and a wait for their end."""
    connections = [process.send(str(number)) for number in range(count)]
    received = [read_until(connection, b"word") for connection in connections]

    def read(number: int, connection: socket.socket) -> None:
        with connection:
            received[number] += read_all(connection)

    threads = [threading.Thread(target=read, args=pair) for pair in enumerate(connections)]
    for thread in threads:
        thread.start()

    def join() -> None:
        for thread in threads:
            thread.join(20)

    return received, join


def stopping_took(process: RuntimeProcess) -> float:
    """Seconds by the process's own log: on a busy machine the end of an interpreter alone takes longer."""
    ended: float = process.logged("stopped")[0]["ts"]
    begun: float = process.logged("stopping")[0]["ts"]
    return ended - begun


def last_event(stream: bytes) -> object:
    """The last event of a chunked stream."""
    body = stream.partition(b"\r\n\r\n")[2]
    data = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
    return events(data[-1] + b"\n\n")[0]


def test_all_running_streams_finish_after_sigterm(paced: Path) -> None:
    with RuntimeProcess(settings_file=paced) as process:
        received, join = streams(process, 20)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        join()
    assert [last_event(stream) for stream in received] == ["[DONE]"] * 20
    assert all(stream.count(b'"content":" word"') == 49 for stream in received)
    assert not process.logged("answers ended: the time to finish them is over")


def test_new_connections_are_served_for_a_while_after_sigterm_but_the_process_is_not_ready(paced: Path) -> None:
    with RuntimeProcess(settings_file=paced, pre_stop_seconds=1.5) as process, process.connect() as old:
        old.sendall(chat_bytes(question()))
        assert b"connection: close" not in read_until(old, b"}}").lower()
        process.signal(signal.SIGTERM)
        until(lambda: process.internal("/readyz").status == 503, "not ready", 1)
        assert process.internal("/livez").status == 200
        assert process.status()["ready"] is False
        late = process.ask("late", stream=True)
        assert events(late.body)[-1] == "[DONE]"
        assert (late.header("connection") or "").lower() == "close"
        old.sendall(chat_bytes(question()))
        assert b"connection: close" in read_until(old, b"}}").lower()
        assert read_all(old) == b""
        assert process.wait() == 0


def test_what_arrived_before_the_door_closed_is_answered_even_if_the_process_was_too_busy_to_look(paced: Path) -> None:
    with RuntimeProcess(settings_file=paced, pre_stop_seconds=0.5) as process, process.connect() as kept:
        kept.sendall(chat_bytes(question()))
        read_until(kept, b"}}")
        process.signal(signal.SIGTERM)
        until(lambda: process.logged("stopping"), "the signal is taken")
        over = time.monotonic() + 0.6
        process.signal(signal.SIGSTOP)  # as on a node without processor time
        with process.connect() as new:
            for connection in (kept, new):
                connection.sendall(chat_bytes(question()))
            until(lambda: time.monotonic() > over, "the time for new connections is over")
            process.signal(signal.SIGCONT)
            for connection in (kept, new):
                assert read_until(connection, b"}}").startswith(b"HTTP/1.1 200")
        assert process.wait() == 0


def served(process: RuntimeProcess) -> bool:
    """Whether a connection of its own is answered."""
    try:
        with process.connect() as new:
            new.sendall(b"GET /v1/models HTTP/1.1\r\nHost: demo\r\n\r\n")
            return read_until(new, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


def test_the_door_stays_open_while_people_come_through_it() -> None:
    with RuntimeProcess(pre_stop_seconds=1) as process:
        process.signal(signal.SIGTERM)
        until(lambda: process.logged("stopping"), "the signal is taken")
        over = time.monotonic() + 2.5
        while time.monotonic() < over:
            assert served(process)
        assert process.wait() == 0


def test_the_door_closes_in_the_end_though_people_never_stop_to_come() -> None:
    with RuntimeProcess(pre_stop_seconds=0.3) as process:
        process.signal(signal.SIGTERM)
        until(lambda: not served(process), "the door is closed", 10)
        assert process.wait() == 0


def test_streams_that_outlive_the_grace_period_end_with_an_error_event(paced: Path) -> None:
    with RuntimeProcess(settings_file=paced, grace_seconds=0.4) as process:
        received, join = streams(process, 5)
        begin = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert 0.3 < time.monotonic() - begin < 3
        join()
    for stream in received:
        event = last_event(stream)
        assert isinstance(event, dict)
        assert event["error"]["code"] == "shutting_down"
        assert b"[DONE]" not in stream
    assert process.logged("answers ended: the time to finish them is over")[0]["running"] == 5


@pytest.mark.parametrize("numbers", [[signal.SIGTERM, signal.SIGTERM], [signal.SIGINT]], ids=["twice", "ctrl-c"])
def test_a_second_sigterm_or_ctrl_c_ends_at_once_with_an_error_event(
    paced: Path, numbers: list[signal.Signals]
) -> None:
    with RuntimeProcess(settings_file=paced, pre_stop_seconds=30) as process:
        received, join = streams(process, 3)
        for index, number in enumerate(numbers):
            process.signal(number)
            until(lambda: process.logged("stopping"), f"signal {index} is taken")
        assert process.wait() == 0
        assert stopping_took(process) < 2
        join()
    for stream in received:
        event = last_event(stream)
        assert isinstance(event, dict)
        assert event["error"]["code"] == "shutting_down"


def test_idle_connections_do_not_hold_up_the_end(paced: Path) -> None:
    with RuntimeProcess(settings_file=paced) as process, process.connect(), process.connect() as used:
        used.sendall(chat_bytes(question()))
        read_until(used, b"}}")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert stopping_took(process) < 2


def test_an_idle_connection_is_closed_while_others_still_get_their_answers(paced: Path) -> None:
    with RuntimeProcess(settings_file=paced) as process, process.connect() as used:
        used.sendall(chat_bytes(question()))
        read_until(used, b"}}")
        received, join = streams(process, 1)
        process.signal(signal.SIGTERM)
        assert used.recv(10) == b""
        assert process.metric("chatbot_runtime_running_requests") == 1
        join()
        assert last_event(received[0]) == "[DONE]"
        assert process.wait() == 0


async def test_a_request_without_time_pressure_passes_through() -> None:
    drain = Drain()
    async with drain.deadline(10):
        assert drain.running == 1
    assert drain.running == 0
    assert await drain.finish(0.01) == 0


async def test_no_request_begins_after_the_end() -> None:
    drain = Drain()
    drain.end()
    with pytest.raises(ApiError) as caught:
        async with drain.deadline(10):
            pass
    assert (caught.value.status, caught.value.body.code) == (503, "shutting_down")


async def test_a_time_out_inside_a_request_stays_what_it_is() -> None:
    drain = Drain()
    with pytest.raises(TimeoutError):
        async with drain.deadline(10):
            raise TimeoutError
    assert drain.running == 0


async def test_a_request_that_ends_itself_in_the_moment_of_its_deadline_is_not_ended_twice() -> None:
    drain = Drain()

    async def slow() -> None:
        async with drain.deadline(0.01):
            try:
                await asyncio.sleep(10)
            finally:
                assert drain.end() == 0  # its time-out is already being delivered

    with pytest.raises(ApiError):
        await slow()
