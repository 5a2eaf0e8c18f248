"""How log records look: one JSON object a line for machines, short lines for people. It must not know what is logged.

Records carry their facts in `extra`; only those listed here are shown, so that nothing gets into a log by accident.
"""

import logging
import sys
import time
from typing import TextIO

import orjson

FIELDS = (
    "id", "method", "route", "status", "ms", "first_ms", "queue_ms", "bytes", "tokens", "stream", "model", "fallback",
    "error", "client", "settings", "keys", "phase", "port", "internal_port", "running", "replicas",
    "percent", "completed", "total", "speed", "left", "context_length",
)  # fmt: skip


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `ts` (seconds since the epoch), `level`, `msg`, and the record's facts."""

    def __init__(self, **constant: str) -> None:
        super().__init__()
        self._constant = constant

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            **self._constant,
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """Time, message and facts, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        facts = "  ".join(f"{name}={value}" for name, value in _facts(record).items() if name not in ("id", "client"))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname}: "
        text = f"{time.strftime('%H:%M:%S', time.localtime(record.created))}  {level}{record.getMessage()}  {facts}"
        return text.rstrip() + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def set_up(style: str, level: str = "info", stream: TextIO = sys.stderr, **constant: str) -> None:
    """Sends every logger's records from `level` up to `stream`. `style`: json, text, or auto (text on a terminal)."""
    if style == "auto":
        style = "text" if stream.isatty() else "json"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if style == "text" else JsonFormatter(**constant))
    # As the library's documentation advises where these are not shown: they cost more than the rest of a record.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _facts(record: logging.LogRecord) -> dict[str, object]:
    values = record.__dict__
    return {name: values[name] for name in FIELDS if values.get(name) is not None}
