"""A reader of text files that may grow while they are read. No piece begins or ends inside a character."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pun_app.errors import Refused

_BLOCK_BYTES = 64 * 1024
_TAIL_WINDOW_BYTES = 1024 * 1024
"""Bytes at a file's end that are searched for its last lines. A progress bar may write far more than it shows."""
_MAX_CHARACTER_BYTES = 4
"""Maximum length of a character in UTF-8 (RFC 3629)."""


class NoFile(Exception):
    """A file that does not exist."""


@dataclass(frozen=True)
class Piece:
    """The bytes from ``offset`` up to ``next_offset`` of a file of ``size`` bytes, as ``text``.

    ``lossy`` is true if the bytes were not all UTF-8. ``truncated`` is true if something in between is omitted, or if
    there are fewer lines than were requested although the file has more.
    """

    text: str
    offset: int
    next_offset: int
    size: int
    lossy: bool
    truncated: bool = False

    def last(self, lines: int) -> Piece:
        """Return the last lines of the text. Return all of a lossy text, whose places no longer match the bytes."""
        place = len(self.text) - 1  # A newline at the very end ends the last line and starts no other.
        for _ in range(lines):
            place = self.text.rfind("\n", 0, max(place, 0))
            if place < 0 or self.lossy:
                return self
        kept = self.text[place + 1 :]
        return replace(self, text=kept, offset=self.next_offset - len(kept.encode()))


def piece(path: str, offset: int, limit: int, *, may_grow: bool) -> Piece:
    """Return ``limit`` bytes from ``offset`` on, or a few more or less so that no character is cut.

    If the file is shorter than ``offset``, it was started again, and the next piece is its beginning. Raises NoFile,
    and Refused for a file that the user may not read or that is not a regular file.
    """
    with _opened(path) as (descriptor, size):
        if offset > size:
            return Piece("", offset, 0, size, False)
        data = os.pread(descriptor, max(limit, _MAX_CHARACTER_BYTES), offset)
        back = min(offset, _MAX_CHARACTER_BYTES - 1)
        before = os.pread(descriptor, back, offset - back)
    start = _rest_of_character(before, data) if offset else 0
    end = len(data) if offset + len(data) >= size and not may_grow else _end_of_characters(data)
    return _piece(data[start:end], offset + start, size)


def last_lines(path: str, lines: int, most: int, *, may_grow: bool) -> Piece:
    """Return the last ``lines`` lines as a terminal shows them, in at most ``most`` bytes.

    A line that carriage returns overwrote, as progress bars do, has only its last state. A line that is longer than
    ``most`` has only its end. Raises NoFile, and Refused for a file that the user may not read or that is not a
    regular file.
    """
    window = max(most, _TAIL_WINDOW_BYTES)
    with _opened(path) as (descriptor, size):
        end = start = size
        data = b""
        # A newline at the very end ends the last line and starts no other.
        while start > 0 and data.count(b"\n", 0, -1) < lines and end - start < window:
            start = max(0, start - _BLOCK_BYTES, end - window)
            data = os.pread(descriptor, end - start, start)
            if len(data) < end - start:
                # The file has shrunk since its size was read. Use what is left of it.
                end = start + len(data)
                break
    stop = _end_of_characters(data) if may_grow else len(data)
    # For each line, from the last one back, the places in ``data`` where its text begins and where it ends.
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
            break  # This line is cut. A byte that may be left is of no use for the line before.
    truncated = truncated or (place > 0 and len(shown) < lines)
    text = b"".join(data[first:after] for first, after in reversed(shown))
    offset = start + (shown[-1][0] if shown else stop)
    return replace(_piece(text, offset, size), next_offset=start + stop, truncated=truncated)


def _last_state(data: bytes, begins: int, ends: int) -> int:
    """Return the place behind the last carriage return of a line, where the line's last state begins.

    Carriage returns at the very end do not count: nothing was written behind them, or they are part of CR LF.
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
    """Open a regular file; yield its descriptor and its size in bytes."""
    try:
        # Without O_NONBLOCK a FIFO would block the caller until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoFile(path) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Refused(f"{path} cannot be read: {reason}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path} is not a regular file and cannot be read")
        yield descriptor, status.st_size
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _rest_of_character(before: bytes, data: bytes) -> int:
    """Return how many bytes at the start of ``data`` belong to a character that began in ``before``."""
    count = 0
    while count < min(len(data), _MAX_CHARACTER_BYTES - 1) and data[count] & 0xC0 == 0x80:
        count += 1
    if not count or not before:
        return count
    # Only if they form a character together. In a file that is not UTF-8 such bytes occur alone.
    for back in range(1, len(before) + 1):
        if before[-back] & 0xC0 == 0xC0:
            return count if _is_character(before[-back:] + data[:count]) else 0
    return 0


def _end_of_characters(data: bytes) -> int:
    """Return the place where the last complete character ends."""
    for back in range(1, min(len(data), _MAX_CHARACTER_BYTES - 1) + 1):
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
