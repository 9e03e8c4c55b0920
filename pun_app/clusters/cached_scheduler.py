"""A cache in front of one cluster's adapter, shared by all requests of a user.

Identical queries in flight are joined, and a result is reused for a second, so that a hundred polling clients of one
user cost the scheduler one command a second. Each query runs in a thread of its own. A caller waits until its own
deadline; the query goes on after that and serves later callers with the same question.

A change through the same PUN empties the cache. A scheduler that does not answer is asked less and
less often (health.py).

All methods report a job as the latest query saw it, whichever method that query came from. So a client that saw its job
end is never told by a list of half a second ago that the job is queued.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import Any, TypeVar

from pun_app.adapters.base import Adapter
from pun_app.adapters.errors import (
    CircuitOpen,
    CommandNotRun,
    JobNotFound,
    NotSent,
    SchedulerError,
    SchedulerUnavailable,
)
from pun_app.adapters.model import (
    COMPLETED,
    Account,
    ClusterInfo,
    Job,
    JobRequest,
    OutputFiles,
    PastJob,
    Period,
    Queue,
    ValidationResult,
)
from pun_app.clusters.cancelled_tasks import CancelledTasks
from pun_app.clusters.dependencies import Met, settle
from pun_app.clusters.health import ACCOUNTING_COMMANDS, Health
from pun_app.clusters.limits import check_limits
from pun_app.deadline import CHANGE_S, READ_S, begin, left, until

RESULT_TTL_S = 1.0
"""Seconds for which a result is reused."""
NO_CACHE = math.inf
"""A ``not_before`` that no earlier result meets."""
MAX_CONCURRENT = 6
"""Maximum number of simultaneous queries and changes of one cluster."""
LAST_LOOK_S = 2.0
"""Seconds that a request waits for the scheduler at the end of its wait for a job."""
LAST_LOOK_MAX_AGE_S = 10.0
"""Age in seconds up to which the last known state of a job will do instead: a few polls."""
PROBE_WAIT_S = 2.0
"""Seconds that a request waits for a scheduler that failed to answer the last time."""
CHANGE_NEEDS_S = 15.0
"""Seconds that must be left to begin a change. With fewer, it might be cut off before its outcome is known."""
POLLED_S = 2.0
"""Seconds after its last query for which a job counts as polled: a little more than a client's usual interval."""

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


