"""What the readers of one cluster share: identical questions in flight are one command, and an answer is
used again for a second, so that a hundred polling clients of one user cost the scheduler one command a
second. A change through the same PUN drops what is remembered.

A question has a thread of its own: a client waits until its own deadline, and whoever asks the same after that is
answered when the scheduler is. A scheduler that does not answer is asked less and less (health.py).

Whichever way a client asks, it is answered by what was asked for last: nobody sees a job end, and hears then from a
list of half a second ago that it waits.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import TypeVar

from pun_app.adapters.base import Adapter
from pun_app.adapters.cancelled_tasks import CancelledTasks
from pun_app.adapters.dependencies import Met, settle
from pun_app.adapters.errors import (
    CircuitOpen,
    CommandNotRun,
    JobNotFound,
    NotSent,
    SchedulerError,
    SchedulerUnavailable,
)
from pun_app.adapters.health import RECORD_PROGRAMS, Health
from pun_app.adapters.limits import check_limits
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
from pun_app.adapters.remembered import ANEW, JOB, JOBS, PAGE, Key, NoAnswer, Remembered
from pun_app.deadline import CHANGE_S, READ_S, left, until

AT_ONCE = 6
"""Questions and changes of one cluster at once."""
LAST_LOOK_S = 2.0
KNOWN_S = 10.0
"""Seconds for which what is known of a job will do at the end of a wait for it: a few looks."""
PROBE_WAIT_S = 2.0
"""Seconds for which a request waits for a scheduler that did not answer the last time."""
CHANGE_NEEDS_S = 15.0
"""Seconds that must be left for a change to begin: with fewer, it might be cut off before its outcome is known."""
POLLED = 2.0
"""Seconds after its last question for which a job counts as polled: a little more than from one to the next."""

T = TypeVar("T")


class CachedScheduler:
    """An adapter whose answers are shared. Each read comes with its age in seconds."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self._lock = threading.Lock()
        self._remembered = Remembered()
        self._cancelled = CancelledTasks(adapter)
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self.health = Health(RECORD_PROGRAMS)
        # A database of its own, in some schedulers: one works without the other.
        self._records = Health()
        # When each of the jobs that are asked for was asked for last.
        self._polled: dict[str, float] = {}

    def jobs(self, *, fresh: bool = False) -> tuple[list[Job], float]:
        """The caller's jobs. ``fresh`` asks the scheduler anew."""
        return self._list((JOBS, ""), self.adapter.jobs, fresh)

    def page(self, count: int, before: str | None, *, fresh: bool = False) -> tuple[list[Job], float]:
        """A page of the caller's jobs."""
        return self._list((PAGE, f"{count} {before or ''}"), lambda: self.adapter.page(count, before), fresh)

    def job(self, job_id: str, *, fresh: bool = False) -> tuple[Job, float]:
        """One job. A second job within two seconds has the whole list asked for, which then serves all."""
        self.adapter.check_id(job_id)
        if not fresh and self._others_ask(job_id):
            jobs, age = self.jobs()
            for job in jobs:
                if job.id == job_id and not _ended_somehow(job):
                    return job, age
        return self._alone(job_id, fresh)

    def watched(self, job_ids: Set[str]) -> tuple[dict[str, Job | SchedulerError], float]:
        """Return what is known of jobs that requests wait for: each job, or why it cannot be told.

        Several jobs are read from one list.
        """
        told: dict[str, Job | SchedulerError] = {}
        age = 0.0
        try:
            if len(job_ids) > 1:
                several, age = self.several(list(job_ids))
                told.update((job_id, job) for job_id, job in several.items() if not _ended_somehow(job))
        except SchedulerError as error:
            return dict.fromkeys(job_ids, error), age
        for job_id in job_ids - told.keys():
            try:
                told[job_id] = self._alone(job_id, fresh=False)[0]
            except SchedulerError as error:
                told[job_id] = error
        return told, age

    def output(self, job_id: str) -> OutputFiles:
        """Where a job's output goes. Clients that follow a file ask for it again and again."""
        self.adapter.check_id(job_id)
        return self._shared(("output", job_id), lambda: self.adapter.output(job_id), False)[0]

    def several(self, job_ids: Sequence[str], *, fresh: bool = False) -> tuple[dict[str, Job], float]:
        """Those of the jobs that are there, by the ids as they were asked for: from the list, and what is not in it."""
        asked = [job_id for job_id in dict.fromkeys(job_ids) if self.adapter.is_id(job_id)]
        found, age = self._picked(asked, fresh=fresh)
        missing = [job_id for job_id in asked if job_id not in found or _ended_somehow(found[job_id])]
        found |= self._unlisted(missing) if missing else {}
        gone = [
            job_id
            for job_id in missing
            if self._cancelled.is_task(job_id) and (job_id not in found or _ended_somehow(found[job_id]))
        ]
        return {**found, **(self._gone(gone) if gone else {})}, age

    def history(self, period: Period) -> list[PastJob]:
        return self._asked(None, lambda: self.adapter.history(period), health=self._records)[0]

    def queues(self, *, fresh: bool = False) -> tuple[list[Queue], float]:
        return self._shared(("queues", ""), self.adapter.queues, fresh)

    def accounts(self, *, fresh: bool = False) -> tuple[list[Account], float]:
        return self._asked(("accounts", ""), self.adapter.accounts, ANEW if fresh else 0.0, self._records)[:2]

    def info(self, *, fresh: bool = False) -> tuple[ClusterInfo, float]:
        return self._shared(("info", ""), self.adapter.info, fresh)

    def settled(self, request: JobRequest) -> tuple[JobRequest, Met]:
        """The request without the conditions that are met already, and those. Raises what settle() raises.

        SchedulerUnavailable is NotSent here: nothing has been submitted.
        """
        self.adapter.check_options(request)
        try:
            return settle(request, self._named, self.adapter.cluster_id)
        except SchedulerUnavailable as error:
            raise NotSent(f"{error.message}; nothing was submitted", error.retry_after) from error

    def _named(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """The jobs as they are now, by the ids as they were asked for: one by itself, several from one list."""
        if len(job_ids) > 1:
            return self.several(job_ids, fresh=True)[0]
        try:
            return {job_ids[0]: self.job(job_ids[0], fresh=True)[0]}
        except JobNotFound:
            return {}

    def submit(self, request: JobRequest) -> Job:
        return self._changing(lambda: self.adapter.submit(request))

    def validate(self, request: JobRequest) -> ValidationResult:
        """Ask the scheduler, and compare with the limits of the queue, which a scheduler may not do."""
        trial = self._operate(lambda: self.adapter.validate(request))
        if self.adapter.supports("queues"):
            check_limits(request, self.adapter.requested(request), self.queues()[0])
        return trial

    def find_submitted(self, submit_tag: str) -> Job | None:
        return self._operate(lambda: self.adapter.find_submitted(submit_tag))

    def last_look(self, job_id: str, known: tuple[Job, float] | None) -> tuple[Job, float]:
        """Return a job at the end of a wait for it, of which this was known, and when it was asked for.

        Waits for a scheduler that answers within LAST_LOOK_S, and otherwise makes do with what is known, while that is
        young enough. Raises SchedulerUnavailable.
        """
        hurry = self._remembered.is_slow() or self.health.state == "down"
        try:
            with until(time.monotonic() + (0.0 if hurry else LAST_LOOK_S)):
                return self.job(job_id)
        except SchedulerUnavailable:
            if known is None or time.monotonic() - known[1] > KNOWN_S:
                raise
        job, asked = known
        return self._remembered.jobs_since(asked).get(job_id, job), time.monotonic() - asked

    def cancel(self, job_id: str) -> None:
        self.adapter.check_id(job_id)

        def cancel() -> Job | None:
            task = self._cancelled.queued(job_id)
            self.adapter.cancel(job_id)
            return task

        if task := self._changing(cancel):
            self._cancelled.keep(job_id, task)

    def hold(self, job_id: str) -> str | None:
        self.adapter.check_id(job_id)
        return self._changing(lambda: self.adapter.hold(job_id))

    def release(self, job_id: str) -> str | None:
        self.adapter.check_id(job_id)
        return self._changing(lambda: self.adapter.release(job_id))

    def _others_ask(self, job_id: str) -> bool:
        """Whether another job, or the list, was asked for of late: then the list is what costs least."""
        now = time.monotonic()
        with self._lock:
            self._polled = {polled: when for polled, when in self._polled.items() if now - when < POLLED}
            others = bool(self._polled.keys() - {job_id})
            self._polled[job_id] = now
        return others or self._remembered.is_fresh((JOBS, ""))

    def _shared(self, key: Key, ask: Callable[[], T], fresh: bool) -> tuple[T, float]:
        return self._asked(key, ask, ANEW if fresh else 0.0)[:2]

    def _alone(self, job_id: str, fresh: bool) -> tuple[Job, float]:
        """One job by a question of its own, asked after any list that may have told of it."""
        not_before = ANEW if fresh else self._remembered.latest_list()
        return self._asked((JOB, job_id), lambda: self._cancelled.job(job_id), not_before)[:2]

    def _list(self, key: Key, ask: Callable[[], list[Job]], fresh: bool) -> tuple[list[Job], float]:
        jobs, age, asked = self._asked(key, ask, ANEW if fresh else 0.0)
        newer = self._remembered.jobs_since(asked)
        return [newer.get(job.id, job) for job in jobs] if newer else jobs, age

    def _picked(self, job_ids: Sequence[str], *, fresh: bool) -> tuple[dict[str, Job], float]:
        """Those of the jobs that the list has, an array by its tasks too, by the ids as they were asked for."""
        jobs, age, asked = self._asked((JOBS, ""), self.adapter.jobs, ANEW if fresh else 0.0)
        newer = self._remembered.jobs_since(asked)
        found = self.adapter.select([newer.get(job.id, job) for job in jobs], job_ids)
        return {**found, **{one: newer[one] for one in job_ids if one in newer}}, age

    def _unlisted(self, job_ids: list[str]) -> dict[str, Job]:
        return self._asked(None, lambda: self.adapter.look_up(job_ids))[0]

    def _gone(self, job_ids: list[str]) -> dict[str, Job]:
        tasks = self._asked(None, lambda: [self._cancelled.task(job_id) for job_id in job_ids])[0]
        return {job_id: task for job_id, task in zip(job_ids, tasks, strict=True) if task}

    def _asked(
        self, key: Key | None, ask: Callable[[], T], not_before: float = 0.0, health: Health | None = None
    ) -> tuple[T, float, float]:
        """The answer, how old it was when we asked, and when it was asked for."""
        health = health or self.health
        now = time.monotonic()

        def question() -> T:
            health.check()
            seconds = READ_S if health is self.health else CHANGE_S
            with until(time.monotonic() + seconds), self._place(), health.asking():
                return ask()

        patience = PROBE_WAIT_S if health.state == "down" else math.inf
        try:
            answer, asked = self._remembered.answer(key, question, not_before, patience)
        except NoAnswer:
            health.check()  # Where it did not answer before, that says more.
            raise
        return answer, max(0.0, now - asked), asked

    def _changing(self, change: Callable[[], T]) -> T:
        if left() < CHANGE_NEEDS_S:
            raise CommandNotRun("Your other requests took so long that this one was not begun; try again")
        if self.health.state == "down":
            # What a scheduler makes of a change that it takes and does not answer, nobody knows: a question goes first.
            try:
                self.jobs(fresh=True)
            except SchedulerUnavailable as error:
                raise CircuitOpen(error.message, error.retry_after) from error
        try:
            return self._operate(change)
        finally:
            # Afterwards: what was asked meanwhile may not know of it.
            self._remembered.clear()

    def _operate(self, operation: Callable[[], T]) -> T:
        with self._place(), self.health.asking():
            return operation()

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the cluster's places. Raises CommandNotRun where none is free until the thread's deadline."""
        if not self._places.acquire(timeout=max(0.0, min(left(), CHANGE_S))):
            raise CommandNotRun("Your other requests to this cluster wait for its scheduler; try again")
        try:
            yield
        finally:
            self._places.release()


def _ended_somehow(job: Job) -> bool:
    """In some schedulers' lists it does not stand how a job ended; elsewhere it does."""
    return job.status == COMPLETED and job.outcome is None
