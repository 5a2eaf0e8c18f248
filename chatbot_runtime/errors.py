"""Errors in OpenAI's shape. It must not know HTTP frameworks or providers."""

import math
from dataclasses import dataclass

from chatbot_runtime import json_text


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What a client reads of an error: `{"error": {"message", "type", "code", "param"}}`."""

    message: str
    type: str
    code: str
    param: str | None = None

    def dump(self) -> bytes:
        """The JSON text."""
        error = {"message": self.message, "type": self.type, "code": self.code, "param": self.param}
        return json_text.dump({"error": error})


class ApiError(Exception):
    """A request that is not answered, or an answer that breaks off.

    `retry_after`: seconds after which another try makes sense; 429 and 503 always have it. `closes`: the rest of the
    request is not read, so that the connection cannot be used again.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(message, _type_of(status), code, param)
        self.closes = closes
        if retry_after is None and status in (429, 503):
            retry_after = 1
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))

    def headers(self) -> dict[str, str]:
        """The headers that belong to this error alone."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def bad_request(message: str, param: str | None, code: str = "invalid_value") -> ApiError:
    """400: the client's own mistake, in the parameter `param`."""
    return ApiError(400, code, message, param=param)


def internal_error() -> ApiError:
    """Our own mistake. 503, because another replica or a second try may well answer; details are only in the log."""
    return ApiError(503, "internal_error", "The server could not answer this request. Please try again.")


def repeats(message: str, prompt: str) -> bool:
    """Whether a message quotes the beginning of a prompt, plainly or as JSON writes it."""
    opening = prompt.strip()[:_OPENING]
    forms = (" ".join(opening.split()), json_text.dump(opening).decode()[1:-1])
    return len(opening) >= _SHORTEST and any(form in message for form in forms)


_OPENING, _SHORTEST = 24, 4
"""Characters: as much of a prompt as shows that it is quoted; a shorter one may be a word by chance."""


def _type_of(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
