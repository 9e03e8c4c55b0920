"""A clock that tests set, for code that takes its clock as an argument."""

from __future__ import annotations


class Clock:
    """A callable that returns ``now``, in seconds. Tests move it by changing the attribute."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
