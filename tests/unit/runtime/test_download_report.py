"""What a download says of how far it is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_runtime.contract import DownloadedModel, DownloadResult
from chatbot_runtime.downloads.report import MAX_RESULT_BYTES, ProgressMeter, last_words, line


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> ProgressMeter:
    return ProgressMeter("demo", "abc", ["a", "b"], clock)


def test_nothing_is_known_at_the_start(meter: ProgressMeter) -> None:
    status = meter.status()
    assert (status.chatbot, status.list_hash, status.state) == ("demo", "abc", "starting")
    assert (status.percent, status.total_bytes, status.seconds_left) == (None, None, None)
    assert (status.completed_bytes, status.bytes_per_second) == (0, 0)


def test_the_total_is_known_when_all_models_have_said_their_size(meter: ProgressMeter) -> None:
    first = meter.of("a")
    first.expect(300)
    first.have(300)
    assert (meter.status().percent, meter.status().total_bytes, meter.status().model) == (None, None, "a")
    second = meter.of("b")
    second.expect(700)
    second.have(0)
    assert (meter.status().percent, meter.status().total_bytes, meter.status().model) == (30.0, 1000, "b")


def test_the_speed_is_that_of_the_last_seconds_and_tells_the_time_left(clock: Clock) -> None:
    meter = ProgressMeter("demo", "abc", ["a"], clock)
    model = meter.of("a")
    model.expect(100_000)
    model.have(0)
    for second in range(1, 31):
        clock.now += 1
        model.have(1000 * second)
    assert meter.status().bytes_per_second == pytest.approx(1000, rel=0.01)
    assert meter.status().seconds_left == pytest.approx(70, rel=0.01)
    for _ in range(12):
        clock.now += 1
        model.have(30_000 + 10)
    assert meter.status().bytes_per_second == 0
    assert meter.status().seconds_left is None


def test_what_an_earlier_try_has_left_says_nothing_of_the_speed(meter: ProgressMeter, clock: Clock) -> None:
    model = meter.of("a")
    model.expect(1_000_000)
    model.have(900_000)
    clock.now += 1
    model.have(900_500)
    assert meter.status().bytes_per_second == pytest.approx(500)


def test_bytes_that_are_thrown_away_go_from_the_sum_and_make_no_speed_below_zero(clock: Clock) -> None:
    meter = ProgressMeter("demo", "abc", ["a"], clock)
    model = meter.of("a")
    model.expect(1000)
    model.have(0)
    clock.now += 1
    model.have(800)
    clock.now += 1
    model.have(0)
    status = meter.status()
    assert (status.completed_bytes, status.percent) == (0, 0)
    assert status.bytes_per_second == pytest.approx(400)


def test_a_hundred_percent_is_said_only_when_all_is_verified(clock: Clock) -> None:
    meter = ProgressMeter("demo", "abc", ["a"], clock)
    model = meter.of("a")
    model.expect(1000)
    model.have(1000)
    assert meter.status().percent == 99.9
    model.verifying()
    assert (meter.status().state, meter.status().percent, meter.status().bytes_per_second) == ("verifying", 99.9, 0)
    meter.done()
    status = meter.status()
    assert (status.state, status.percent, status.seconds_left, status.reason) == ("done", 100, 0, "Downloaded")


def test_waiting_says_why_until_the_next_try(meter: ProgressMeter) -> None:
    model = meter.of("a")
    meter.waits("the token is unknown", "TokenRejected")
    status = meter.status()
    assert (status.state, status.reason, status.message) == ("waiting", "TokenRejected", "the token is unknown")
    assert meter.of("a") is model
    assert (meter.status().state, meter.status().reason, meter.status().message) == ("starting", None, "")
    meter.failed("ModelNotFound", "there is no a")
    assert (meter.status().state, meter.status().reason) == ("failed", "ModelNotFound")


STEPS = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(-5, 2000), st.floats(0, 20)), max_size=40)


@given(st.integers(0, 1000), st.integers(0, 1000), STEPS)
def test_no_number_is_ever_out_of_bounds(first: int, second: int, steps: list[tuple[str, int, float]]) -> None:
    clock = Clock()
    meter = ProgressMeter("demo", "abc", ["a", "b"], clock)
    for name, total in (("a", first), ("b", second)):
        meter.of(name).expect(total)
    for name, completed, seconds in steps:
        clock.now += seconds
        meter.of(name).have(completed)
        status = meter.status()
        assert status.percent is None or 0 <= status.percent < 100
        assert status.total_bytes is not None
        assert 0 <= status.completed_bytes <= status.total_bytes
        assert status.bytes_per_second >= 0
        assert status.seconds_left is None or status.seconds_left >= 0


def test_a_line_of_the_log_has_words_and_the_same_as_facts(meter: ProgressMeter, clock: Clock) -> None:
    meter.of("b").expect(0)
    model = meter.of("a")
    model.expect(4_000_000_000)
    model.have(0)
    clock.now += 10
    model.have(1_000_000_000)
    words, facts = line(meter.status())
    assert words == "downloading 25 %, 1.0 GB of 4.0 GB, 100.0 MB/s, 30 s left"
    expected = {"percent": 25.0, "completed": 10**9, "total": 4 * 10**9, "speed": 10**8, "left": 30, "model": "a"}
    assert facts == expected
    meter.waits("no room")
    assert line(meter.status())[0] == "waiting no room"


@pytest.mark.parametrize("message", ["short", "ä" * 5000, '"\n\\' * 4000, "x" * 100_000])
def test_last_words_fit_into_a_termination_message(message: str) -> None:
    models = tuple(DownloadedModel(name="m" * 300, digest="sha256:" + "0" * 64, size_bytes=1) for _ in range(6))
    words = last_words(DownloadResult(list_hash="abc", reason="DownloadFailed", message=message, models=models))
    assert len(words) <= MAX_RESULT_BYTES
    told = json.loads(words)
    assert (told["listHash"], told["reason"]) == ("abc", "DownloadFailed")
    assert len(told["models"]) == 6
    assert told["message"] == message or message.startswith(told["message"].removesuffix("…"))
