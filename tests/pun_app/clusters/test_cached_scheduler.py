"""Tests of pun_app/clusters/cached_scheduler.py: the commands that many clients cost, and their results."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from pun_app.adapters.base import Adapter
from pun_app.adapters.errors import (
    CommandNotRun,
    CommandTimedOut,
    JobNotFound,
    NotSent,
    SchedulerUnavailable,
    Unsupported,
)
from pun_app.adapters.model import COMPLETED, QUEUED, RUNNING, Job, JobRequest
from pun_app.clusters import cached_scheduler as module
from pun_app.clusters import health as health_module
from pun_app.clusters.cached_scheduler import CachedScheduler
from pun_app.deadline import until


class Counting(Adapter):
    """An adapter that counts its queries, and answers once it may."""

    def __init__(self) -> None:
        super().__init__("c", {"adapter": "counting"})
        self.asked: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None
        self.status = QUEUED

    def jobs(self) -> list[Job]:
        self.asked.append("jobs")
        status = self.status
        assert self.go.wait(10)
        if self.error:
            raise self.error
        return [Job(id=job_id, status=status) for job_id in "123"]

    def page(self, count: int, before: str | None) -> list[Job]:
        return self.jobs()[:count]

    def job(self, job_id: str) -> Job:
        self.asked.append(job_id)
        if job_id == "9":
            raise JobNotFound()
        return Job(id=job_id, status=self.status, outcome="failed" if self.status == COMPLETED else None)

    def submit(self, request: JobRequest) -> Job:
        return Job(id="4")


@pytest.fixture
def adapter() -> Counting:
    return Counting()


class FakeClock:
    """A monotonic clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_identical_queries_in_flight_run_one_command(adapter: Counting) -> None:
    scheduler = CachedScheduler(adapter)
    adapter.go.clear()
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(scheduler.jobs) for _ in range(20)]
        adapter.go.set()
        assert {len(answer.result()[0]) for answer in answers} == {3}
    assert adapter.asked == ["jobs"]


def test_a_result_is_reused_for_a_second_and_has_its_age(adapter: Counting, clock: FakeClock) -> None:
    scheduler = CachedScheduler(adapter, clock)
    assert scheduler.jobs()[1] == 0
    clock.now += 0.9
    assert scheduler.jobs()[1] == pytest.approx(0.9)
    clock.now += 0.2
    assert scheduler.jobs()[1] == 0
    assert adapter.asked == ["jobs", "jobs"]


def test_a_slow_query_has_no_age(clock: FakeClock) -> None:
    """The age counts from the moment of the request, not of the query's start."""

    class Slow(Counting):
        def jobs(self) -> list[Job]:
            clock.now += 5
            return []

    assert CachedScheduler(Slow(), clock).jobs(no_cache=True)[1] == 0


def test_no_cache_runs_a_new_query(adapter: Counting) -> None:
    scheduler = CachedScheduler(adapter)
    for _ in range(3):
        scheduler.jobs(no_cache=True)
        scheduler.job("1", no_cache=True)
    assert adapter.asked == ["jobs", "1"] * 3


def test_a_change_empties_the_cache(adapter: Counting) -> None:
    scheduler = CachedScheduler(adapter)
    scheduler.jobs()
    scheduler.submit(JobRequest("#!/bin/sh", "/"))
    scheduler.jobs()
    assert adapter.asked == ["jobs", "jobs"]


def test_many_jobs_polled_are_one_list_a_second(adapter: Counting, clock: FakeClock) -> None:
    """The first job has a query of its own; a second job within two seconds causes one query for the list."""
    scheduler = CachedScheduler(adapter, clock)
    for job_id in ("1", "2", "3", "1", "2", "3"):
        assert scheduler.job(job_id)[0].id == job_id
    assert adapter.asked == ["1", "jobs"]
    assert scheduler.job("8")[0].id == "8"
    assert adapter.asked == ["1", "jobs", "8"]


