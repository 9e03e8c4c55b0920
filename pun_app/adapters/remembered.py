"""What was asked of one cluster: identical questions in flight are one, and an answer is used again for a second."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from pun_app.adapters.model import Job

FRESH = 1.0
"""Seconds for which an answer may be used again."""
ANEW = math.inf
"""No answer is good that was asked for before the question."""

Key = tuple[str, str]
"""What was asked, and of which job, or from where on."""
JOB, JOBS, PAGE = "job", "jobs", "page"

T = TypeVar("T")


class Remembered:
    """Answers by their keys. When each was asked for is in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[Key, tuple[float, Future[Any]]] = {}

    def answer(self, key: Key, ask: Callable[[], T], not_before: float = 0.0) -> tuple[T, float]:
        """What ``ask`` gives or raises, and when it was asked for: now, or of late but not before that moment."""
        now = time.monotonic()
        with self._lock:
            asked, answer = self._asked.get(key, (0.0, None))
            if answer and asked >= not_before and (now - asked < FRESH or not answer.done()):
                others: Future[T] = answer
                mine = None
            else:
                # What is too old to be used again may hold thousands of jobs; it goes, but for what is newer than a
                # list that is awaited still (jobs_since).
                awaited = min((v[0] for v in self._asked.values() if not v[1].done()), default=now)
                self._asked = {k: v for k, v in self._asked.items() if now - v[0] < FRESH or v[0] >= awaited}
                mine = Future[T]()
                self._asked[key] = (now, mine)
        if mine is None:
            return others.result(), asked
        try:
            mine.set_result(ask())
        except BaseException as error:
            mine.set_exception(error)
        return mine.result(), now

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
