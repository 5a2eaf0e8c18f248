"""A chat request: from a body's bytes to checked values. Pure; it must not know HTTP, providers or who asks.

The rules are those of OpenAI's `POST /v1/chat/completions`; parameters that are not known here stay in `parameters`
and go through to a provider unchanged.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from chatbot_runtime.errors import ApiError, bad_request

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MAX_STOPS = 4
_RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
# CPython's objects with their entry in a list, and what the parser needs for each in between.
_MEMORY = {b",": 48, b"[": 80, b"{": 256, b'"': 30}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client asks for. `messages` begin with the chatbot's system prompt if it has one.

    `fallback`: the client takes another provider's answer in place of none.
    """

    model: str
    messages: tuple[Mapping[str, Any], ...]
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    parameters: Mapping[str, Any] | None = None
    fallback: bool = True


def parse(
    body: bytes | bytearray,
    *,
    models: tuple[str, ...],
    names: Collection[str],
    system_prompt: str,
    max_messages: int,
    text_only: bool = True,
    fallback: bool = True,
) -> ChatRequest:
    """The request in `body`.

    `models`: what may be asked for, the default first; `names`: words that mean the default. Raises ApiError: 404
    for a model that is not there, else 400 naming the parameter.
    """
    fields = json_object(body)
    messages = _messages(fields.get("messages"), max_messages, text_only)
    if system_prompt:
        messages = ({"role": "system", "content": system_prompt}, *messages)
    stream = _boolean(fields.get("stream"), "stream")
    if (n := fields.get("n")) is not None and (n != 1 or isinstance(n, bool)):
        raise bad_request("'n' must be 1: ask again for another answer.", "n")
    for name, (low, high) in _RANGES.items():
        _number(fields.get(name), name, low, high)
    return ChatRequest(
        model=model_of(fields.get("model"), models, names),
        messages=messages,
        stream=stream,
        include_usage=_include_usage(fields.get("stream_options"), stream),
        max_tokens=_max_tokens(fields),
        stop=_stop(fields.get("stop")),
        parameters=fields,
        fallback=fallback,
    )


def text_of(message: Mapping[str, Any]) -> str:
    """A message's text, its parts joined; parts that are no text say nothing."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content or () if part["type"] == "text")


def memory_of(body: bytes | bytearray) -> int:
    """About how many bytes the values in a JSON text take once it is parsed; rather too many than too few.

    Empty lists take 25 times as much as their text, so that the length alone says little.
    """
    wide = not body.isascii() or b"\\u" in body
    text = len(body) * (4 if wide else 1)  # one character beyond the BMP makes all of its string's four bytes wide
    return text + sum(size * body.count(mark) for mark, size in _MEMORY.items())


def json_object(body: bytes | bytearray) -> dict[str, Any]:
    """A body's fields. Raises ApiError 400."""
    if not body:
        raise bad_request("The body is empty: send a JSON object with 'messages'.", "body", "invalid_json")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # The library's message holds no part of the body, only what is wrong and where.
        raise bad_request(f"The body is not valid JSON: {error}.", "body", "invalid_json") from None
    if not isinstance(fields, dict):
        raise bad_request("The body must be a JSON object with 'messages'.", "body", "invalid_type")
    return fields


def model_of(value: object, models: tuple[str, ...], names: Collection[str]) -> str:
    """The model that a request's `model` means. Raises ApiError."""
    if value is None or value == "":
        return models[0]
    if not isinstance(value, str):
        raise bad_request("'model' must be a string.", "model", "invalid_type")
    if value in models:
        return value
    if value in names:
        return models[0]
    raise model_not_found(value, models)


def model_not_found(model: str, models: tuple[str, ...]) -> ApiError:
    """404, naming the models that are there."""
    message = f"The model {model[:200]!r} is not served here. Served are: {', '.join(models)}."
    return ApiError(404, "model_not_found", message, param="model")


def _messages(value: object, most: int, text_only: bool) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list):
        raise bad_request("'messages' must be a list of messages.", "messages", "invalid_type")
    if not 1 <= len(value) <= most:
        raise bad_request(f"'messages' has {len(value)} entries; 1 to {most} are allowed.", "messages")
    for index, message in enumerate(value):
        _check_message(message, f"messages[{index}]", text_only)
    return tuple(value)


def _check_message(message: object, where: str, text_only: bool) -> None:
    if not isinstance(message, dict):
        raise bad_request(f"'{where}' must be an object with 'role' and 'content'.", where, "invalid_type")
    role = message.get("role")
    if role not in ROLES:
        raise bad_request(f"'{where}.role' must be one of {', '.join(ROLES)}.", f"{where}.role")
    content = message.get("content")
    if content is None and role == "assistant":
        return  # an earlier answer that only called tools
    if isinstance(content, list):
        for index, part in enumerate(content):
            _check_part(part, f"{where}.content[{index}]", text_only)
    elif not isinstance(content, str):
        raise bad_request(f"'{where}.content' must be a string or a list of text parts.", f"{where}.content")


def _check_part(part: object, where: str, text_only: bool) -> None:
    if not isinstance(part, dict):
        raise bad_request(f"'{where}' must be an object with 'type' and 'text'.", where, "invalid_type")
    kind = part.get("type")
    if not isinstance(kind, str):
        raise bad_request(f"'{where}.type' must be a string, 'text' for example.", f"{where}.type", "invalid_type")
    if text_only and kind != "text":
        raise bad_request(f"'{where}.type' must be 'text': this chatbot reads only text.", f"{where}.type")
    if kind != "text":
        return  # whether a model can see is known where it runs
    if not isinstance(part.get("text"), str):
        raise bad_request(f"'{where}.text' must be a string.", f"{where}.text", "invalid_type")


def _boolean(value: object, name: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise bad_request(f"'{name}' must be true or false.", name, "invalid_type")


def _number(value: object, name: str, low: float, high: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_request(f"'{name}' must be a number.", name, "invalid_type")
    if not low <= value <= high:
        raise bad_request(f"'{name}' must be between {low:g} and {high:g}.", name)


def _include_usage(value: object, stream: bool) -> bool:
    if value is None:
        return False
    if not isinstance(value, dict):
        raise bad_request("'stream_options' must be an object.", "stream_options", "invalid_type")
    if not stream:
        raise bad_request("'stream_options' is only for 'stream: true'.", "stream_options")
    return _boolean(value.get("include_usage"), "stream_options.include_usage")


def _max_tokens(fields: Mapping[str, Any]) -> int | None:
    """The lower of the two names for the same limit: the second replaced the first, and clients send either."""
    limits = []
    for name in ("max_completion_tokens", "max_tokens"):
        value = fields.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise bad_request(f"'{name}' must be a whole number.", name, "invalid_type")
        if value < 1:
            raise bad_request(f"'{name}' must be at least 1.", name)
        limits.append(value)
    return min(limits, default=None)


def _stop(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise bad_request("'stop' must be a string or a list of strings.", "stop", "invalid_type")
    if len(stops) > MAX_STOPS:
        raise bad_request(f"'stop' has {len(stops)} entries; at most {MAX_STOPS} are allowed.", "stop")
    return tuple(stop for stop in stops if stop)
