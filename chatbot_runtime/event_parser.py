"""Server-sent events: from pieces of bytes, cut anywhere, to the data of each event. Pure; it must not know HTTP."""

BOM = b"\xef\xbb\xbf"


class TooLong(Exception):
    """An event is longer than allowed."""


class EventParser:
    """Fed with what arrives, gives the data of the events that are complete (WHATWG HTML, 9.2).

    Names, ids and comments are left out. Lines may end in LF, CRLF or CR. Several data lines of one event are joined by
    a line feed.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._first = True

    @property
    def held(self) -> int:
        """Bytes of the event that is not complete."""
        return len(self._rest) + self._size

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that end in `piece`. Raises TooLong."""
        if self._after_cr and piece.startswith(b"\n"):  # the second half of a CRLF
            piece = piece[1:]
        if piece:
            self._after_cr = piece.endswith(b"\r")
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._rest += piece
        if b"\n" not in piece:
            self._check()
            return []
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        events = [event for line in lines if (event := self._line(bytes(line))) is not None]
        self._check()
        return events

    def end(self) -> list[bytes]:
        """What was left without its empty line when the stream ended; servers forget it."""
        events = [self._line(bytes(self._rest)), self._line(b"")]
        self._rest.clear()
        return [event for event in events if event is not None]

    def _line(self, line: bytes) -> bytes | None:
        if self._first:
            self._first = False
            line = line.removeprefix(BOM)
        if line:
            if line.startswith(b"data:"):
                data = line[6:] if line[5:6] == b" " else line[5:]
                self._data.append(data)
                self._size += len(data)
            return None
        if not self._data:
            return None
        event, self._size = b"\n".join(self._data), 0
        self._data.clear()
        return event

    def _check(self) -> None:
        if self.held > self._most:
            raise TooLong
