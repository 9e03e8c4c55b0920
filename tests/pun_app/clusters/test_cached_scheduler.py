"""pun_app/clusters/cached_scheduler.py: what a hundred readers cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from pun_app.adapters import health as health_module
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
from pun_app.clusters.cached_scheduler import CachedScheduler
from pun_app.deadline import until


class Counting(Adapter):
    """Counts its questions; answers when it is let."""

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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_questions_in_flight_are_one_command(adapter: Counting) -> None:
    scheduler = CachedScheduler(adapter)
    adapter.go.clear()
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(scheduler.jobs) for _ in range(20)]
        adapter.go.set()
        assert {len(answer.result()[0]) for answer in answers} == {3}
    assert adapter.asked == ["jobs"]


def test_an_answer_is_used_again_for_a_second_and_says_its_age(adapter: Counting, clock: list[float]) -> None:
    scheduler = CachedScheduler(adapter)
    assert scheduler.jobs()[1] == 0
    clock[0] += 0.9
    assert scheduler.jobs()[1] == pytest.approx(0.9)
    clock[0] += 0.2
    assert scheduler.jobs()[1] == 0
    assert adapter.asked == ["jobs", "jobs"]


def test_an_answer_that_takes_long_is_not_old(clock: list[float]) -> None:
    """Its age is what it had when it was asked for."""

    class Slow(Counting):
        def jobs(self) -> list[Job]:
            clock[0] += 5
            return []

    assert CachedScheduler(Slow()).jobs(fresh=True)[1] == 0


def test_fresh_asks_anew(adapter: Counting) -> None:
    scheduler = CachedScheduler(adapter)
    for _ in range(3):
        scheduler.jobs(fresh=True)
        scheduler.job("1", fresh=True)
    assert adapter.asked == ["jobs", "1"] * 3


def test_a_change_drops_what_is_remembered(adapter: Counting) -> None:
    scheduler = CachedScheduler(adapter)
    scheduler.jobs()
    scheduler.submit(JobRequest("#!/bin/sh", "/"))
    scheduler.jobs()
    assert adapter.asked == ["jobs", "jobs"]


def test_many_jobs_polled_are_one_list_a_second(adapter: Counting, clock: list[float]) -> None:
    """The first alone is asked for alone; a second one within the second has the list asked for all."""
    scheduler = CachedScheduler(adapter)
    for job_id in ("1", "2", "3", "1", "2", "3"):
        assert scheduler.job(job_id)[0].id == job_id
    assert adapter.asked == ["1", "jobs"]
    assert scheduler.job("8")[0].id == "8"
    assert adapter.asked == ["1", "jobs", "8"]


def test_jobs_that_are_polled_stay_one_question(adapter: Counting, clock: list[float]) -> None:
    """Each second one list, whoever asks first; and one job alone is asked for alone again."""
    scheduler = CachedScheduler(adapter)
    for job_id in ("1", "2", "3"):
        scheduler.job(job_id)
    for _ in range(5):
        clock[0] += 1.05
        for job_id in ("3", "1", "2"):
            scheduler.job(job_id)
    assert adapter.asked == ["1", *["jobs"] * 6]
    clock[0] += 2.1
    scheduler.job("2")
    assert adapter.asked[-1] == "2"


def test_nobody_hears_that_an_ended_job_waits(adapter: Counting, clock: list[float]) -> None:
    """Who waited for a job, which was asked for alone, is not answered from a list that is older, and young enough."""
    scheduler = CachedScheduler(adapter)

    def watched(job_id: str) -> Job:
        job = scheduler.watched({"2", job_id})[0][job_id]
        assert isinstance(job, Job)
        return job

    scheduler.watched({"2"})
    clock[0] += 4
    assert watched("1").status == QUEUED
    scheduler.page(2, None)
    assert adapter.asked == ["2", "jobs", "jobs"]
    clock[0] += 0.9
    adapter.status = COMPLETED
    scheduler.job("1", fresh=True)
    assert scheduler.job("1")[0].status == watched("1").status == COMPLETED
    assert [job.status for job in scheduler.jobs()[0]] == [COMPLETED, QUEUED, QUEUED]
    assert [job.status for job in scheduler.page(2, None)[0]] == [COMPLETED, QUEUED]
    assert {job_id: job.status for job_id, job in scheduler.several(["1", "2"])[0].items()} == {
        "1": COMPLETED,
        "2": QUEUED,
    }
    assert adapter.asked == ["2", "jobs", "jobs", "1"]
    # Later lists, and pages, know more than what was asked for before them.
    adapter.status = "undetermined"
    clock[0] += 0.2
    assert {job.status for job in scheduler.jobs()[0]} == {"undetermined"}
    assert watched("1").status == scheduler.job("1")[0].status == "undetermined"
    adapter.status = RUNNING
    clock[0] += 0.2
    assert {job.status for job in scheduler.page(3, None)[0]} == {RUNNING}
    assert {job.status for job in scheduler.jobs()[0]} == {RUNNING}
    assert watched("3").status == scheduler.several(["3"])[0]["3"].status == RUNNING


def test_of_jobs_that_are_waited_for_each_has_its_answer(adapter: Counting, clock: list[float]) -> None:
    """One list for several; one that is gone, or cannot be told, leaves the others theirs; never an exception."""
    scheduler = CachedScheduler(adapter)
    told, age = scheduler.watched({"1", "2", "9"})
    assert (told["1"], told["2"], age) == (Job(id="1", status=QUEUED), Job(id="2", status=QUEUED), 0)
    assert isinstance(told["9"], JobNotFound)
    assert adapter.asked == ["jobs", "9"]
    clock[0] += 2
    adapter.error = SchedulerUnavailable("down")
    assert {type(one) for one in scheduler.watched({"1", "2"})[0].values()} == {SchedulerUnavailable}


class Array(Counting):
    """One array of two tasks."""

    def array_id(self, job_id: str) -> str:
        return "5"

    def jobs(self) -> list[Job]:
        return [Job(id=f"5_{task}", status=self.status, outcome="completed") for task in "12"]


@pytest.mark.parametrize("way", ["page", "alone"])
def test_arrays_neither(clock: list[float], way: str) -> None:
    adapter = Array()
    scheduler = CachedScheduler(adapter)
    assert scheduler.several(["5"])[0]["5"].status == QUEUED
    clock[0] += 0.5
    adapter.status = COMPLETED
    scheduler.page(2, None) if way == "page" else scheduler.job("5", fresh=True)
    assert scheduler.several(["5"])[0]["5"].status == COMPLETED


def test_a_list_that_takes_long_does_not_go_back(adapter: Counting, clock: list[float]) -> None:
    """However long ago the job was asked for alone, if that was after the list."""
    scheduler = CachedScheduler(adapter)
    adapter.go.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(scheduler.jobs)
        while not adapter.asked:
            time.sleep(0.01)
        clock[0] += 1.5
        adapter.status = COMPLETED
        scheduler.job("1")
        clock[0] += 1.5
        scheduler.job("2", fresh=True)
        adapter.go.set()
        assert [job.status for job in answer.result()[0]] == [COMPLETED, COMPLETED, QUEUED]


def test_a_no_is_shared_too(adapter: Counting, clock: list[float]) -> None:
    """A scheduler that is down is asked once a second, not once a client."""
    scheduler = CachedScheduler(adapter)
    adapter.error = SchedulerUnavailable("down")
    for _ in range(3):
        with pytest.raises(SchedulerUnavailable, match="down"):
            scheduler.jobs()
    assert adapter.asked == ["jobs"]
    adapter.error = None
    clock[0] += 1.1
    assert len(scheduler.jobs()[0]) == 3


def test_ids_of_another_form_reach_no_adapter(adapter: Counting) -> None:
    scheduler = CachedScheduler(adapter)
    for call in (scheduler.job, scheduler.cancel, scheduler.hold, scheduler.release):
        with pytest.raises(JobNotFound):
            call("a b")
    assert adapter.asked == []


def test_what_an_adapter_lacks_is_not_supported(adapter: Counting) -> None:
    with pytest.raises(Unsupported, match="counting"):
        CachedScheduler(adapter).hold("1")


class Forgetting(Counting):
    """Lists a job that has ended without how, as Grid Engine does; knows it when it is asked for."""

    def jobs(self) -> list[Job]:
        return [*super().jobs(), Job(id="7", status=COMPLETED)]

    def job(self, job_id: str) -> Job:
        return Job(id=super().job(job_id).id, status=COMPLETED, outcome="failed")

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        self.asked.append(f"unlisted {' '.join(job_ids)}")
        return {job_id: self.job(job_id) for job_id in job_ids if job_id == "7"}


def test_how_a_job_ended_is_asked_for_where_the_list_does_not_say(clock: list[float]) -> None:
    adapter = Forgetting()
    scheduler = CachedScheduler(adapter)
    scheduler.job("1")
    assert scheduler.job("2")[0].outcome is None  # From the list, as another was asked for just now.
    assert scheduler.job("7")[0].outcome == "failed"


def test_many_jobs_are_two_questions(clock: list[float]) -> None:
    """The list, and what is not in it; no more for what is asked for twice, and none for what is no id."""
    adapter = Forgetting()
    found, _ = CachedScheduler(adapter).several(["1", "7", "99", "1", "", "a b", "٣"])
    assert (sorted(found), found["7"].outcome) == (["1", "7"], "failed")
    assert adapter.asked[:2] == ["jobs", "unlisted 7 99"]
    adapter = Forgetting()
    CachedScheduler(adapter).several(["1", "2"])
    assert adapter.asked == ["jobs"]


class Hanging(Counting):
    """Hangs until it is let go; what is asked for then fails as a command does that took too long."""

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
    """Whoever asks the same after that is answered by the question in flight."""
    scheduler = CachedScheduler(adapter)
    adapter.go.clear()
    for _ in range(2):
        with until(time.monotonic() + 0.1), pytest.raises(SchedulerUnavailable, match="in time"):
            scheduler.jobs()
    adapter.go.set()
    assert len(scheduler.jobs()[0]) == 3
    assert adapter.asked == ["jobs"]


def test_a_scheduler_that_is_down_is_asked_less_and_a_change_not_at_all() -> None:
    """The first question takes its time; then 503 at once, and a submit says that nothing was sent."""
    adapter = Hanging()
    adapter.is_down = True
    scheduler = CachedScheduler(adapter)
    with pytest.raises(CommandTimedOut):
        scheduler.jobs()
    for _ in range(3):
        with pytest.raises(NotSent, match="squeue did not answer"):
            scheduler.job("1", fresh=True)
        with pytest.raises(NotSent, match="squeue did not answer"):
            scheduler.submit(JobRequest("#!/bin/sh", "/"))
    assert (adapter.asked, scheduler.health.state) == (["jobs"], "down")


def test_a_change_waits_for_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question goes before it: a change whose outcome nobody knows is worse than none."""
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


