"""Tests of QueryCache in pun_app/clusters/cached_scheduler.py: which results are reused."""

from __future__ import annotations

import gc
import weakref

import pytest

from pun_app.adapters.model import COMPLETED, QUEUED, RUNNING, Job
from pun_app.clusters.cached_scheduler import JOB, JOBS, NO_CACHE, PAGE, QueryCache


class FakeClock:
    """A monotonic clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cache(clock: FakeClock) -> QueryCache:
    return QueryCache(clock)


def test_a_result_is_reused_for_a_second_unless_it_is_too_old_for_the_caller(
    cache: QueryCache, clock: FakeClock
) -> None:
    assert cache.result((JOB, "1"), lambda: "a") == ("a", 100)
    clock.now = 100.5
    assert cache.result((JOB, "1"), lambda: "b") == ("a", 100)
    assert cache.result((JOB, "1"), lambda: "c", 100) == ("a", 100)
    assert cache.result((JOB, "1"), lambda: "d", 100.1) == ("d", 100.5)
    assert cache.result((JOB, "1"), lambda: "e", NO_CACHE) == ("e", 100.5)
    clock.now = 101.6
    assert cache.result((JOB, "1"), lambda: "f") == ("f", 101.6)
    cache.clear()
    assert cache.result((JOB, "1"), lambda: "g") == ("g", 101.6)


def test_the_latest_list_and_fresh_queries_are_known(cache: QueryCache, clock: FakeClock) -> None:
    assert cache.latest_list() == 0 and not cache.is_fresh((JOBS, ""))
    cache.result((JOBS, ""), list)
    clock.now = 100.4
    cache.result((PAGE, "7"), list)
    clock.now = 100.8
    cache.result((JOB, "1"), lambda: Job(id="1"))
    assert cache.latest_list() == 100.4
    assert cache.is_fresh((JOBS, ""))
    clock.now = 101
    assert not cache.is_fresh((JOBS, "")) and cache.is_fresh((PAGE, "7"))


def test_the_latest_state_of_each_job_wins(cache: QueryCache, clock: FakeClock) -> None:
    """It is found by the id that was asked for too. Failed queries, and queries for other things, have no jobs."""
    cache.result((JOBS, ""), lambda: [Job(id="1", status=QUEUED), Job(id="2", status=QUEUED)])
    clock.now = 100.2
    cache.result((JOB, "1"), lambda: Job(id="1.server", status=RUNNING))
    clock.now = 100.3
    cache.result((PAGE, "2"), lambda: [Job(id="2", status=RUNNING)])
    clock.now = 100.4
    cache.result((JOB, "2"), lambda: Job(id="2", status=COMPLETED))
    cache.result(("queues", ""), lambda: ["batch"])
    with pytest.raises(ZeroDivisionError):
        cache.result((JOB, "3"), lambda: Job(id=str(1 // 0)))
    expected = {"1": RUNNING, "1.server": RUNNING, "2": COMPLETED}
    for since in (99, 100):
        assert {job_id: job.status for job_id, job in cache.jobs_since(since).items()} == expected
    assert cache.jobs_since(100.4) == {}
    clock.now = 100.5
    cache.result((JOBS, ""), lambda: [Job(id="2", status=QUEUED)], NO_CACHE)
    assert cache.jobs_since(100)["2"].status == QUEUED


def test_results_that_cannot_be_reused_are_freed(cache: QueryCache, clock: FakeClock) -> None:
    class Result:
        """A result that can be referred to weakly."""

    results: list[weakref.ref[Result]] = []

    def ask() -> Result:
        result = Result()
        results.append(weakref.ref(result))
        return result

    for number in range(50):
        clock.now += 0.3
        cache.result(("output", str(number)), ask)
    gc.collect()
    assert sum(result() is not None for result in results) <= 5
