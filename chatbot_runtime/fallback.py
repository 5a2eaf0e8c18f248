"""A provider with another one that answers in its place when it cannot. It must not know HTTP, or which providers.

An answer is never glued together from two: once its first piece has left, a failure ends it.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Protocol

from chatbot_runtime.chat_request import ChatRequest
from chatbot_runtime.circuit import Circuit, Clocks, Ticket
from chatbot_runtime.contract import CircuitStatus, FallbackReason, FallbackSettings
from chatbot_runtime.errors import ApiError
from chatbot_runtime.providers.base import Answer, Chunk, Forwarded, Provider, ProviderError

log = logging.getLogger(__name__)


class Forwarding(Provider, Protocol):
    """A provider whose server has more endpoints."""

    async def forward(self, path: str, fields: Mapping[str, Any]) -> Forwarded:
        """The server's answer at another path. Raises ProviderError or ApiError."""
        ...


class Fallback:
    """Asks `provider`, or `stand_in` where the settings allow it; each model has a circuit of its own.

    `admit` waits for, or refuses, one request to the provider. `count` is told how each went: a reason, or `ok`.
    """

    def __init__(
        self,
        provider: Forwarding,
        stand_in: Provider,
        settings: Callable[[], FallbackSettings],
        *,
        admit: Callable[[], Awaitable[None]],
        count: Callable[[str], None],
        refused_seconds: float,
        clocks: Clocks,
    ) -> None:
        self._provider = provider
        self._stand_in = stand_in
        self._settings = settings
        self._admit = admit
        self._count = count
        self._circuits = {model: Circuit(model, settings, refused_seconds, clocks) for model in provider.models}

    @property
    def models(self) -> tuple[str, ...]:
        return self._provider.models

    @property
    def text_only(self) -> bool:
        return self._provider.text_only

    @property
    def circuits(self) -> tuple[CircuitStatus, ...]:
        """The state of every model's circuit, the default one's first."""
        return tuple(circuit.status() for circuit in self._circuits.values())

    @property
    def reason(self) -> FallbackReason | None:
        """Why the provider's default model is not asked; None if it is."""
        return self._circuits[self.models[0]].reason

    def is_open(self, model: str) -> bool:
        """Whether the provider is not asked for a model."""
        return self._circuits[model].reason is not None

    def token_changed(self) -> None:
        """Lets a provider that refused the token before be asked again at once."""
        for circuit in self._circuits.values():
            circuit.try_again()

    async def answer(self, request: ChatRequest) -> Answer:
        circuit = self._circuits[request.model]
        ticket = circuit.enter()
        if ticket is None:
            return await self._instead(request, _still(circuit))
        try:
            await self._admit()
            answer = await self._provider.answer(request)
            self._note(circuit, ticket.begun)
            return Answer(answer.model, self._watched(answer.chunks, circuit, ticket))
        except ProviderError as error:
            self._failed(circuit, ticket, error)
            return await self._instead(request, error)
        except ApiError:
            self._count("rejected")
            raise
        finally:
            if circuit.state == "halfOpen":  # neither answered nor failed, or the client is gone
                ticket.abandoned()

    async def forward(self, path: str, fields: Mapping[str, Any]) -> Forwarded:
        """Another endpoint of the provider. Nobody stands in there, and how it goes says nothing about chats."""
        circuit = self._circuits[fields["model"]]
        if circuit.reason is not None:
            raise _still(circuit)
        await self._admit()
        return await self._provider.forward(path, fields)

    async def close(self) -> None:
        await self._provider.close()
        await self._stand_in.close()

    async def _watched(
        self, chunks: AsyncGenerator[Chunk, None], circuit: Circuit, ticket: Ticket
    ) -> AsyncGenerator[Chunk, None]:
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    if chunk.finish_reason is not None:
                        self._count("ok")
                        ticket.completed()
                    yield chunk
        except ProviderError as error:
            self._failed(circuit, ticket, error)
            raise

    def _failed(self, circuit: Circuit, ticket: Ticket, error: ProviderError) -> None:
        self._count(error.reason if error.counts else "limited")
        if error.counts:
            self._note(circuit, lambda: ticket.failed(error))

    def _note(self, circuit: Circuit, outcome: Callable[[], None]) -> None:
        """Logs if the outcome of a request opens or closes a circuit."""
        before = circuit.reason
        outcome()
        if circuit.reason != before:
            opened = circuit.reason is not None
            log.log(
                logging.WARNING if opened else logging.INFO,
                "provider not asked any more: %s" if opened else "provider asked again%s",
                circuit.error or "",
                extra={"model": circuit.model, "fallback": circuit.reason},
            )

    async def _instead(self, request: ChatRequest, error: ProviderError) -> Answer:
        if self._settings().to == "none" or not request.fallback:
            raise error
        return replace(await self._stand_in.answer(request), fallback=error.reason)


def _still(circuit: Circuit) -> ProviderError:
    """The error that opened a circuit, for one more request."""
    assert circuit.error is not None  # noqa: S101 - set with the state
    return ProviderError(circuit.error.reason, str(circuit.error), max(1.0, circuit.pause))