def test_jobs_that_are_polled_stay_one_question(adapter: Counting, clock: FakeClock) -> None:
    """All polled jobs share one list a second. The last one that is still polled gets its own query again."""
    scheduler = CachedScheduler(adapter, clock)
    for job_id in ("1", "2", "3"):
        scheduler.job(job_id)
    for _ in range(5):
        clock.now += 1.05
        for job_id in ("3", "1", "2"):
            scheduler.job(job_id)
    assert adapter.asked == ["1", *["jobs"] * 6]
    clock.now += 2.1
    scheduler.job("2")
    assert adapter.asked[-1] == "2"


def test_no_older_list_says_that_an_ended_job_is_queued(adapter: Counting, clock: FakeClock) -> None:
    """A list that may still be reused is older than the query for the single job, and is corrected by it."""
    scheduler = CachedScheduler(adapter, clock)

    def watched(job_id: str) -> Job:
        job = scheduler.poll({"2", job_id})[0][job_id]
        assert isinstance(job, Job)
        return job

    scheduler.poll({"2"})
    clock.now += 4
    assert watched("1").status == QUEUED
    scheduler.page(2, None)
    assert adapter.asked == ["2", "jobs", "jobs"]
    clock.now += 0.9
    adapter.status = COMPLETED
    scheduler.job("1", no_cache=True)
    assert scheduler.job("1")[0].status == watched("1").status == COMPLETED
    assert [job.status for job in scheduler.jobs()[0]] == [COMPLETED, QUEUED, QUEUED]
    assert [job.status for job in scheduler.page(2, None)[0]] == [COMPLETED, QUEUED]
    assert {job_id: job.status for job_id, job in scheduler.jobs_by_id(["1", "2"])[0].items()} == {
        "1": COMPLETED,
        "2": QUEUED,
    }
    assert adapter.asked == ["2", "jobs", "jobs", "1"]
    # Later lists and pages are newer than the query for the single job.
    adapter.status = "undetermined"
    clock.now += 0.2
    assert {job.status for job in scheduler.jobs()[0]} == {"undetermined"}
    assert watched("1").status == scheduler.job("1")[0].status == "undetermined"
    adapter.status = RUNNING
    clock.now += 0.2
    assert {job.status for job in scheduler.page(3, None)[0]} == {RUNNING}
    assert {job.status for job in scheduler.jobs()[0]} == {RUNNING}
    assert watched("3").status == scheduler.jobs_by_id(["3"])[0]["3"].status == RUNNING


def test_poll_returns_each_job_or_its_error(adapter: Counting, clock: FakeClock) -> None:
    """All jobs share one list. The error of one job does not affect the others, and is not raised."""
    scheduler = CachedScheduler(adapter, clock)
    told, age = scheduler.poll({"1", "2", "9"})
    assert (told["1"], told["2"], age) == (Job(id="1", status=QUEUED), Job(id="2", status=QUEUED), 0)
    assert isinstance(told["9"], JobNotFound)
    assert adapter.asked == ["jobs", "9"]
    clock.now += 2
    adapter.error = SchedulerUnavailable("down")
    assert {type(one) for one in scheduler.poll({"1", "2"})[0].values()} == {SchedulerUnavailable}


class Array(Counting):
    """A scheduler with one array of two tasks."""

    def array_id(self, job_id: str) -> str:
        return "5"

    def jobs(self) -> list[Job]:
        return [Job(id=f"5_{task}", status=self.status, outcome="completed") for task in "12"]


@pytest.mark.parametrize("way", ["page", "alone"])
def test_no_older_list_says_that_an_ended_array_is_queued(clock: FakeClock, way: str) -> None:
    adapter = Array()
    scheduler = CachedScheduler(adapter, clock)
    assert scheduler.jobs_by_id(["5"])[0]["5"].status == QUEUED
    clock.now += 0.5
    adapter.status = COMPLETED
    scheduler.page(2, None) if way == "page" else scheduler.job("5", no_cache=True)
    assert scheduler.jobs_by_id(["5"])[0]["5"].status == COMPLETED


