"""JSON as bytes that may be kept. It must not know what is written."""

import orjson


def dump(value: object) -> bytes:
    """`value` as JSON. orjson's own result keeps a buffer of 4 KiB alive, however short it is; a copy does not."""
    return bytes(memoryview(orjson.dumps(value)))
