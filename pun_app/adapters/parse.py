"""Durations, times and tables as schedulers print them."""

from __future__ import annotations

import codecs
import re
import secrets
import time
from datetime import datetime, timezone
from functools import lru_cache

_DURATION = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)(?:\.\d+)?")
"""``[[days-]hours:]minutes:seconds``, squeue(1) and sacct(1)."""


@lru_cache(1024)  # In a list of jobs most limits are the same few.
def duration(text: str) -> int | None:
    """Return the seconds of ``1-02:03:04``, ``02:03:04`` or ``03:04``; None for words like UNLIMITED and N/A."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CTIME = re.compile(r"(?:\w{3} )?(\w{3}) +(\d{1,2}) (\d\d):(\d\d)(?::(\d\d))?(?: (\d{4}))?")


@lru_cache(4096)
def ctime(text: str, now: int) -> int | None:
    """Return the Unix seconds of ``Sun Nov 22 19:07:38 2026``, which ctime(3) printed in UTC; None for anything else.

    Where the year is missing (``Nov 22 19:07``), it is utc_time_before()'s.
    """
    match = _CTIME.fullmatch(text.strip())
    if not match or match[1] not in _MONTHS:
        return None
    month, day, hour, minute, second = _MONTHS.index(match[1]) + 1, *(int(part or 0) for part in match.groups()[1:5])
    if match[6]:
        return utc_time(int(match[6]), month, day, hour, minute, second)
    return utc_time_before(now, month, day, hour, minute, second)


def utc_time_before(now: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    """Return the Unix seconds of a time in UTC without a year: the latest that is at most a day after ``now``.

    Only a clock that is a year wrong, or a job that is a year old, makes this another year's.
    """
    year = time.gmtime(now + 86_400).tm_year
    for candidate in range(year, year - 5, -1):  # The 29th of February is not in every year.
        seconds = utc_time(candidate, month, day, hour, minute, second)
        if seconds is not None and seconds <= now + 86_400:
            return seconds
    return None


def utc_time(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    """Return the Unix seconds of a time in UTC; None if the day does not exist."""
    try:
        return int(datetime(year, month, day, hour, minute, min(second, 59), tzinfo=timezone.utc).timestamp())
    except ValueError:
        return None


_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?")


@lru_cache(4096)
def iso_time(text: str) -> int | None:
    """Return the Unix seconds of ``2026-11-22T19:07:38`` in UTC; None for anything else."""
    match = _ISO.fullmatch(text.strip())
    return utc_time(*(int(part) for part in match.groups())) if match else None


def clock(text: str) -> int | None:
    """Return the seconds of ``3600``, ``1:0:0``, ``0.25`` or ``12s``; None for words like INFINITY."""
    text = text.strip().removesuffix("s")
    return int(float(text)) if re.fullmatch(r"\d{1,15}(\.\d*)?", text) else duration(text)


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B|bytes?)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def size(text: str) -> int | None:
    """Return the bytes of ``500M``, ``1.5G`` or ``2048K`` (powers of 1024); None for other text."""
    match = _SIZE.fullmatch(text.strip())
    return int(float(match[1]) * 1024 ** _POWERS[match[2].upper()]) if match else None


def number(text: str) -> int | None:
    """Return a whole number; None for anything else, such as N/A or Unknown."""
    text = text.strip()
    return int(text) if len(text) <= 18 and text.isascii() and text.isdigit() else None


def word(text: str) -> str | None:
    """Return the text; None for the words by which schedulers say that a value is missing."""
    text = text.strip()
    return None if text in {"", "(null)", "None", "N/A", "Unknown"} else text


def new_delimiter() -> str:
    """Return a delimiter for the columns of one command's output. It is random, so no job's name can contain it."""
    return f"\x1f{secrets.token_hex(4)}\x1f"


class RecordStream:
    """A parser of the rows of records() piece by piece, which does not hold the whole text in memory."""

    def __init__(self, delimiter: str, width: int) -> None:
        self._delimiter, self._width = delimiter, width
        # A piece may end within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[list[str]]:
        """Return the rows that this piece completes."""
        fields = (self._rest + self._decoder.decode(data)).split(self._delimiter)
        whole = (len(fields) - 1) // self._width * self._width
        self._rest = self._delimiter.join(fields[whole:])
        return _rows(fields[:whole], self._width)


def records(text: str, delimiter: str, width: int) -> list[list[str]]:
    """Return the rows of a table in which ``delimiter`` follows each field, including the last.

    The delimiter is made for one call, so no field can hold it, and a field may hold anything else: a
    newline in a job's name neither ends its row nor makes another. What is left of a cut-off row is not
    a row.
    """
    fields = text.split(delimiter)
    return _rows(fields[: (len(fields) - 1) // width * width], width)


def _rows(fields: list[str], width: int) -> list[list[str]]:
    rows = [fields[start : start + width] for start in range(0, len(fields), width)]
    for row in rows:
        # The newline that ends the row before, and squeue's headings of -M ("CLUSTER: name").
        row[0] = row[0].rsplit("\n", 1)[-1]
    return rows
