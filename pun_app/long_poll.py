"""Long polling: requests that are answered once a job has reached the state that they wait for.

A waiting request holds its connection but no thread. Its handler raises Parked. The server's channel (channel.py) then
frees the thread, and calls the app again for the same request when the wait is over. One thread for each cluster polls
all jobs that requests wait for, every two seconds, so two hundred requests cost a scheduler as much as one
(clusters/cached_scheduler.py). The PUNs of a host poll at different moments.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from pun_app.adapters.errors import SchedulerError, SchedulerUnavailable
from pun_app.adapters.model import Job
from pun_app.clusters.cached_scheduler import CachedScheduler
from pun_app.deadline import READ_S, until
from pun_app.errors import Unavailable
from pun_app.gate import Turn

MIN_FIRST_LOOK_S = 5.0
"""Minimum time limit for the first look at a job, however short the wait is."""
MAX_WAITING = 200
"""Maximum number of waiting requests of one PUN."""
POLL_INTERVAL_S = 2.0
_GOLDEN_RATIO = 0.618033988749895


def phase_of(uid: int) -> float:
    """Return the offset at which a user's PUN polls, in seconds from the start of each interval.

    Multiples of the golden ratio spread evenly, whatever their number. Without an offset, all PUNs of a host would
    start their commands at the same moment, and other requests would wait.
    """
    return uid * _GOLDEN_RATIO % 1 * POLL_INTERVAL_S


class Wait:
    """The wait of one request for a job.

    ``result`` is set when the wait is over: the job or an error, and the time at which the scheduler was asked. It
    stays None if the time is up or the process leaves. Then ``known`` has the job from the last successful look, and
    the time of that look.
    """

    keeps_deadline = False
    """The wait does not count towards the request's own time limit."""

    def __init__(
        self,
        owner: LongPoll,
        scheduler: CachedScheduler,
        job_id: str,
        is_done: Callable[[Job], bool],
        deadline: float,
        known: tuple[Job, float] | None,
    ) -> None:
        self._owner = owner
        self.known = known
        self.scheduler = scheduler
        self.job_id = job_id
        self.is_done = is_done
        self.deadline = deadline
        self.result: tuple[Job | SchedulerError, float] | None = None
        self.is_over = False
        self.resume: Callable[[], None] | None = None

    def job(self) -> tuple[Job, float]:
        """Return the job and the age of the answer in seconds. Raises the error by which the wait ended."""
        if self.result is None:
            return self.scheduler.last_look(self.job_id, self.known)
        found, asked = self.result
        if isinstance(found, SchedulerError):
            raise found
        return found, time.monotonic() - asked

    def park(self, resume: Callable[[], None]) -> None:
        """Call ``resume`` once the wait is over, at once if it already is."""
        self._owner.park(self, resume)

    def end(self) -> None:
        """End the wait early."""
        self._owner.end(self)


class Parked(BaseException):
    """The exception of a request that has to wait, for a job or for a place in a gate (gate.py).

    ``call`` is what the app needs to finish the request. It is a BaseException, so that no handler of errors on the way
    to the server catches it.
    """

    call: Any = None

    def __init__(self, wait: Wait | Turn) -> None:
        super().__init__()
        self.wait = wait


class LongPoll:
    """The waits of one PUN. No signal handler may call its methods, because they share a lock."""

    def __init__(self, uid: int) -> None:
        self._phase = phase_of(uid)
        self._lock = threading.Lock()
        self._waits: set[Wait] = set()
        self._polled: set[CachedScheduler] = set()
        self._is_leaving = False

    def wait_for(
        self,
        scheduler: CachedScheduler,
        job_id: str,
        is_done: Callable[[Job], bool],
        deadline: float,
        known: tuple[Job, float] | None = None,
    ) -> Wait:
        """Begin a wait that ends at ``deadline``, in seconds of the monotonic clock, at the latest.

        ``known`` is the job as it was last seen, and the time of that look. Raises Unavailable if too many requests
        wait.
        """
        wait = Wait(self, scheduler, job_id, is_done, deadline, known)
        with self._lock:
            if len(self._waits) >= MAX_WAITING:
                raise Unavailable(
                    f"{MAX_WAITING} of your requests wait already; wait for fewer jobs, or omit the parameter wait"
                )
            if scheduler not in self._polled:
                threading.Thread(target=self._poll, args=(scheduler,), name="long-poll", daemon=True).start()
                self._polled.add(scheduler)
            self._waits.add(wait)
        return wait

    def park(self, wait: Wait, resume: Callable[[], None]) -> None:
        with self._lock:
            wait.resume = resume
            is_over, is_leaving = wait.is_over, self._is_leaving
        if is_over:
            resume()
        elif is_leaving:
            self.end(wait)

    def end(self, wait: Wait, found: Job | SchedulerError | None = None, asked: float = 0.0) -> None:
        """End a wait, unless it has ended, and resume its request."""
        with self._lock:
            if wait.is_over:
                return
            wait.is_over = True
            wait.result = None if found is None else (found, asked)
            self._waits.discard(wait)
            resume = wait.resume
        if resume:
            resume()

    def expire(self) -> float:
        """End the waits whose time is up. Return the seconds until the next one ends, at most 1."""
        now = time.monotonic()
        with self._lock:
            due = [wait for wait in self._waits if wait.deadline <= now]
            left = min((wait.deadline - now for wait in self._waits if wait.deadline > now), default=1.0)
        for wait in due:
            self.end(wait)
        return min(1.0, left)

    def leave(self) -> None:
        """End all waits, and every later one at once, because the process is about to leave."""
        with self._lock:
            self._is_leaving = True
            waits = list(self._waits)
        for wait in waits:
            self.end(wait)

    def _poll(self, scheduler: CachedScheduler) -> None:
        """Poll the jobs of one cluster until no request waits for one."""
        while True:
            now = time.monotonic()
            time.sleep(POLL_INTERVAL_S - (now - self._phase) % POLL_INTERVAL_S)
            with self._lock:
                waits = [wait for wait in self._waits if wait.scheduler is scheduler]
                if not waits:
                    self._polled.discard(scheduler)
                    return
            now = time.monotonic()
            with until(now + READ_S):
                answers, age = scheduler.poll({wait.job_id for wait in waits})
            for wait in waits:
                found = answers[wait.job_id]
                if isinstance(found, SchedulerUnavailable):
                    continue  # The scheduler may be back before the time is up. If not, Wait.job raises this.
                if isinstance(found, Job):
                    wait.known = found, now - age
                if isinstance(found, SchedulerError) or wait.is_done(found):
                    self.end(wait, found, now - age)
