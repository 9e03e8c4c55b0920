"""pun_app/clusters/dependencies.py: what a job waits for is looked up before it is submitted."""

from __future__ import annotations

import pytest

from pun_app.adapters.base import Adapter
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, SchedulerUnavailable
from pun_app.adapters.model import (
    COMPLETED,
    DEPENDENCIES,
    OUTCOMES,
    QUEUED,
    QUEUED_HELD,
    RUNNING,
    SUSPENDED,
    Job,
    JobRequest,
)
from pun_app.clusters.cached_scheduler import CachedScheduler
from pun_app.clusters.dependencies import settle

PLAIN = JobRequest("#!/bin/sh\n", "/")


def asking(name: str, *job_ids: str) -> JobRequest:
    return JobRequest("#!/bin/sh\n", "/", **{name: job_ids})  # type: ignore[arg-type]


def ended(outcome: str | None) -> Job:
    return Job("7", status=COMPLETED, outcome=outcome)


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_an_unknown_job_is_refused(name: str) -> None:
    """By the option's name and the id."""
    with pytest.raises(Rejected, match=f"options.{name}: you have no job 7 "):
        settle(asking(name, "7"), lambda _: {}, "owens")


@pytest.mark.parametrize("status", [QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, None])
@pytest.mark.parametrize("name", DEPENDENCIES)
def test_a_job_that_has_not_ended_is_passed_on(name: str, status: str | None) -> None:
    request = asking(name, "7")
    assert settle(request, lambda _: {"7": Job("7", status=status)}, "owens") == (request, {})


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_job_that_has_ended(outcome: str) -> None:
    """A condition that is met is left out and named. One that cannot be met is rejected with the job's outcome."""
    met = {"after": True, "afterany": True, "afterok": outcome == "succeeded", "afternotok": outcome != "succeeded"}
    for name in DEPENDENCIES:
        request = asking(name, "7")
        if met[name]:
            assert settle(request, lambda _: {"7": ended(outcome)}, "owens") == (
                without_conditions(request),
                {name: ["7"]},
            )
        else:
            with pytest.raises(Rejected, match=rf"options.{name}: job 7 has already ended \({outcome}\)"):
                settle(request, lambda _: {"7": ended(outcome)}, "owens")


def without_conditions(request: JobRequest) -> JobRequest:
    return JobRequest(request.content, request.workdir, submit_tag=request.submit_tag)


def test_an_end_that_is_not_known_in_full_is_the_schedulers_to_judge() -> None:
    """A condition that needs only the job's end is still met."""
    for name in ("afterok", "afternotok"):
        request = asking(name, "7")
        assert settle(request, lambda _: {"7": ended(None)}, "owens") == (request, {})
    assert settle(asking("afterany", "7"), lambda _: {"7": ended(None)}, "owens")[1] == {"afterany": ["7"]}


def test_some_are_met_and_some_are_waited_for() -> None:
    request = JobRequest("#!/bin/sh\n", "/", afterok=("7", "8"), afterany=("7",))
    jobs = {"7": ended("succeeded"), "8": Job("8", status=RUNNING)}
    settled, met = settle(request, lambda _: jobs, "owens")
    assert (settled.afterok, settled.afterany, met) == (("8",), (), {"afterok": ["7"], "afterany": ["7"]})


class One(Adapter):
    options = frozenset(DEPENDENCIES)

    def __init__(self, found: Job | Exception) -> None:
        super().__init__("c", {"adapter": "one"})
        self.found = found
        self.asked = 0

    def job(self, job_id: str) -> Job:
        self.asked += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def jobs(self) -> list[Job]:
        return [self.job("7")]


def test_jobs_are_looked_up_anew() -> None:
    """Not in an answer of a second ago: the job may have ended since. Without a dependency nothing is asked."""
    adapter = One(Job("7", status=RUNNING))
    scheduler = CachedScheduler(adapter)
    scheduler.job("7"), scheduler.jobs()
    adapter.found = ended("failed")
    with pytest.raises(Rejected, match="failed"):
        scheduler.settle_dependencies(asking("afterok", "7", "7_1"))
    with pytest.raises(Rejected, match="failed"):
        scheduler.settle_dependencies(asking("afterok", "7"))
    with pytest.raises(Rejected, match="failed"):
        scheduler.settle_dependencies(asking("afterok", "7", "8"))
    before = adapter.asked
    assert scheduler.settle_dependencies(PLAIN) == (PLAIN, {}) and adapter.asked == before


def test_a_look_up_that_fails_leaves_nothing_in_doubt() -> None:
    """Nothing was submitted: a submit with a key may be tried again at once, and is no 409 later."""
    with pytest.raises(NotSent, match="nothing was submitted"):
        CachedScheduler(One(SchedulerUnavailable("away"))).settle_dependencies(asking("afterok", "7"))
    with pytest.raises(Rejected, match="no job 7"):
        CachedScheduler(One(JobNotFound())).settle_dependencies(asking("afterok", "7"))


def test_an_option_that_the_scheduler_lacks_is_refused_before() -> None:
    adapter = One(ended("succeeded"))
    adapter.options = frozenset()  # type: ignore[misc]
    with pytest.raises(Rejected, match="does not have this option"):
        CachedScheduler(adapter).settle_dependencies(asking("afterok", "7"))
    assert adapter.asked == 0
