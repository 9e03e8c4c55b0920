"""Durations and tables as schedulers print them."""

from __future__ import annotations

import re
from functools import lru_cache

_DURATION = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)(?:\.\d+)?")
"""``[[days-]hours:]minutes:seconds``, squeue(1) and sacct(1)."""


@lru_cache(1024)  # In a list of jobs most limits are the same few.
def duration(text: str) -> int | None:
    """Seconds of ``1-02:03:04``, ``02:03:04`` or ``03:04``; None for words like UNLIMITED and N/A."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGTP]?)B?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def size(text: str) -> int | None:
    """Bytes of ``500M``, ``1.5G`` or ``2048K`` (powers of 1024, as schedulers mean them); None for anything else."""
    match = _SIZE.fullmatch(text.strip())
    return int(float(match[1]) * 1024 ** _POWERS[match[2].upper()]) if match else None


def number(text: str) -> int | None:
    """A whole number, or None for anything else (N/A, Unknown, None)."""
    text = text.strip()
    return int(text) if len(text) <= 18 and text.isascii() and text.isdigit() else None


def word(text: str) -> str | None:
    """The text, or None where the scheduler prints a word for nothing."""
    text = text.strip()
    return None if text in ("", "(null)", "None", "N/A", "Unknown") else text


def records(text: str, delimiter: str, width: int) -> list[list[str]]:
    """The rows of a table in which each field, the last too, is followed by ``delimiter``.

    The delimiter is made for one call, so no field can hold it, and a field may hold anything else: a
    newline in a job's name neither ends its row nor makes another. What is left of a cut-off row is not
    a row.
    """
    fields = text.split(delimiter)
    rows = [fields[start : start + width] for start in range(0, len(fields) - width, width)]
    for row in rows:
        # The newline that ends the row before, and squeue's headings of -M ("CLUSTER: name").
        row[0] = row[0].rsplit("\n", 1)[-1]
    return rows
