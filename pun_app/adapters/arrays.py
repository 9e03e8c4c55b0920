"""The indices of an array of jobs, for schedulers that take fewer forms of them than the API does."""

from __future__ import annotations

import re

from pun_app.errors import Refused

LARGEST = 100_000
"""Jobs in one array: more than schedulers take as they are set up."""

_PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")


def indices(array: str) -> tuple[list[int], int | None]:
    """The indices of ``1,3,5-9:2%4``, and how many of them may run at once. Raises Refused."""
    given, _, at_once = array.partition("%")
    found: list[int] = []
    for part in given.split(","):
        match = _PART.fullmatch(part)
        if not match:
            raise Refused(f"options.array: {part} is no index and no range")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or step == 0:
            raise Refused(f"options.array: {part} is no range of indices")
        found += range(first, last + 1, step)[: LARGEST + 1]
        if len(found) > LARGEST:
            raise Refused(f"options.array: no more than {LARGEST} jobs in one array")
    return found, int(at_once) if at_once else None
