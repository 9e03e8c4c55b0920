"""A circuit breaker: it records whether a scheduler answers, and decides when to ask again.

Each command to a scheduler that is down takes 9 to 20 s. So after one such failure, queries fail at once with
CircuitOpen, except for one probe after 2 s, then 4 s, and so on up to 60 s.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from pun_app.adapters.errors import (
    CircuitOpen,
    CommandNotRun,
    CommandTimedOut,
    JobNotFound,
    NotSent,
    Rejected,
    SchedulerError,
    SchedulerUnavailable,
    Unanswered,
)

ACCOUNTING_COMMANDS = frozenset({"sacct", "sacctmgr", "bhist", "qacct", "condor_history"})
"""Commands that query a database or search through files. Their failure says nothing about the scheduler itself."""
FIRST_INTERVAL_S, MAX_INTERVAL_S = 2.0, 60.0
"""Seconds from a failure to the next probe: after the first failure, and at most."""
STATE_TTL_S = 300.0
"""Seconds after its last answer for which a scheduler counts as up."""


class Health:
    """The state of one service of a scheduler. ``other_commands`` belong to another service."""

    def __init__(
        self, other_commands: frozenset[str] = frozenset(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._other_commands = other_commands
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._failed_at = self._answered_at = -math.inf
        self._retry_at = 0.0
        self._is_probing = False
        self._message = ""

    @property
    def state(self) -> Literal["up", "down"] | None:
        """Return ``up``, ``down``, or None if it is unknown."""
        if self._failures:
            return "down"
        return "up" if self._clock() - self._answered_at < STATE_TTL_S else None

    def check(self) -> None:
        """Raise CircuitOpen if the scheduler must not be asked now."""
        with self._lock:
            self._check()

    @contextmanager
    def observe(self) -> Iterator[None]:
        """Run the body, which asks the scheduler, and record its result. Raises CircuitOpen in place of running it."""
        with self._lock:
            self._check()
            is_probe = self._is_probing = self._failures > 0
            began = self._clock()
        try:
            yield
        except SchedulerError as error:
            self._record(error, began, is_probe)
            raise
        except BaseException:
            self._end_probe(is_probe)
            raise
        self._record(None, began, is_probe)

    def _check(self) -> None:
        now = self._clock()
        if self._failures and (self._is_probing or now < self._retry_at):
            seconds = max(1, math.ceil(self._retry_at - now)) if now < self._retry_at else int(FIRST_INTERVAL_S)
            raise CircuitOpen(f"{self._message}. Try again in {seconds} s", seconds)

    def _record(self, error: SchedulerError | None, began: float, is_probe: bool) -> None:
        now = self._clock()
        with self._lock:
            if is_probe:
                self._is_probing = False
            if error is None or isinstance(error, (JobNotFound, Rejected)):
                self._failures = 0
                if not isinstance(error, Rejected):  # An adapter may reject a request before it asks the scheduler.
                    self._answered_at = now
            elif (failure := self._scheduler_failure(error)) and began >= self._failed_at:
                # Commands that fail at the same time count as one failure.
                self._failures += 1
                self._failed_at = now
                interval = FIRST_INTERVAL_S * 2.0 ** min(self._failures - 1, 10)
                self._retry_at = now + min(MAX_INTERVAL_S, interval)
                self._message = failure.message.rstrip(".")

    def _scheduler_failure(self, error: BaseException | None) -> SchedulerUnavailable | None:
        """Return the error, or its cause, that shows that the scheduler does not answer; None without one.

        The outer message is about one submit. Other requests get the message of the cause.
        """
        if isinstance(error, (CommandTimedOut, Unanswered, NotSent)):
            is_unrelated = isinstance(error, (CommandNotRun, CircuitOpen)) or error.program in self._other_commands
            return None if is_unrelated else error
        return None if error is None else self._scheduler_failure(error.__cause__)

    def _end_probe(self, is_probe: bool) -> None:
        with self._lock:
            if is_probe:
                self._is_probing = False