def test_a_slow_list_does_not_undo_a_newer_query(adapter: Counting, clock: FakeClock) -> None:
    """The query for the single job began after the list, and counts however long ago that was."""
    scheduler = CachedScheduler(adapter, clock)
    adapter.go.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(scheduler.jobs)
        while not adapter.asked:
            time.sleep(0.01)
        clock.now += 1.5
        adapter.status = COMPLETED
        scheduler.job("1")
        clock.now += 1.5
        scheduler.job("2", no_cache=True)
        adapter.go.set()
        assert [job.status for job in answer.result()[0]] == [COMPLETED, COMPLETED, QUEUED]


def test_an_error_is_reused_too(adapter: Counting, clock: FakeClock) -> None:
    """A scheduler that is down gets one query a second, not one for each client."""
    scheduler = CachedScheduler(adapter, clock)
    adapter.error = SchedulerUnavailable("down")
    for _ in range(3):
        with pytest.raises(SchedulerUnavailable, match="down"):
            scheduler.jobs()
    assert adapter.asked == ["jobs"]
    adapter.error = None
    clock.now += 1.1
    assert len(scheduler.jobs()[0]) == 3


def test_a_malformed_id_does_not_reach_the_adapter(adapter: Counting) -> None:
    scheduler = CachedScheduler(adapter)
    for call in (scheduler.job, scheduler.cancel, scheduler.hold, scheduler.release):
        with pytest.raises(JobNotFound):
            call("a b")
    assert adapter.asked == []


def test_what_an_adapter_lacks_is_not_supported(adapter: Counting) -> None:
    with pytest.raises(Unsupported, match="counting"):
        CachedScheduler(adapter).hold("1")


class Forgetting(Counting):
    """An adapter whose list omits the outcome of an ended job, as Grid Engine's does."""

    def jobs(self) -> list[Job]:
        return [*super().jobs(), Job(id="7", status=COMPLETED)]

    def job(self, job_id: str) -> Job:
        return Job(id=super().job(job_id).id, status=COMPLETED, outcome="failed")

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        self.asked.append(f"look_up {' '.join(job_ids)}")
        return {job_id: self.job(job_id) for job_id in job_ids if job_id == "7"}


def test_an_outcome_that_the_list_omits_is_looked_up(clock: FakeClock) -> None:
    adapter = Forgetting()
    scheduler = CachedScheduler(adapter, clock)
    scheduler.job("1")
    assert scheduler.job("2")[0].outcome is None  # From the list, since another job is polled.
    assert scheduler.job("7")[0].outcome == "failed"


def test_many_jobs_cost_two_queries(clock: FakeClock) -> None:
    """The list is one, and the jobs missing from it are the other. Repeated and malformed ids cost nothing."""
    adapter = Forgetting()
    found, _ = CachedScheduler(adapter, clock).jobs_by_id(["1", "7", "99", "1", "", "a b", "٣"])
    assert (sorted(found), found["7"].outcome) == (["1", "7"], "failed")
    assert adapter.asked[:2] == ["jobs", "look_up 7 99"]
    adapter = Forgetting()
    CachedScheduler(adapter, clock).jobs_by_id(["1", "2"])
    assert adapter.asked == ["jobs"]


