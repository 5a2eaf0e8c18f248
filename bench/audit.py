"""The API server's audit log as it grows: who called what, and when. It must not know who is measured."""

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Call:
    """One answered request. Times are the API server's, in seconds since the epoch."""

    user: str
    verb: str
    resource: str
    """Plural, and the subresource behind a slash."""
    namespace: str
    name: str
    code: int
    received: float
    answered: float

    @property
    def costly(self) -> bool:
        """Whether it reads or writes one object: no LIST, no watch."""
        return self.verb == "get" or self.verb in WRITES


class AuditTail:
    """Reads what has been added since the last look. A rotated file is read to its end first."""

    def __init__(self, path: Path, *, skip: Callable[[Call], bool] = lambda _: False) -> None:
        self._path, self._skip = path, skip
        self._file: IO[bytes] = path.open("rb")
        self._file.seek(0, os.SEEK_END)
        self._rest = b""

    def close(self) -> None:
        self._file.close()

    def new(self) -> list[Call]:
        """The calls that were answered since the last time, those of `skip` left out."""
        data = self._file.read()
        if self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
            data += self._file.read()
            self._file.close()
            self._file = self._path.open("rb")
            data += self._file.read()
        *lines, self._rest = (self._rest + data).split(b"\n")
        calls = filter(None, map(_call, lines))
        return [call for call in calls if not self._skip(call)]

    def find(self, wanted: Callable[[Call], bool], timeout: float) -> Call:
        """The first new call that is wanted. AssertionError if there is none within `timeout` seconds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            found = next(filter(wanted, self.new()), None)
            if found is not None:
                return found
            time.sleep(POLL_SECONDS)  # between two looks at a file, which tells nobody that it has grown
        raise AssertionError(f"the expected call did not come within {timeout:g} s")

    def until_calm(self, user: str, *, calm: float, timeout: float) -> list[Call]:
        """All calls until `user` has read or written no object for `calm` seconds. AssertionError after `timeout`."""
        found: list[Call] = []
        end, since = time.monotonic() + timeout, time.monotonic()
        while time.monotonic() < since + calm:
            assert time.monotonic() < end, f"{user} did not come to rest within {timeout:g} s"
            time.sleep(0.2)  # between two looks
            fresh = self.new()
            found += fresh
            if any(call.user == user and call.costly for call in fresh):
                since = time.monotonic()
        return found


def tally(calls: Iterable[Call], user: str) -> dict[str, int]:
    """How many calls of one user were writes, GETs and LISTs."""
    verbs = [call.verb for call in calls if call.user == user]
    return {
        "writes": sum(verb in WRITES for verb in verbs),
        "gets": verbs.count("get"),
        "lists": verbs.count("list"),
    }


def _call(line: bytes) -> Call | None:
    entry: dict[str, Any] = json.loads(line)
    about = entry.get("objectRef")
    if entry.get("stage") != "ResponseComplete" or about is None:
        return None
    return Call(
        user=entry["user"]["username"],
        verb=entry["verb"],
        resource="/".join(filter(None, (about.get("resource"), about.get("subresource")))),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=entry.get("responseStatus", {}).get("code", 0),
        received=_seconds(entry["requestReceivedTimestamp"]),
        answered=_seconds(entry["stageTimestamp"]),
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
