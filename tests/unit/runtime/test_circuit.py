"""When a provider is asked, as a table of what happens to it; with a clock that the test sets."""

from dataclasses import dataclass, field

import pytest

from chatbot_runtime.circuit import Circuit, Clocks, Ticket
from chatbot_runtime.contract import FallbackReason, FallbackSettings
from chatbot_runtime.providers.base import ProviderError

REFUSED = 300.0


@dataclass
class Scene:
    """A circuit, the time, and the tickets that were given out."""

    settings: FallbackSettings = field(
        default_factory=lambda: FallbackSettings(after_failures=3, retry_after_seconds=30)
    )
    now: float = 1000.0

    def __post_init__(self) -> None:
        clocks = Clocks(lambda: self.now, lambda: self.now + 1_000_000)
        self.circuit = Circuit("m", lambda: self.settings, REFUSED, clocks)

    def ask(self) -> Ticket:
        """One request that is let in."""
        ticket = self.circuit.enter()
        assert ticket is not None
        return ticket

    def fail(self, reason: FallbackReason = "ProviderUnavailable", retry_after: float | None = None) -> None:
        """One request that fails."""
        self.ask().failed(ProviderError(reason, "away", retry_after))

    def succeed(self) -> None:
        """One request that is answered to its end."""
        ticket = self.ask()
        ticket.begun()
        ticket.completed()

    def shown(self) -> tuple[str, str | None]:
        return self.circuit.state, self.circuit.reason


def test_it_opens_after_so_many_failures_in_a_row_and_not_before() -> None:
    scene = Scene()
    for _ in range(2):
        scene.fail()
    scene.succeed()
    for _ in range(2):
        scene.fail()
    assert scene.shown() == ("closed", None)
    scene.fail()
    assert scene.shown() == ("open", "ProviderUnavailable")
    assert scene.circuit.enter() is None


@pytest.mark.parametrize("reason", ["TokenRejected", "AccessDenied", "ModelNotFound"])
def test_it_opens_at_once_for_what_does_not_go_away_by_itself(reason: FallbackReason) -> None:
    scene = Scene()
    scene.fail(reason)
    assert scene.shown() == ("open", reason)


@pytest.mark.parametrize(
    ("reason", "retry_after", "pause"),
    [
        ("ProviderUnavailable", None, 30),
        ("RateLimited", 7, 7),
        ("RateLimited", 90, 90),
        ("ModelNotFound", None, 30),
        ("TokenRejected", None, REFUSED),
        ("AccessDenied", 7, REFUSED),
        ("AccessDenied", 900, 900),
    ],
)
def test_the_pause_is_the_setting_or_what_the_provider_says_and_longer_after_a_refusal(
    reason: FallbackReason, retry_after: float | None, pause: float
) -> None:
    scene = Scene(FallbackSettings(after_failures=1, retry_after_seconds=30))
    scene.fail(reason, retry_after)
    assert scene.circuit.pause == pause
    scene.now += pause - 0.1
    assert scene.circuit.enter() is None
    scene.now += 0.2
    assert scene.circuit.enter() is not None


def test_a_changed_pause_counts_at_once() -> None:
    scene = Scene(FallbackSettings(after_failures=1, retry_after_seconds=600))
    scene.fail()
    scene.settings = FallbackSettings(after_failures=1, retry_after_seconds=5)
    assert scene.circuit.pause == 5


def opened(**settings: float) -> Scene:
    """A circuit whose pause is over."""
    scene = Scene(FallbackSettings.model_validate({"after_failures": 3, "retry_after_seconds": 30} | settings))
    for _ in range(3):
        scene.fail()
    scene.now += 31
    return scene


def test_after_the_pause_one_request_tries_and_all_others_do_not() -> None:
    scene = opened()
    probe = scene.ask()
    assert scene.shown() == ("halfOpen", "ProviderUnavailable")
    assert [scene.circuit.enter() for _ in range(3)] == [None] * 3
    probe.begun()
    assert scene.shown() == ("closed", None)
    assert scene.circuit.enter() is not None


def test_a_probe_that_fails_opens_it_again_for_another_pause_and_keeps_since_when() -> None:
    scene = opened()
    since = scene.circuit.status().since
    scene.fail("RateLimited", 5)
    assert scene.shown() == ("open", "RateLimited")
    assert scene.circuit.enter() is None
    assert scene.circuit.status().since == since == 1_001_000
    scene.now += 5
    assert scene.circuit.enter() is not None


def test_a_probe_whose_client_leaves_decides_nothing_and_the_next_may_try() -> None:
    scene = opened()
    scene.ask().abandoned()
    assert scene.shown() == ("open", "ProviderUnavailable")
    scene.succeed()
    assert scene.shown() == ("closed", None)


def test_a_probe_whose_answer_breaks_off_opens_it_again_at_once() -> None:
    scene = opened()
    probe = scene.ask()
    probe.begun()
    probe.failed(ProviderError("ProviderUnavailable", "cut"))
    assert scene.shown() == ("open", "ProviderUnavailable")


def test_one_failure_after_a_full_recovery_does_not_open_it() -> None:
    scene = opened()
    scene.succeed()
    scene.fail()
    assert scene.shown() == ("closed", None)


def test_what_was_asked_before_it_opened_changes_nothing_any_more() -> None:
    scene = Scene()
    slow = [scene.ask() for _ in range(3)]
    for _ in range(3):
        scene.fail()
    scene.now += 20
    slow[0].failed(ProviderError("ProviderUnavailable", "late"))
    slow[1].completed()
    assert scene.circuit.pause == 10
    scene.now += 10
    scene.ask()
    slow[2].abandoned()
    assert scene.shown() == ("halfOpen", "ProviderUnavailable")


def test_an_outcome_counts_once() -> None:
    scene = Scene()
    ticket = scene.ask()
    for _ in range(5):
        ticket.failed(ProviderError("ProviderUnavailable", "away"))
    assert scene.shown() == ("closed", None)


def test_another_token_ends_the_pause_after_a_refusal_only() -> None:
    refused, away = Scene(), opened()
    refused.fail("TokenRejected")
    away.now -= 20
    for scene in (refused, away):
        scene.circuit.try_again()
    assert refused.circuit.enter() is not None
    assert away.circuit.enter() is None


def test_the_error_it_keeps_has_no_traceback_that_would_keep_a_request() -> None:
    scene = Scene()
    try:
        raise ProviderError("TokenRejected", "no")
    except ProviderError as error:
        scene.ask().failed(error)
    assert scene.circuit.error is not None
    assert scene.circuit.error.__traceback__ is None
