"""Tests of pun_app/long_poll.py: what ends a wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pun_app import long_poll as module
from pun_app.adapters.base import Adapter
from pun_app.adapters.errors import JobNotFound, SchedulerUnavailable
from pun_app.adapters.model import COMPLETED, QUEUED, RUNNING, Job
from pun_app.clusters.cached_scheduler import CachedScheduler
from pun_app.errors import Unavailable
from pun_app.long_poll import LongPoll, Wait, phase_of


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_INTERVAL_S", 0.01)
    # An answer of a second ago would be used again.
    monkeypatch.setattr("pun_app.clusters.cached_scheduler.RESULT_TTL_S", 0.0)


class Told(Adapter):
    """A scheduler that returns the given states of each job one after another, and then the last."""

    def __init__(self, **found: list[Job | Exception]) -> None:
        super().__init__("c", {"adapter": "told"})
        self.found = found

    def job(self, job_id: str) -> Job:
        left = self.found[job_id]
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, Exception):
            raise one
        return one

    def jobs(self) -> list[Job]:
        return [self.job(job_id) for job_id in self.found]


def job(status: str, job_id: str = "a") -> Job:
    return Job(job_id, status=status, outcome="succeeded" if status == COMPLETED else None)


def is_completed(job: Job) -> bool:
    return job.status == COMPLETED


Q, R, C = job(QUEUED), job(RUNNING), job(COMPLETED)


class Waiting:
    """The waits of a test, each with an event that is set when its request is resumed."""

    def __init__(self) -> None:
        self.long_poll = LongPoll(1000)
        self.over: dict[Wait, threading.Event] = {}

    def wait(
        self,
        scheduler: CachedScheduler,
        seconds: int = 300,
        job_id: str = "a",
        is_done: Callable[[Job], bool] = is_completed,
    ) -> Wait:
        wait = self.long_poll.wait_for(scheduler, job_id, is_done, time.monotonic() + seconds)
        self.over[wait] = threading.Event()
        self.long_poll.park(wait, self.over[wait].set)
        return wait

    def answer(self, wait: Wait) -> Job:
        assert self.over[wait].wait(60)
        return wait.job()[0]


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    waiting = Waiting()
    yield waiting
    waiting.long_poll.leave()


def test_a_wait_ends_when_the_job_gets_there(waiting: Waiting) -> None:
    assert waiting.answer(waiting.wait(CachedScheduler(Told(a=[Q, R, R, C])))) == C


def test_a_wait_ends_when_its_time_is_up(waiting: Waiting) -> None:
    """The answer has the job as it is then, and the server's loop learns when to look again."""
    adapter = Told(a=[Q])
    wait = waiting.wait(CachedScheduler(adapter))
    assert waiting.long_poll.expire() == 1.0
    wait.deadline -= 299.5
    assert waiting.long_poll.expire() <= 0.5
    adapter.found["a"] = [R]
    wait.deadline -= 1
    waiting.long_poll.expire()
    assert waiting.answer(wait) == R


def test_a_wait_ends_when_the_process_leaves(waiting: Waiting) -> None:
    """A later wait ends at once."""
    before = waiting.wait(CachedScheduler(Told(a=[Q])))
    waiting.long_poll.leave()
    assert waiting.answer(before) == Q
    assert waiting.answer(waiting.wait(CachedScheduler(Told(a=[R])))) == R


def test_a_wait_ends_once(waiting: Waiting) -> None:
    """Its request is answered once, whatever ends the wait and however often."""
    resumed: list[int] = []
    wait = waiting.long_poll.wait_for(CachedScheduler(Told(a=[Q])), "a", is_completed, time.monotonic() + 300)
    waiting.long_poll.end(wait, C)
    waiting.long_poll.park(wait, lambda: resumed.append(1))
    waiting.long_poll.end(wait, R)
    waiting.long_poll.leave()
    assert (resumed, wait.job()[0]) == ([1], C)


def test_a_job_that_is_gone_is_not_waited_for(waiting: Waiting) -> None:
    wait = waiting.wait(CachedScheduler(Told(a=[Q, JobNotFound("no")])))
    with pytest.raises(JobNotFound):
        waiting.answer(wait)


def test_a_scheduler_that_is_away_for_a_moment_is_asked_again(waiting: Waiting) -> None:
    """At the end of the wait the error is returned."""
    away = SchedulerUnavailable("away")
    assert waiting.answer(waiting.wait(CachedScheduler(Told(a=[Q, away, away, C])))) == C
    wait = waiting.wait(CachedScheduler(Told(a=[away])))
    assert not waiting.over[wait].wait(0.2)
    wait.deadline = 0
    waiting.long_poll.expire()
    with pytest.raises(SchedulerUnavailable):
        waiting.answer(wait)


def test_many_waits_are_one_thread_and_one_question(waiting: Waiting) -> None:
    """There is one thread for each cluster, which ends with the last wait."""
    asked: list[str] = []

    class Counted(Told):
        def jobs(self) -> list[Job]:
            asked.append("jobs")
            return super().jobs()

        def job(self, job_id: str) -> Job:
            return self.found[job_id][0]  # type: ignore[return-value]

    # Those of an earlier test may end at any moment.
    earlier = set(threading.enumerate())

    def pollers() -> int:
        return sum(thread.name == "long-poll" for thread in set(threading.enumerate()) - earlier)

    adapter = Counted(a=[Q], b=[job(QUEUED, "b")])
    scheduler = CachedScheduler(adapter)
    waits = [waiting.wait(scheduler, job_id="ab"[number % 2]) for number in range(100)]
    assert pollers() == 1
    while len(asked) < 3:
        threading.Event().wait(0.01)
    adapter.found = {"a": [C], "b": [job(COMPLETED, "b")]}
    assert {waiting.answer(wait).status for wait in waits} == {COMPLETED}
    while pollers():
        threading.Event().wait(0.01)


def test_the_number_of_waiting_requests_is_limited(waiting: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request above the limit is a 503, the others go on, and afterwards there are free places again."""
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    adapter = Told(a=[Q])
    scheduler = CachedScheduler(adapter)
    waits = [waiting.wait(scheduler) for _ in range(2)]
    with pytest.raises(Unavailable, match="wait already"):
        waiting.wait(scheduler)
    adapter.found["a"] = [C]
    assert [waiting.answer(wait) for wait in waits] == [C, C]
    assert waiting.answer(waiting.wait(scheduler)) == C


@pytest.mark.parametrize("first", [1000, 60_000, 2**31])
def test_users_look_at_different_moments(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Their moments spread over the interval: among ten neighbouring uids no two are closer than half an even share."""
    monkeypatch.setattr(module, "POLL_INTERVAL_S", 2.0)
    moments = sorted(phase_of(uid) for uid in range(first, first + 10))
    gaps = [later - earlier for earlier, later in zip(moments, [*moments[1:], moments[0] + 2.0], strict=True)]
    assert moments[0] >= 0 and moments[-1] < 2.0
    assert min(gaps) > 0.1
