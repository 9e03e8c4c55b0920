"""A circuit breaker: what is known of whether a scheduler answers, and when it is asked again.

A scheduler that is down costs each of its commands 9 to 20 s. After one that failed so, questions are answered 503 at
once, and one of them is asked as a probe: after 2 s, then 4 s, and so on to 60 s.
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

RECORD_PROGRAMS = frozenset({"sacct", "sacctmgr", "bhist", "qacct", "condor_history"})
"""Commands that ask a database, or search through files: one that fails says nothing about the scheduler."""
FIRST_INTERVAL_S, LONGEST_INTERVAL_S = 2.0, 60.0
STATE_KNOWN_S = 300.0
"""Seconds after its last answer for which a scheduler counts as up."""


class Health:
    """Whether one service of a scheduler answers. ``others`` are commands of another service."""

    def __init__(self, others: frozenset[str] = frozenset(), clock: Callable[[], float] = time.monotonic) -> None:
        self._others = others
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._failed_at = self._answered_at = -math.inf
        self._retry_at = 0.0
        self._is_probing = False
        self._message = ""

    @property
    def state(self) -> Literal["up", "down"] | None:
        """``up`` or ``down``; None where it is not known."""
        if self._failures:
            return "down"
        return "up" if self._clock() - self._answered_at < STATE_KNOWN_S else None

    def check(self) -> None:
        """Raise CircuitOpen unless the scheduler may be asked now."""
        with self._lock:
            self._check()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask the scheduler in the body, and take note of how that ends. Raises CircuitOpen."""
        with self._lock:
            self._check()
            is_probe = self._is_probing = self._failures > 0
            began = self._clock()
        try:
            yield
        except SchedulerError as error:
            self._note(error, began, is_probe)
            raise
        except BaseException:
            self._end(is_probe)
            raise
        self._note(None, began, is_probe)

    def _check(self) -> None:
        now = self._clock()
        if self._failures and (self._is_probing or now < self._retry_at):
            seconds = max(1, math.ceil(self._retry_at - now)) if now < self._retry_at else int(FIRST_INTERVAL_S)
            raise CircuitOpen(f"{self._message}. It is not asked again before {seconds} s have passed", seconds)

    def _note(self, error: SchedulerError | None, began: float, is_probe: bool) -> None:
        now = self._clock()
        with self._lock:
            if is_probe:
                self._is_probing = False
            if error is None or isinstance(error, (JobNotFound, Rejected)):
                self._failures = 0
                if not isinstance(error, Rejected):  # A refusal may come before anybody was asked.
                    self._answered_at = now
            elif (failure := self._failure_in(error)) and began >= self._failed_at:
                # Commands that failed side by side are one failure.
                self._failures += 1
                self._failed_at = now
                interval = FIRST_INTERVAL_S * 2.0 ** min(self._failures - 1, 10)
                self._retry_at = now + min(LONGEST_INTERVAL_S, interval)
                self._message = failure.message.rstrip(".")

    def _failure_in(self, error: BaseException | None) -> SchedulerUnavailable | None:
        """Return the error, or the one that made it, that says that the scheduler does not answer.

        What the outer one says is of one submit; others are told what the inner one says.
        """
        if isinstance(error, (CommandTimedOut, Unanswered, NotSent)):
            says_nothing = isinstance(error, (CommandNotRun, CircuitOpen)) or error.program in self._others
            return None if says_nothing else error
        return None if error is None else self._failure_in(error.__cause__)

    def _end(self, is_probe: bool) -> None:
        with self._lock:
            if is_probe:
                self._is_probing = False
