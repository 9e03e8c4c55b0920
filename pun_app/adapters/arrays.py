"""A parser of the indices of a job array, with one grammar for all schedulers.

The adapters check an expression before they run a command. Schedulers do not agree on malformed ones: with some of them
Torque's server crashes, and LSF creates a job that is not an array.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pun_app.adapters.errors import Rejected

MAX_TASKS = 1_000_000
"""Tasks in one array. The default limit of every scheduler is lower."""
MAX_LISTED_TASKS = 100_000
"""Tasks in an array for a scheduler that has no syntax for ranges, so that every index is written out."""

GRAMMAR = (
    "indices and ranges in ascending order, separated by commas, such as 0-9, 1,3,5-9:2 or 1-100%10 "
    f"(the step after a colon and the limit after % are at least 1, and there are at most {MAX_TASKS:,} tasks)"
)

_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")
_LIMIT = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Array:
    """The ranges of indices in an array, and the number of tasks that may run at once (None: no limit)."""

    ranges: tuple[range, ...]
    at_once: int | None = None

    @property
    def size(self) -> int:
        """Return the number of tasks."""
        return sum(map(len, self.ranges))

    def indices(self) -> list[int]:
        """Return every index. Raises Rejected for more than MAX_LISTED_TASKS, which a command line cannot hold."""
        if self.size > MAX_LISTED_TASKS:
            raise Rejected(
                f"options.array: {self.size:,} tasks are too many for this scheduler, which takes at most "
                f"{MAX_LISTED_TASKS:,}; submit several arrays"
            )
        return [index for part in self.ranges for index in part]


def ranges_of(indices: Iterable[int]) -> list[str]:
    """Return the runs of consecutive indices as text, such as ``1-3`` and ``7``. The indices must ascend."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return ["-".join(map(str, run)) for run in runs]


def parse_array(text: str, option: str = "options.array") -> Array:
    """Parse the expression of an array. Raises Rejected, with the grammar, for any other text.

    ``option`` is the name of the expression's source in the message.
    """
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