class Hanging(Counting):
    """An adapter that hangs until it may go on, and then fails like a command that timed out."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False

    def jobs(self) -> list[Job]:
        jobs = super().jobs()
        if self.is_down:
            raise CommandTimedOut("squeue", 20)
        return jobs

    def submit(self, request: JobRequest) -> Job:
        self.asked.append("submit")
        return super().submit(request)


def test_a_reader_waits_until_its_own_deadline(adapter: Counting) -> None:
    """A later client joins the query that is still in flight."""
    scheduler = CachedScheduler(adapter)
    adapter.go.clear()
    for _ in range(2):
        with until(time.monotonic() + 0.1), pytest.raises(SchedulerUnavailable, match="in time"):
            scheduler.jobs()
    adapter.go.set()
    assert len(scheduler.jobs()[0]) == 3
    assert adapter.asked == ["jobs"]


def test_a_scheduler_that_is_down_gets_few_queries_and_no_changes() -> None:
    """After the first failure all requests fail at once, and a submit says that nothing was sent."""
    adapter = Hanging()
    adapter.is_down = True
    scheduler = CachedScheduler(adapter)
    with pytest.raises(CommandTimedOut):
        scheduler.jobs()
    for _ in range(3):
        with pytest.raises(NotSent, match="squeue did not answer"):
            scheduler.job("1", no_cache=True)
        with pytest.raises(NotSent, match="squeue did not answer"):
            scheduler.submit(JobRequest("#!/bin/sh", "/"))
    assert (adapter.asked, scheduler.health.state) == (["jobs"], "down")


def test_a_change_follows_a_successful_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query goes before it, since a change with an unknown outcome is worse than none."""
    monkeypatch.setattr(health_module, "FIRST_INTERVAL_S", 0.0)
    monkeypatch.setattr(module, "PROBE_WAIT_S", 60.0)
    adapter = Hanging()
    adapter.is_down = True
    scheduler = CachedScheduler(adapter)
    with pytest.raises(CommandTimedOut):
        scheduler.jobs()
    with pytest.raises(NotSent):
        scheduler.submit(JobRequest("#!/bin/sh", "/"))
    adapter.is_down = False
    assert scheduler.submit(JobRequest("#!/bin/sh", "/")).id == "4"
    assert (adapter.asked, scheduler.health.state) == (["jobs", "jobs", "jobs", "submit"], "up")


def test_a_client_waits_only_briefly_for_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe goes on without the client. Other requests fail at once, with the reason."""
    monkeypatch.setattr(health_module, "FIRST_INTERVAL_S", 0.0)
    monkeypatch.setattr(module, "PROBE_WAIT_S", 0.1)
    adapter = Hanging()
    adapter.is_down = True
    scheduler = CachedScheduler(adapter)
    with pytest.raises(CommandTimedOut):
        scheduler.jobs()
    adapter.go.clear()
    for fresh in (True, False):
        with pytest.raises(NotSent, match="squeue did not answer"):
            scheduler.jobs(no_cache=fresh)
    adapter.is_down = False
    adapter.go.set()
    while scheduler.health.state != "up":
        time.sleep(0.01)
    assert adapter.asked == ["jobs", "jobs"]


def test_a_change_with_too_little_time_is_not_begun(adapter: Counting) -> None:
    """It might be cut off before its outcome is known."""
    scheduler = CachedScheduler(adapter)
    with until(time.monotonic() + 10), pytest.raises(NotSent, match="not begun"):
        scheduler.submit(JobRequest("#!/bin/sh", "/"))


def test_a_cluster_has_a_limited_number_of_slots(adapter: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without a slot in time fails, and does not count against the scheduler."""
    scheduler = CachedScheduler(adapter)
    adapter.go.clear()
    with ThreadPoolExecutor(module.MAX_CONCURRENT) as pool:
        answers = [pool.submit(scheduler.page, number + 1, None) for number in range(module.MAX_CONCURRENT)]
        while len(adapter.asked) < module.MAX_CONCURRENT:
            time.sleep(0.01)
        with until(time.monotonic() + 0.1), pytest.raises(CommandNotRun, match="other requests"):
            scheduler.find_submitted("tag")
        adapter.go.set()
        assert all(answer.result() for answer in answers)
    assert scheduler.health.state == "up"


def test_a_wait_ends_with_the_last_known_state(adapter: Counting) -> None:
    """While a query hangs; it is an error if that state is too old, or unknown."""
    scheduler = CachedScheduler(adapter)
    known = Job(id="1", status=RUNNING)
    assert scheduler.last_look("1", (known, time.monotonic() - 5))[0].status == QUEUED
    adapter.go.clear()
    with until(time.monotonic() + 0.05), pytest.raises(SchedulerUnavailable):
        scheduler.jobs()
    while not scheduler.cache.is_slow():
        time.sleep(0.01)
    job, age = scheduler.last_look("2", (Job(id="2", status=RUNNING), time.monotonic() - 5))
    assert job.status == RUNNING and age >= 5
    for old in (None, (known, time.monotonic() - 60)):
        with pytest.raises(SchedulerUnavailable):
            scheduler.last_look("3", old)
    adapter.go.set()