class CachedScheduler:
    """An adapter behind a QueryCache. Most queries return (result, its age in seconds).

    ``no_cache`` forces a new query. Every method raises the adapter's errors (adapters/errors.py).
    """

    def __init__(self, adapter: Adapter, clock: Clock = time.monotonic) -> None:
        self.adapter = adapter
        self.cache = QueryCache(clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._cancelled = CancelledTasks(adapter)
        self._slots = threading.BoundedSemaphore(MAX_CONCURRENT)
        self.health = Health(ACCOUNTING_COMMANDS)
        # In some schedulers accounting is a service of its own: one works without the other.
        self._accounting_health = Health()
        self._polled: dict[str, float] = {}
        """The time of the last query for each polled job."""

    def jobs(self, *, no_cache: bool = False) -> tuple[list[Job], float]:
        """Return the user's jobs, including recently finished ones."""
        return self._list((JOBS, ""), self.adapter.jobs, no_cache)

    def page(self, count: int, before: str | None, *, no_cache: bool = False) -> tuple[list[Job], float]:
        """Return a page of the user's jobs, as Adapter.page() does."""
        return self._list((PAGE, f"{count} {before or ''}"), lambda: self.adapter.page(count, before), no_cache)

    def job(self, job_id: str, *, no_cache: bool = False) -> tuple[Job, float]:
        """Return one job.

        When a second job is queried within two seconds, the whole list is queried instead and serves both.
        """
        self.adapter.check_id(job_id)
        if not no_cache and self._note_poll(job_id):
            jobs, age = self.jobs()
            for job in jobs:
                if job.id == job_id and not _lacks_outcome(job):
                    return job, age
        return self._single(job_id, no_cache)

    def poll(self, job_ids: Set[str]) -> tuple[dict[str, Job | SchedulerError], float]:
        """Return each of the jobs that requests wait for, or the error of its query; and their age in seconds.

        Several jobs are read from one list.
        """
        found: dict[str, Job | SchedulerError] = {}
        age = 0.0
        try:
            if len(job_ids) > 1:
                listed, age = self.jobs_by_id(list(job_ids))
                found.update((job_id, job) for job_id, job in listed.items() if not _lacks_outcome(job))
        except SchedulerError as error:
            return dict.fromkeys(job_ids, error), age
        for job_id in job_ids - found.keys():
            try:
                found[job_id] = self._single(job_id, no_cache=False)[0]
            except SchedulerError as error:
                found[job_id] = error
        return found, age

    def jobs_by_id(self, job_ids: Sequence[str], *, no_cache: bool = False) -> tuple[dict[str, Job], float]:
        """Return the jobs that exist, by the ids that were asked for.

        They come from the list; jobs that it lacks are looked up together in one more query.
        """
        asked = [job_id for job_id in dict.fromkeys(job_ids) if self.adapter.is_id(job_id)]
        found, age = self._select(asked, no_cache=no_cache)
        missing = [job_id for job_id in asked if job_id not in found or _lacks_outcome(found[job_id])]
        found |= self._look_up(missing) if missing else {}
        cancelled = [
            job_id
            for job_id in missing
            if self._cancelled.is_task(job_id) and (job_id not in found or _lacks_outcome(found[job_id]))
        ]
        return {**found, **(self._cancelled_tasks(cancelled) if cancelled else {})}, age

    def output(self, job_id: str) -> OutputFiles:
        """Return the paths of a job's output files. Cached, since clients that follow a file ask again and again."""
        self.adapter.check_id(job_id)
        return self._query(("output", job_id), lambda: self.adapter.output(job_id))[0]

    def history(self, period: Period) -> list[PastJob]:
        """Return the user's ended jobs of a period, without caching."""
        return self._query(None, lambda: self.adapter.history(period), health=self._accounting_health)[0]

    def queues(self, *, no_cache: bool = False) -> tuple[list[Queue], float]:
        """Return the queues that the user may see."""
        return self._query(("queues", ""), self.adapter.queues, _not_before(no_cache))[:2]

    def accounts(self, *, no_cache: bool = False) -> tuple[list[Account], float]:
        """Return the accounts that the user may charge."""
        return self._query(
            ("accounts", ""), self.adapter.accounts, _not_before(no_cache), health=self._accounting_health
        )[:2]

    def info(self, *, no_cache: bool = False) -> tuple[ClusterInfo, float]:
        """Return how much of the cluster is in use."""
        return self._query(("info", ""), self.adapter.info, _not_before(no_cache))[:2]

    def settle_dependencies(self, request: JobRequest) -> tuple[JobRequest, Met]:
        """Return the request without the conditions that are already met, and those conditions.

        Raises what settle() raises; an unavailable scheduler is NotSent here, since nothing was submitted.
        """
        self.adapter.check_options(request)
        try:
            return settle(request, self._current_jobs, self.adapter.cluster_id)
        except SchedulerUnavailable as error:
            raise NotSent(f"{error.message}; nothing was submitted", error.retry_after) from error

    def submit(self, request: JobRequest) -> Job:
        """Submit a job, and return what is known of it at that moment."""
        return self._change(lambda: self.adapter.submit(request))

    def validate(self, request: JobRequest) -> ValidationResult:
        """Let the scheduler check a job, and compare it with its queue's limits, which a scheduler may not do."""
        result = self._run(lambda: self.adapter.validate(request))
        if self.adapter.supports("queues"):
            check_limits(request, self.adapter.requested(request), self.queues()[0])
        return result

    def find_submitted(self, submit_tag: str) -> Job | None:
        """Return the job with a submit tag, as Adapter.find_submitted() does."""
        return self._run(lambda: self.adapter.find_submitted(submit_tag))

    def last_look(self, job_id: str, known: tuple[Job, float] | None) -> tuple[Job, float]:
        """Return (job, its age in seconds) at the end of a request's wait for it.

        ``known`` is the job as last seen, and the time of that query. If the scheduler does not answer within
        LAST_LOOK_S, the result is ``known``, unless that is older than LAST_LOOK_MAX_AGE_S: then raises
        SchedulerUnavailable.
        """
        is_hurried = self.cache.is_slow() or self.health.state == "down"
        try:
            with until(time.monotonic() + (0.0 if is_hurried else LAST_LOOK_S)):
                return self.job(job_id)
        except SchedulerUnavailable:
            if known is None or self._clock() - known[1] > LAST_LOOK_MAX_AGE_S:
                raise
        job, asked = known
        return self.cache.jobs_since(asked).get(job_id, job), self._clock() - asked

    def cancel(self, job_id: str) -> None:
        """Cancel a job. A queued task is recorded, since the scheduler may forget it (cancelled_tasks.py)."""
        self.adapter.check_id(job_id)

        def cancel() -> Job | None:
            task = self._cancelled.queued(job_id)
            self.adapter.cancel(job_id)
            return task

        if task := self._change(cancel):
            self._cancelled.record(job_id, task)

    def hold(self, job_id: str) -> str | None:
        """Hold a queued job, and return its new status."""
        self.adapter.check_id(job_id)
        return self._change(lambda: self.adapter.hold(job_id))

    def release(self, job_id: str) -> str | None:
        """Release a held job, and return its new status."""
        self.adapter.check_id(job_id)
        return self._change(lambda: self.adapter.release(job_id))

    def _note_poll(self, job_id: str) -> bool:
        """Note a query for a job. Return True if other jobs are polled too, so that the list costs least."""
        now = self._clock()
        with self._lock:
            self._polled = {polled: when for polled, when in self._polled.items() if now - when < POLLED_S}
            are_others_polled = bool(self._polled.keys() - {job_id})
            self._polled[job_id] = now
        return are_others_polled or self.cache.is_fresh((JOBS, ""))

    def _single(self, job_id: str, no_cache: bool) -> tuple[Job, float]:
        """Return one job from a query of its own, begun after every list that may contain the job."""
        not_before = NO_CACHE if no_cache else self.cache.latest_list()
        return self._query((JOB, job_id), lambda: self._cancelled.job(job_id), not_before)[:2]

    def _list(self, key: Key, ask: Callable[[], list[Job]], no_cache: bool) -> tuple[list[Job], float]:
        """Return a list of jobs, each as the latest query saw it."""
        jobs, age, asked = self._query(key, ask, _not_before(no_cache))
        newer = self.cache.jobs_since(asked)
        return [newer.get(job.id, job) for job in jobs] if newer else jobs, age

    def _select(self, job_ids: Sequence[str], *, no_cache: bool) -> tuple[dict[str, Job], float]:
        """Return the jobs that the list contains, by the ids that were asked for; an array by its tasks too."""
        jobs, age, asked = self._query((JOBS, ""), self.adapter.jobs, _not_before(no_cache))
        newer = self.cache.jobs_since(asked)
        found = self.adapter.select([newer.get(job.id, job) for job in jobs], job_ids)
        return {**found, **{job_id: newer[job_id] for job_id in job_ids if job_id in newer}}, age

    def _look_up(self, job_ids: list[str]) -> dict[str, Job]:
        return self._query(None, lambda: self.adapter.look_up(job_ids))[0]

    def _cancelled_tasks(self, job_ids: list[str]) -> dict[str, Job]:
        tasks = self._query(None, lambda: [self._cancelled.task(job_id) for job_id in job_ids])[0]
        return {job_id: task for job_id, task in zip(job_ids, tasks, strict=True) if task}

    def _current_jobs(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Return the jobs that exist, without the cache: one from its own query, several from one list."""
        if len(job_ids) > 1:
            return self.jobs_by_id(job_ids, no_cache=True)[0]
        try:
            return {job_ids[0]: self.job(job_ids[0], no_cache=True)[0]}
        except JobNotFound:
            return {}

    def _query(
        self, key: Key | None, ask: Callable[[], T], not_before: float = 0.0, *, health: Health | None = None
    ) -> tuple[T, float, float]:
        """Return (result, its age in seconds at the start of this call, time of the query)."""
        health = health or self.health
        now = self._clock()

        def query() -> T:
            health.check()
            seconds = READ_S if health is self.health else CHANGE_S
            with until(time.monotonic() + seconds), self._slot(), health.observe():
                return ask()

        patience = PROBE_WAIT_S if health.state == "down" else math.inf
        try:
            result, asked = self.cache.result(key, query, not_before, patience)
        except QueryTimedOut:
            health.check()  # If the scheduler failed before, that error says more.
            raise
        return result, max(0.0, now - asked), asked

    def _change(self, change: Callable[[], T]) -> T:
        """Run a change, and empty the cache. Raises NotSent if it was not begun."""
        if left() < CHANGE_NEEDS_S:
            raise CommandNotRun("Your other requests took so long that this one was not begun; try again")
        if self.health.state == "down":
            # A scheduler may carry out a change that it does not answer. So a query goes first.
            try:
                self.jobs(no_cache=True)
            except SchedulerUnavailable as error:
                raise CircuitOpen(error.message, error.retry_after) from error
        try:
            return self._run(change)
        finally:
            # After the change: a query that began before its end may not show it.
            self.cache.clear()

    def _run(self, operation: Callable[[], T]) -> T:
        with self._slot(), self.health.observe():
            return operation()

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Hold one of the cluster's slots. Raises CommandNotRun if none is free until the thread's deadline."""
        if not self._slots.acquire(timeout=max(0.0, min(left(), CHANGE_S))):
            raise CommandNotRun("Your other requests to this cluster wait for its scheduler; try again")
        try:
            yield
        finally:
            self._slots.release()


def _not_before(no_cache: bool) -> float:
    return NO_CACHE if no_cache else 0.0


def _lacks_outcome(job: Job) -> bool:
    """Return True for an ended job whose outcome is unknown: the lists of some schedulers omit it."""
    return job.status == COMPLETED and job.outcome is None
