"""What an upstream's refusal means, in our words. Pure; it must not know HTTP clients.

The user's own mistakes are passed on as OpenAI errors; all else is the provider's failure, with a reason. Whatever the
upstream says is cut short and freed of secrets before anybody reads it.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from chatbot_runtime.contract import FallbackReason
from chatbot_runtime.errors import ApiError
from chatbot_runtime.providers.base import ProviderError

MAX_MESSAGE = 500
"""Characters of an upstream's message that are passed on."""
MAX_BODY = 65_536
"""Bytes of a refusal's body that are read."""
MAX_RETRY_AFTER = 3600.0
"""Seconds; a longer pause than that is no promise that anybody can keep."""
USERS_OWN = (400, 413, 422)

_TOKEN = re.compile(r"\b(?:hf_|sk-)[A-Za-z0-9_-]{8,}", re.ASCII)
_RATE_LIMIT = re.compile(r"(?:^|;)\s*t=(\d{1,9})")
_WORD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")
_FAILED: tuple[FallbackReason, str] = ("ProviderUnavailable", "failed")
_REASONS: dict[int, tuple[FallbackReason, str]] = {
    401: ("TokenRejected", "refused the token"),
    402: ("AccessDenied", "wants to be paid: the credits of the token's account are used up"),
    403: ("AccessDenied", "denied access: the token may not use this model, or may not use inference"),
    404: ("ModelNotFound", "does not have the model"),
    410: ("ModelNotFound", "does not have any more the model"),
    429: ("RateLimited", "limits how often it may be asked"),
}
_TELLING: dict[FallbackReason, str] = {
    "ModelNotFound": "does not have",
    "ModelNotReady": "still loads",
    "ProviderUnavailable": "has no room for one more question about",
}


def failure(
    status: int,
    body: bytes | bytearray,
    headers: Mapping[str, str],
    *,
    host: str,
    token: str,
    model: str,
    missing: Collection[str] = (),
    telling: Iterable[tuple[str, FallbackReason]] = (),
    too_long: str = "",
) -> ProviderError | ApiError:
    """The error that an answer with this status stands for; ApiError if it is the user's own.

    `missing`: codes of the user's own mistakes that mean that the upstream has not the model. `telling`: words that
    mean more than the status. `too_long`: the type of an error about a prompt that does not fit.
    """
    error = error_in(body)
    said = scrubbed(error.get("message"), token)
    code = error.get("code")
    if told := next((reason for words, reason in telling if words in said), None):
        return ProviderError(told, f"{host} {_TELLING[told]} {model}: {said}", retry_after(status, headers))
    if too_long and error.get("type") == too_long:
        return ApiError(400, "context_length_exceeded", said or "The prompt is too long.", param="messages")
    if status in USERS_OWN and isinstance(code, str) and code in missing:
        status = 404
    if status in USERS_OWN:
        message = said or f"{host} does not accept this request (HTTP {status})."
        return ApiError(
            status, _word(code, token) or "invalid_request", message, param=_word(error.get("param"), token)
        )
    reason, what = _REASONS.get(status, _FAILED)
    if 300 <= status < 400:
        what = "redirects, which is not followed: set the base URL to where it leads"
    of = f" {model}" if reason == "ModelNotFound" else ""
    text = f"{host} {what}{of} (HTTP {status})" + (f": {said}" if said else ".")
    return ProviderError(reason, text, retry_after(status, headers))


def failure_in_stream(error: object, *, host: str, token: str) -> ProviderError:
    """The error that an event `{"error": …}` within an answer stands for."""
    fields = _fields(error)
    status = next((value for name in ("code", "status") if type(value := fields.get(name)) is int), 0)
    reason, what = _REASONS.get(status, _FAILED)
    said = scrubbed(fields.get("message"), token)
    return ProviderError(reason, f"{host} {what}" + (f": {said}" if said else "."))


def error_in(body: bytes | bytearray) -> Mapping[str, Any]:
    """The error in a body: `{"error": {…}}` or `{"error": "text"}`; empty if there is none."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(value, dict):
        return {}
    return _fields(value.get("error") or value.get("message"))


def _fields(error: object) -> Mapping[str, Any]:
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def scrubbed(text: object, token: str) -> str:
    """An upstream's words on one line, cut short, without the token or what looks like one."""
    if not isinstance(text, str):
        return ""
    if token:
        text = text.replace(token, "…")
    line = " ".join(_TOKEN.sub("…", text).split())
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= MAX_MESSAGE else line[:MAX_MESSAGE] + "…"


def retry_after(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds after which the upstream wants to be asked again, if it says so."""
    given = headers.get("Retry-After", "").strip()
    seconds = None
    if given.isascii() and given.isdigit():
        seconds = float(given[:9])
    elif given:
        seconds = _until(given)
    elif status == 429 and (found := _RATE_LIMIT.search(headers.get("RateLimit", ""))):
        seconds = float(found[1])
    return None if seconds is None else min(max(seconds, 1.0), MAX_RETRY_AFTER)


def _until(date: str) -> float | None:
    try:
        when = parsedate_to_datetime(date)
    except ValueError:
        return None
    return (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def _word(value: object, token: str) -> str | None:
    """A code or a parameter's name as the upstream gives it, if it is one."""
    if not isinstance(value, str) or (token and token in value) or _TOKEN.search(value):
        return None
    return value if _WORD.fullmatch(value) else None
