"""Pieces of a file that may grow while it is read, as text that is whole at its edges."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pun_app.errors import Refused

_BLOCK = 64 * 1024
_TAIL_WINDOW = 1024 * 1024
"""Bytes from a file's end in which its last lines are looked for: a progress bar may write far more than it shows."""
_LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8. RFC 3629."""


class NoFile(Exception):
    """There is no file of that name."""


@dataclass(frozen=True)
class Piece:
    """``text`` are the bytes from ``offset`` until before ``next_offset``, of a file of ``size`` bytes.

    ``truncated`` is true where something in between is left out, or fewer lines are here than were asked for.
    """

    text: str
    offset: int
    next_offset: int
    size: int
    lossy: bool
    truncated: bool = False

    def last(self, lines: int) -> Piece:
        """The last lines of the text; where bytes were no UTF-8, all of it, as their place is not known any more."""
        place = len(self.text) - 1  # The newline at the very end ends the last line, and begins none.
        for _ in range(lines):
            place = self.text.rfind("\n", 0, max(place, 0))
            if place < 0 or self.lossy:
                return self
        kept = self.text[place + 1 :]
        return replace(self, text=kept, offset=self.next_offset - len(kept.encode()))


def piece(path: str, offset: int, limit: int, *, may_grow: bool) -> Piece:
    """``limit`` bytes from ``offset`` on, or a few less or more so that no character is cut.

    A file that is shorter than ``offset`` was begun anew: the next piece is its beginning. Raises NoFile and Refused.
    """
    with _opened(path) as (descriptor, size):
        if offset > size:
            return Piece("", offset, 0, size, False)
        data = os.pread(descriptor, max(limit, _LONGEST_CHARACTER), offset)
        back = min(offset, _LONGEST_CHARACTER - 1)
        before = os.pread(descriptor, back, offset - back)
    start = _rest_of_character(before, data) if offset else 0
    end = len(data) if offset + len(data) >= size and not may_grow else _end_of_characters(data)
    return _piece(data[start:end], offset + start, size)


def last_lines(path: str, lines: int, most: int, *, may_grow: bool) -> Piece:
    """The last ``lines`` lines as a terminal shows them, as far as ``most`` bytes hold them.

    Of a line that was written over again and again with carriage returns, as progress bars do, the last state is
    here. Of a line that is longer than ``most`` its end is. Raises NoFile and Refused.
    """
    window = max(most, _TAIL_WINDOW)
    with _opened(path) as (descriptor, size):
        end = start = size
        data = b""
        # The newline at the very end ends the last line, and begins none.
        while start > 0 and data.count(b"\n", 0, -1) < lines and end - start < window:
            start = max(0, start - _BLOCK, end - window)
            data = os.pread(descriptor, end - start, start)
            if len(data) < end - start:
                # It has shrunk meanwhile: what is there is read once, as it is.
                end = start + len(data)
                break
    stop = _end_of_characters(data) if may_grow else len(data)
    # Places in ``data``: where a line's text begins, and where the line ends. The last line is the first one here.
    shown: list[tuple[int, int]] = []
    place, left, truncated = stop, most, False
    while place > 0 and len(shown) < lines and left > 0:
        begins = data.rfind(b"\n", 0, place - 1) + 1
        written = max(begins, _last_state(data, begins, place))
        first = max(written, place - left)
        truncated = truncated or first > begins or (begins == 0 and start > 0)
        if first > written or (first == 0 and start > 0):
            first += _rest_of_character(b"", data[first:place])
        shown.append((first, place))
        left -= place - first
        place = begins
        if first > written:
            break  # Cut, so that a byte of the line before may be left over; it would be no use.
    truncated = truncated or (place > 0 and len(shown) < lines)
    text = b"".join(data[first:after] for first, after in reversed(shown))
    offset = start + (shown[-1][0] if shown else stop)
    return replace(_piece(text, offset, size), next_offset=start + stop, truncated=truncated)


def _last_state(data: bytes, begins: int, ends: int) -> int:
    """Where the last state begins of a line that was written over: behind its last carriage return.

    Those at its very end do not count: behind them nothing was written, or the line ended with them (CR LF).
    """
    text = data[begins:ends].rstrip(b"\r\n")
    return begins + text.rfind(b"\r") + 1


def _piece(data: bytes, offset: int, size: int) -> Piece:
    try:
        text, lossy = data.decode(), False
    except UnicodeDecodeError:
        text, lossy = data.decode(errors="replace"), True
    return Piece(text, offset, offset + len(data), max(size, offset + len(data)), lossy)


@contextmanager
def _opened(path: str) -> Iterator[tuple[int, int]]:
    """A descriptor and the size, of a regular file."""
    try:
        # O_NONBLOCK, or a FIFO would hold the caller until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoFile(path) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Refused(f"{path} cannot be read: {reason}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path} is not a regular file, so it is not read")
        yield descriptor, status.st_size
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _rest_of_character(before: bytes, data: bytes) -> int:
    """How many bytes at the beginning belong to a character that began before, if they do."""
    count = 0
    while count < min(len(data), _LONGEST_CHARACTER - 1) and data[count] & 0xC0 == 0x80:
        count += 1
    if not count or not before:
        return count
    # Only where together they are one: in other files such bytes stand alone.
    for back in range(1, len(before) + 1):
        if before[-back] & 0xC0 == 0xC0:
            return count if _is_character(before[-back:] + data[:count]) else 0
    return 0


def _end_of_characters(data: bytes) -> int:
    """Where the last character ends; before it, where only its first bytes are there."""
    for back in range(1, min(len(data), _LONGEST_CHARACTER - 1) + 1):
        first = data[-back]
        if first & 0xC0 == 0xC0:
            needed = 4 if first >= 0xF0 else 3 if first >= 0xE0 else 2
            return len(data) - back if back < needed and first < 0xF8 else len(data)
        if first & 0xC0 != 0x80:
            break
    return len(data)


def _is_character(data: bytes) -> bool:
    try:
        return len(data.decode()) == 1
    except UnicodeDecodeError:
        return False
