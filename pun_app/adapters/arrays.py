"""The indices of an array of jobs: one grammar for all schedulers, checked before a scheduler sees it.

Schedulers treat other expressions differently: Torque's server crashes, and LSF creates a plain job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pun_app.adapters.errors import Rejected

MAX_TASKS = 1_000_000
"""Tasks in one array. More than any scheduler takes as it comes; each has its own limit below this one."""
MAX_LISTED_TASKS = 100_000
"""Tasks in an array for which every index is written out, since the scheduler has no form for its ranges."""

GRAMMAR = (
    "indices and ranges in ascending order, separated by commas, such as 0-9, 1,3,5-9:2 or 1-100%10 "
    f"(the step after a colon and the limit after % are at least 1, and there are at most {MAX_TASKS:,} tasks)"
)

_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")
_LIMIT = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Array:
    """The ranges of an array, and how many of its tasks may run at once."""

    ranges: tuple[range, ...]
    at_once: int | None = None

    @property
    def size(self) -> int:
        """The number of tasks."""
        return sum(map(len, self.ranges))

    def indices(self) -> list[int]:
        """Return every index. Raises Rejected for more than a command line can hold."""
        if self.size > MAX_LISTED_TASKS:
            raise Rejected(
                f"options.array: this scheduler takes each index by itself, and at most {MAX_LISTED_TASKS:,} of them"
            )
        return [index for part in self.ranges for index in part]


def ranges_of(indices: Iterable[int]) -> list[str]:
    """Return each run of consecutive indices as text: ``1-3``, ``7``."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return ["-".join(map(str, run)) for run in runs]


def parse_array(text: str, option: str = "options.array") -> Array:
    """Return the array of an expression. Raises Rejected, with the grammar, for any other text."""
    listed, has_limit, limit = text.partition("%")
    at_once = int(limit) if _LIMIT.fullmatch(limit) else 0
    if has_limit and at_once < 1:
        raise Rejected(f"{option}: %{limit} is not a limit of at least 1; write {GRAMMAR}")
    ranges: list[range] = []
    for part in listed.split(","):
        found = _PART.fullmatch(part)
        if not found:
            raise Rejected(f"{option}: {part!r} is neither an index nor a range; write {GRAMMAR}")
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        if last < first or step < 1 or (ranges and first <= ranges[-1][-1]):
            raise Rejected(f"{option}: {part} does not ascend; write {GRAMMAR}")
        ranges.append(range(first, last + 1, step))
    array = Array(tuple(ranges), at_once or None)
    if array.size > MAX_TASKS:
        raise Rejected(f"{option}: {array.size:,} tasks are too many; write {GRAMMAR}")
    return array
