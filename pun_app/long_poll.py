"""Long polling: requests that are answered once a job is as far as they want.

A request that waits holds its connection and no thread. Its handler raises Parked, which the server (server.py) takes
for what it is: it frees the thread, and calls the app again for the same request when the wait is over. For each
cluster one thread looks at all jobs that are waited for, every two seconds, so that two hundred requests cost a
scheduler what one costs (clusters/cached_scheduler.py). The PUNs of a host look at different moments.
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

MIN_LOOK_S = 5.0
"""Seconds that the first look at a job has, however short the wait is."""
MAX_WAITING = 200
"""Requests of one PUN that wait at once."""
POLL_INTERVAL_S = 2.0
_GOLDEN_RATIO = 0.618033988749895


def phase_of(uid: int) -> float:
    """Return a user's moment within the interval: multiples of the golden ratio spread evenly, however many there are.

    By a common clock alone, all PUNs of a host would start their commands together, and other requests would wait.
    """
    return uid * _GOLDEN_RATIO % 1 * POLL_INTERVAL_S


class Wait:
    """One request's wait for a job. ``result`` is set when the wait is over: the job, or an error, and its time.

    The result is None where time was up, or the process leaves; then ``known`` is what the last look that was answered
    told, and when it was asked for.
    """

    keeps_deadline = False
    """The time that it waits is not the request's own."""

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
        """Return the job and the age of that answer. Raises what the last look raised, and Unavailable."""
        if self.result is None:
            return self.scheduler.last_look(self.job_id, self.known)
        found, asked = self.result
        if isinstance(found, SchedulerError):
            raise found
        return found, time.monotonic() - asked

    def park(self, resume: Callable[[], None]) -> None:
        """Have ``resume`` called once the wait is over, which it may be already."""
        self._owner.park(self, resume)

    def end(self) -> None:
        """End it before its time."""
        self._owner.end(self)


class Parked(BaseException):
    """Raised through the app by a request that waits, for a job or for a thread's place (gate.py). ``call`` is what the
    app needs to finish it.

    A BaseException, so that nobody on the way to the server takes it for a failure.
    """

    call: Any = None

    def __init__(self, wait: Wait | Turn) -> None:
        super().__init__()
        self.wait = wait


class LongPoll:
    """The waits of one PUN. None of its methods is for a signal handler: they share a lock."""

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
        """Begin a wait, until a moment of the monotonic clock at most. ``known`` is the job as far as it is known, and
        when that was asked for. Raises Unavailable where too many wait.
        """
        wait = Wait(self, scheduler, job_id, is_done, deadline, known)
        with self._lock:
            if len(self._waits) >= MAX_WAITING:
                raise Unavailable(
                    f"{MAX_WAITING} of your requests wait already; wait for fewer jobs, or ask without wait"
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
        """End a wait, if it has not ended yet, and have its request answered."""
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
        """End the waits whose time is up. Returns how many seconds the next one has, a second at most."""
        now = time.monotonic()
        with self._lock:
            due = [wait for wait in self._waits if wait.deadline <= now]
            left = min((wait.deadline - now for wait in self._waits if wait.deadline > now), default=1.0)
        for wait in due:
            self.end(wait)
        return min(1.0, left)

    def leave(self) -> None:
        """End all waits, those to come too: the process is about to leave."""
        with self._lock:
            self._is_leaving = True
            waits = list(self._waits)
        for wait in waits:
            self.end(wait)

    def _poll(self, scheduler: CachedScheduler) -> None:
        """Look at the jobs of one cluster until nobody waits for one."""
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
                told, age = scheduler.poll({wait.job_id for wait in waits})
            for wait in waits:
                found = told[wait.job_id]
                if isinstance(found, SchedulerUnavailable):
                    continue  # It may be back before time is up; if not, the last look says so (Wait.job).
                if isinstance(found, Job):
                    wait.known = found, now - age
                if isinstance(found, SchedulerError) or wait.is_done(found):
                    self.end(wait, found, now - age)
