"""The token for the provider, in a mounted file. It must not know where the token is sent.

The token is in no message and no repr: only `value` gives it out.
"""

import logging
import os
from pathlib import Path

from chatbot_runtime.contract import SecretState

log = logging.getLogger(__name__)

MAX_TOKEN_BYTES = 4096


class TokenFile:
    """The token as it is in the file now; `poll` notices a change. Without a path there is none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: object = ()
        self.value = ""
        self.state: SecretState = "missing"
        self.problem = ""
        """What is wrong with the file, for people; empty if the token can be used."""
        self.poll()

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r}, state={self.state!r})"

    def poll(self) -> bool:
        """Reads the file again if it changed; True if there is another token now, or none any more."""
        signature = _signature(self._path)
        if signature == self._seen:
            return False
        before = self.value, self.state
        self._seen = signature
        self.value, self.state, self.problem = _read(self._path)
        changed = (self.value, self.state) != before
        if changed:
            log.info("token read: %s", self.state)
        return changed


def _signature(path: Path | None) -> object:
    if path is None:
        return None
    try:
        stat = os.stat(path)  # noqa: PTH116 - half the cost of Path.stat, and asked every second
    except OSError as error:
        return error.errno
    return (stat.st_mtime_ns, stat.st_ino, stat.st_dev, stat.st_size, stat.st_mode)


def _read(path: Path | None) -> tuple[str, SecretState, str]:
    """Token, state, and what is wrong."""
    if path is None:
        return "", "missing", "no token file is set (CHATBOT_TOKEN_FILE)"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TOKEN_BYTES + 1).strip()
    except (FileNotFoundError, NotADirectoryError):
        return "", "missing", f"the token file {path} does not exist: create the Secret with this key"
    except OSError as error:
        return "", "unreadable", f"the token file {path} cannot be read: {error.strerror}"
    if not raw:
        return "", "empty", f"the token file {path} is empty: put the token into the Secret"
    if why := _unusable(raw):
        return "", "unreadable", f"the token file {path} cannot be used: {why}"
    return raw.decode("ascii"), "ok", ""


def _unusable(raw: bytes) -> str:
    """Why these bytes can be no token; a header may hold nothing else. Quotes are a slip of who wrote the Secret."""
    if len(raw) > MAX_TOKEN_BYTES:
        return f"it holds more than {MAX_TOKEN_BYTES} bytes"
    if raw[:1] in (b'"', b"'") or raw[-1:] in (b'"', b"'"):
        return "the token stands in quotes: write it without them"
    if not all(33 <= byte <= 126 for byte in raw):
        return "the token holds spaces, line breaks or characters that are not ASCII: write it as one word"
    return ""
