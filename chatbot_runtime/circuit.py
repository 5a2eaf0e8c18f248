"""Whether a provider is asked at all: one circuit breaker. Pure; it must not know providers, HTTP or waiting.

closed → open after several failures in a row, or at once when the next try would fail too → after a pause halfOpen: one
request, a real one, may try → closed when its answer begins, else open again.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from chatbot_runtime.contract import CircuitStatus, FallbackReason, FallbackSettings
from chatbot_runtime.providers.base import ProviderError

AT_ONCE: frozenset[FallbackReason] = frozenset({"TokenRejected", "AccessDenied", "ModelNotFound"})
"""Reasons that do not go away by themselves."""
BY_TOKEN: frozenset[FallbackReason] = frozenset({"TokenRejected", "AccessDenied"})
"""Reasons that another token may end."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """`steady` never goes back; `wall` is seconds since the epoch."""

    steady: Callable[[], float]
    wall: Callable[[], float]


class Circuit:
    """The circuit of one model. `refused_seconds`: least pause after a refusal by token or access."""

    def __init__(
        self, model: str, settings: Callable[[], FallbackSettings], refused_seconds: float, clocks: Clocks
    ) -> None:
        self.model = model
        self.state: Literal["closed", "open", "halfOpen"] = "closed"
        self.error: ProviderError | None = None
        """What opened it."""
        self._settings = settings
        self._refused_seconds = refused_seconds
        self._clocks = clocks
        self._failures = 0
        self._opened = 0.0
        self._told: float | None = None
        """Seconds that the provider asked for when it opened the circuit."""
        self._since: float | None = None
        self._round = 0
        """Grows with each change of state, so that an answer begun before it changes nothing after it."""

    @property
    def reason(self) -> FallbackReason | None:
        """Why the provider is not asked; None if it is."""
        return self.error.reason if self.error else None

    @property
    def pause(self) -> float:
        """Seconds until the provider may be tried again; a changed setting counts at once."""
        length = self._settings().retry_after_seconds if self._told is None else self._told
        if self.reason in BY_TOKEN:
            length = max(length, self._refused_seconds)
        return max(0.0, self._opened + length - self._clocks.steady())

    def status(self) -> CircuitStatus:
        """As it is shown."""
        return CircuitStatus(model=self.model, state=self.state, reason=self.reason, since=self._since)

    def enter(self) -> "Ticket | None":
        """For one request: what it tells its outcome; None if the provider is not to be asked."""
        if self.state == "halfOpen" or (self.state == "open" and self.pause > 0):
            return None
        if self.state == "open":
            self._become("halfOpen")
        return Ticket(self, self._round)

    def try_again(self) -> None:
        """The token has changed: a provider that refused it is asked with the next request."""
        if self.reason in BY_TOKEN:
            self._opened = -math.inf

    def begun(self, ticket: "Ticket") -> None:
        """An answer has begun. One failure more opens the circuit again until an answer has also come to its end."""
        if self.state == "halfOpen":
            self.error, self._since = None, None
            self._failures = self._settings().after_failures - 1
            self._become("closed")
            ticket.round = self._round

    def completed(self) -> None:
        """An answer came to its end."""
        self._failures = 0

    def failed(self, error: ProviderError) -> None:
        """No answer, or not to its end."""
        self._failures += 1
        few = self._failures < self._settings().after_failures
        if self.state == "closed" and error.reason not in AT_ONCE and few:
            return
        if self._since is None:
            self._since = self._clocks.wall()
        self._opened, self._told = self._clocks.steady(), error.retry_after
        self.error = ProviderError(error.reason, str(error))  # without the traceback, which holds the whole request
        self._become("open")

    def abandoned(self) -> None:
        """A request went away without an outcome; if it was the one that tried, the next may."""
        if self.state == "halfOpen":
            self._become("open")

    def _become(self, state: Literal["closed", "open", "halfOpen"]) -> None:
        self.state = state
        self._round += 1


@dataclass(slots=True)
class Ticket:
    """One request's way to tell its circuit how it went."""

    circuit: Circuit
    round: int
    _over: bool = False

    def begun(self) -> None:
        """The answer has begun."""
        if self._counts:
            self.circuit.begun(self)

    def completed(self) -> None:
        """The answer came to its end."""
        if self._end():
            self.circuit.completed()

    def failed(self, error: ProviderError) -> None:
        """No answer, or not to its end."""
        if self._end():
            self.circuit.failed(error)

    def abandoned(self) -> None:
        """No outcome; nothing if there was one."""
        if self._end():
            self.circuit.abandoned()

    @property
    def _counts(self) -> bool:
        return not self._over and self.round == self.circuit._round

    def _end(self) -> bool:
        counts, self._over = self._counts, True
        return counts
