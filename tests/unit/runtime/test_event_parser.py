"""From pieces of bytes, cut anywhere, to events."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_runtime.event_parser import EventParser, TooLong

STREAM = b": hi\n\ndata: one\n\nevent: x\nid: 3\ndata:two\ndata: lines\n\ndata\n\ndata: {}\n\n"
EVENTS = [b"one", b"two\nlines", b"{}"]


def parse(*pieces: bytes, most: int = 1000) -> list[bytes]:
    parser = EventParser(most)
    return [event for piece in pieces for event in parser.feed(piece)] + parser.end()


@given(st.lists(st.integers(0, len(STREAM)), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_the_events_are_the_same_wherever_the_bytes_are_cut_and_however_lines_end(cuts: list[int], end: bytes) -> None:
    stream = STREAM.replace(b"\n", end)
    places = [0, *sorted(cuts), len(stream)]
    assert parse(*(stream[a:b] for a, b in pairwise(places))) == EVENTS


def test_each_byte_by_itself_gives_the_same_events() -> None:
    stream = STREAM.replace(b"\n", b"\r\n")
    assert parse(*(bytes((byte,)) for byte in stream)) == EVENTS


def test_a_mark_before_the_first_line_is_no_part_of_it() -> None:
    assert parse(b"\xef\xbb\xbfdata: one\n\n") == [b"one"]


def test_the_last_event_may_lack_its_empty_line_and_even_its_line_feed() -> None:
    assert parse(b"data: one\n") == [b"one"]
    assert parse(b"data: one") == [b"one"]
    assert parse(b"data: one\n\n: bye") == [b"one"]


@given(st.binary(max_size=300))
def test_no_bytes_break_it(noise: bytes) -> None:
    assert all(isinstance(event, bytes) for event in parse(noise, b"\n\n", most=1000))


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 200, b"data: x\n" * 200, b"x" * 200])
def test_an_event_that_does_not_end_is_refused(stream: bytes) -> None:
    with pytest.raises(TooLong):
        parse(*(stream[start : start + 10] for start in range(0, len(stream), 10)), most=100)


def test_many_short_events_are_not_too_long() -> None:
    assert len(parse(*[b"data: x\n\n"] * 200, most=100)) == 200
