"""What a GGUF file says of the memory that it will need. Pure but for reading the file's head; it must not know models.

The format is that of ggml's docs/gguf.md, versions 2 and 3, little-endian.
"""

import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

MAGIC = b"GGUF"
CACHE_BYTES = 2
"""Of one number in an engine's cache of what it has read: 16 bits, unless told otherwise."""
_MOST_FIELDS = 100_000
_MOST_ITEMS = 10_000_000
_MOST_KEY = 65_535
"""Bytes; the format allows no more."""
_MOST_BYTES = 2**32
"""Of one value that is passed over; a whole head has some megabytes."""
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of each type of plain value."""
_INTEGERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
_STRING, _ARRAY = 8, 9

Value = int | str | list[int] | None


class NoGguf(ValueError):
    """The file's head is not what it should be."""


def bytes_per_token(path: Path) -> int:
    """Memory that each token of the context takes in an engine's cache: keys and values of every layer, in bytes.

    0 if the file does not say enough. Raises NoGguf for one that is damaged, OSError.
    """
    with path.open("rb") as file:
        fields = _fields(file)
    architecture = fields.get("general.architecture")

    def number(name: str) -> int:
        value = fields.get(f"{architecture}.{name}")
        return value if isinstance(value, int) else 0

    layers, heads = number("block_count"), number("attention.head_count")
    size = number("embedding_length") // heads if heads else 0
    each = (number("attention.key_length") or size) + (number("attention.value_length") or size)
    shared = fields.get(f"{architecture}.attention.head_count_kv")
    if isinstance(shared, list):  # one number for each layer
        return CACHE_BYTES * sum(shared) * each
    return CACHE_BYTES * layers * (shared if isinstance(shared, int) else heads) * each


def context_cost(paths: Iterable[Path]) -> int:
    """The same of a model's files, of which one, or none, may be a GGUF file with such a head."""
    found = 0
    for path in paths:
        with suppress(NoGguf, OSError):
            found = max(found, bytes_per_token(path))
    return found


def _fields(file: BinaryIO) -> dict[str, Value]:
    """The plain numbers, the strings and the short lists of numbers in the head."""
    if _read(file, 4) != MAGIC:
        raise NoGguf("it does not begin with GGUF")
    version, _, count = struct.unpack("<IQQ", _read(file, 20))
    if version not in (2, 3) or count > _MOST_FIELDS:
        raise NoGguf(f"its version is {version} and it has {count} fields")
    fields = {}
    for _ in range(count):
        key = _string(file, _MOST_KEY)
        (kind,) = struct.unpack("<I", _read(file, 4))
        fields[key] = _value(file, kind)
    return fields


def _value(file: BinaryIO, kind: int) -> Value:
    if kind == _STRING:
        return _string(file, None)
    if kind == _ARRAY:
        return _array(file)
    if kind in _INTEGERS:
        (number,) = struct.unpack(_INTEGERS[kind], _read(file, _SIZES[kind]))
        return int(number)
    _skip(file, _size(kind))
    return None


def _array(file: BinaryIO) -> Value:
    kind, count = struct.unpack("<IQ", _read(file, 12))
    if count > _MOST_ITEMS:
        raise NoGguf(f"a list in its head has {count} items")
    if kind == _STRING:
        for _ in range(count):
            _skip(file, struct.unpack("<Q", _read(file, 8))[0])
        return None
    if kind in _INTEGERS and count <= _MOST_KEY:
        content = _read(file, count * _SIZES[kind])
        return [int(number) for (number,) in struct.iter_unpack(_INTEGERS[kind], content)]
    _skip(file, count * _size(kind))
    return None


def _string(file: BinaryIO, most: int | None) -> str:
    """A string; one that is longer than a name need be is passed over if there is no limit."""
    (length,) = struct.unpack("<Q", _read(file, 8))
    if most is not None and length > most:
        raise NoGguf(f"a name in its head has {length} bytes")
    if length > _MOST_KEY:
        _skip(file, length)
        return ""
    return _read(file, length).decode(errors="replace")


def _size(kind: int) -> int:
    if kind not in _SIZES:
        raise NoGguf(f"it has a value of the unknown type {kind}")
    return _SIZES[kind]


def _read(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise NoGguf("its head is cut short")
    return content


def _skip(file: BinaryIO, count: int) -> None:
    if count > _MOST_BYTES:
        raise NoGguf("its head is cut short")
    file.seek(count, 1)
