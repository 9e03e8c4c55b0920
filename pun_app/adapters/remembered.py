"""What was asked of one cluster: identical questions in flight are one, and an answer is used again for a second."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillAsked
from typing import Any, TypeVar

from pun_app.adapters.errors import SchedulerError, SchedulerUnavailable
from pun_app.adapters.model import Job
from pun_app.deadline import begin, left

FRESH = 1.0
"""Seconds for which an answer may be used again."""
ANEW = math.inf
"""No answer is good that was asked for before the question."""

Key = tuple[str, str]
"""What was asked, and of which job, or from where on."""
JOB, JOBS, PAGE = "job", "jobs", "page"

T = TypeVar("T")


class NoAnswer(SchedulerUnavailable):
    """The answer was not there in time."""

    def __init__(self) -> None:
        super().__init__("The scheduler has not answered in time; try again")


class Remembered:
    """Answers by their keys. When each was asked for is in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[Key, tuple[float, Future[Any]]] = {}

    def answer(
        self, key: Key | None, ask: Callable[[], T], not_before: float = 0.0, patience: float = math.inf
    ) -> tuple[T, float]:
        """Return what ``ask`` gives or raises, and when it was asked for: now, or of late but not before that moment.
        Without a key the answer is not kept.

        Waits for ``patience`` seconds at most, and until the thread's deadline; the question goes on after that, in a
        thread of its own, for whoever asks the same then. Raises SchedulerUnavailable.
        """
        now = time.monotonic()
        with self._lock:
            asked, answer = self._asked.get(key, (0.0, None)) if key else (0.0, None)
            if not answer or asked < not_before or (now - asked >= FRESH and answer.done()):
                if left() <= 0:
                    raise NoAnswer
                # What is too old to be used again may hold thousands of jobs; it goes, but for what is newer than a
                # list that is awaited still (jobs_since).
                awaited = min((v[0] for v in self._asked.values() if not v[1].done()), default=now)
                self._asked = {k: v for k, v in self._asked.items() if now - v[0] < FRESH or v[0] >= awaited}
                asked, answer = now, begin(ask, "question", (SchedulerError,))
                if key:
                    self._asked[key] = asked, answer
        future: Future[T] = answer
        try:
            return future.result(max(0.0, min(patience, left(), threading.TIMEOUT_MAX))), asked
        except StillAsked as error:
            raise NoAnswer from error

    def is_slow(self) -> bool:
        """Whether a question has been in flight for more than a second."""
        with self._lock:
            return any(time.monotonic() - asked > 1 and not answer.done() for asked, answer in self._asked.values())

    def is_fresh(self, key: Key) -> bool:
        """Whether it was asked within the last second."""
        with self._lock:
            asked = self._asked.get(key)
        return asked is not None and time.monotonic() - asked[0] < FRESH

    def latest_list(self) -> float:
        """When a list or a page of jobs was asked for last."""
        with self._lock:
            return max((asked for (what, _), (asked, _) in self._asked.items() if what in (JOBS, PAGE)), default=0.0)

    def jobs_since(self, when: float) -> dict[str, Job]:
        """What jobs were by the answers that were asked for after ``when``, by id: the latest of each."""
        with self._lock:
            later = [
                (asked, key, answer.result())
                for key, (asked, answer) in self._asked.items()
                if key[0] in (JOB, JOBS, PAGE) and asked > when and answer.done() and not answer.exception()
            ]
        told: dict[str, Job] = {}
        for _, (what, job_id), answer in sorted(later, key=lambda one: one[0]):
            told.update({job_id: answer, answer.id: answer} if what == JOB else {job.id: job for job in answer})
        return told

    def clear(self) -> None:
        with self._lock:
            self._asked.clear()