def test_a_probe_costs_its_client_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on without the client; others are answered at once, with the reason."""
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
            scheduler.jobs(fresh=fresh)
    adapter.is_down = False
    adapter.go.set()
    while scheduler.health.state != "up":
        time.sleep(0.01)
    assert adapter.asked == ["jobs", "jobs"]


def test_a_change_does_not_begin_late(adapter: Counting) -> None:
    """It might be cut off before its outcome is known."""
    scheduler = CachedScheduler(adapter)
    with until(time.monotonic() + 10), pytest.raises(NotSent, match="not begun"):
        scheduler.submit(JobRequest("#!/bin/sh", "/"))


def test_a_cluster_has_so_many_places(adapter: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds none in time is told so, and nobody says that the scheduler is down."""
    scheduler = CachedScheduler(adapter)
    adapter.go.clear()
    with ThreadPoolExecutor(module.AT_ONCE) as pool:
        answers = [pool.submit(scheduler.page, number + 1, None) for number in range(module.AT_ONCE)]
        while len(adapter.asked) < module.AT_ONCE:
            time.sleep(0.01)
        with until(time.monotonic() + 0.1), pytest.raises(CommandNotRun, match="other requests"):
            scheduler.find_submitted("tag")
        adapter.go.set()
        assert all(answer.result() for answer in answers)
    assert scheduler.health.state == "up"


def test_a_wait_ends_with_what_is_known(adapter: Counting) -> None:
    """While a question hangs; and with 503 where that is too old, or nothing."""
    scheduler = CachedScheduler(adapter)
    known = Job(id="1", status=RUNNING)
    assert scheduler.last_look("1", (known, time.monotonic() - 5))[0].status == QUEUED
    adapter.go.clear()
    with until(time.monotonic() + 0.05), pytest.raises(SchedulerUnavailable):
        scheduler.jobs()
    while not scheduler._remembered.is_slow():
        time.sleep(0.01)
    job, age = scheduler.last_look("2", (Job(id="2", status=RUNNING), time.monotonic() - 5))
    assert job.status == RUNNING and age >= 5
    for old in (None, (known, time.monotonic() - 60)):
        with pytest.raises(SchedulerUnavailable):
            scheduler.last_look("3", old)
    adapter.go.set()
