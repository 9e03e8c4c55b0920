"""A cache of one cluster's queries: identical queries in flight are joined, and a result is reused for a second.

Each query runs in a thread of its own. A caller waits until its own deadline; the query goes on after that and serves
later callers with the same question.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from pun_app.adapters.errors import SchedulerError, SchedulerUnavailable
from pun_app.adapters.model import Job
from pun_app.deadline import begin, left

RESULT_TTL_S = 1.0
"""Seconds for which a result is reused."""
NO_CACHE = math.inf
"""A ``not_before`` that no earlier result meets."""

Key = tuple[str, str]
"""The kind of a query, and its argument: a job id, or where a page begins."""
JOB, JOBS, PAGE = "job", "jobs", "page"

Clock = Callable[[], float]
T = TypeVar("T")


class QueryTimedOut(SchedulerUnavailable):
    """The query was still in flight at the request's deadline."""

    def __init__(self) -> None:
        super().__init__("The scheduler has not answered in time; try again")


class QueryCache:
    """The queries of one cluster that are in flight or have just ended. ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._queries: dict[Key, tuple[float, Future[Any]]] = {}

    def result(
        self, key: Key | None, ask: Callable[[], T], not_before: float = 0.0, patience: float = math.inf
    ) -> tuple[T, float]:
        """Return (result, time of the query). Join a query in flight, reuse a result newer than `not_before`, or call
        `ask()`.

        The result of a query without a key is not reused. Raises what `ask()` raised, and QueryTimedOut after
        ``patience`` seconds or at the thread's deadline; the query goes on after that for later callers.
        """
        now = self._clock()
        with self._lock:
            asked, query = self._queries.get(key, (0.0, None)) if key else (0.0, None)
            if not query or asked < not_before or (now - asked >= RESULT_TTL_S and query.done()):
                if left() <= 0:
                    raise QueryTimedOut
                self._drop_old(now)
                asked, query = now, begin(ask, "query", (SchedulerError,))
                if key:
                    self._queries[key] = asked, query
        future: Future[T] = query
        try:
            return future.result(max(0.0, min(patience, left(), threading.TIMEOUT_MAX))), asked
        except FutureTimeoutError as error:
            raise QueryTimedOut from error

    def is_slow(self) -> bool:
        """Return True if a query has been in flight for more than a second."""
        with self._lock:
            return any(self._clock() - asked > 1 and not query.done() for asked, query in self._queries.values())

    def is_fresh(self, key: Key) -> bool:
        """Return True if the query was begun within the last second."""
        with self._lock:
            query = self._queries.get(key)
        return query is not None and self._clock() - query[0] < RESULT_TTL_S

    def latest_list(self) -> float:
        """Return the time of the latest query for a list or a page of jobs; 0 without one."""
        with self._lock:
            return max((asked for (kind, _), (asked, _) in self._queries.items() if kind in (JOBS, PAGE)), default=0.0)

    def jobs_since(self, when: float) -> dict[str, Job]:
        """Return the jobs in the results of queries begun after ``when``, by id; of each job the latest state."""
        with self._lock:
            later = [
                (asked, key, query.result())
                for key, (asked, query) in self._queries.items()
                if key[0] in (JOB, JOBS, PAGE) and asked > when and query.done() and not query.exception()
            ]
        jobs: dict[str, Job] = {}
        for _, (kind, job_id), result in sorted(later, key=lambda one: one[0]):
            jobs.update({job_id: result, result.id: result} if kind == JOB else {job.id: job for job in result})
        return jobs

    def clear(self) -> None:
        """Forget all queries. Those in flight still answer their waiting callers."""
        with self._lock:
            self._queries.clear()

    def _drop_old(self, now: float) -> None:
        """Drop results that are too old to be reused: each may hold thousands of jobs.

        A result newer than a list in flight stays, since jobs_since() corrects that list by it.
        """
        in_flight = min((asked for asked, query in self._queries.values() if not query.done()), default=now)
        self._queries = {
            key: (asked, query)
            for key, (asked, query) in self._queries.items()
            if now - asked < RESULT_TTL_S or asked >= in_flight
        }
