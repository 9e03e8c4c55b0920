"""pun_app/adapters/pbs/pbspro_qstat.py against recorded output of OpenPBS 23.06."""

from __future__ import annotations

import json

import pytest

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, Job
from pun_app.adapters.pbs.pbspro import PbsProAdapter
from pun_app.adapters.pbs.pbspro_qstat import Jobs, decode, job_of
from tests.pun_app.adapters.pbs.common import OPENPBS


@pytest.mark.parametrize(
    "name", [n for n in OPENPBS if '"Jobs"' in OPENPBS[n]["stdout"] and "json" in OPENPBS[n]["argv"]]
)
def test_every_recorded_list_of_jobs_is_read(name: str) -> None:
    """Some environments hold digits of other scripts, JSON, or bytes that are not UTF-8."""
    jobs = decode(OPENPBS.output(name).out, Jobs).jobs
    assert jobs
    for job_id, attributes in jobs.items():
        job = job_of(job_id, attributes)
        assert PbsProAdapter.job_id.fullmatch(job.id)
        assert job.status is not None
        assert job.owner in ("pbsa", "pbsb", "hpca", "hpcb")
        assert job.submitted_at is not None
        assert (job.outcome is None) == (job.status != COMPLETED)


@pytest.mark.parametrize(
    ("name", "job_id", "status", "outcome", "exit_code"),
    [
        ("qstat-json-full", "1.vm", RUNNING, None, None),
        ("qstat-json-held", "4.vm", QUEUED_HELD, None, None),
        ("qstat-json-dep", "5.vm", QUEUED, None, None),
        ("qstat-json-wait", "10.vm", QUEUED, None, None),
        ("qstat-json-suspended", "48.vm", SUSPENDED, None, None),
        ("qstat-json-arr", "7[].vm", RUNNING, None, None),
        ("qstat-json-array-t", "7[1].vm", COMPLETED, "succeeded", 0),
        ("qstat-json-x-full-finished", "1.vm", COMPLETED, "succeeded", 0),
        ("qstat-json-x-all", "2.vm", COMPLETED, "failed", 3),
        ("qstat-json-x-sigkill", "1000.vm", COMPLETED, "failed", 137),
        ("qstat-json-x-exit255", "1005.vm", COMPLETED, "failed", 255),
        ("qstat-json-x-walltime-2s", "1008.vm", COMPLETED, "timed_out", None),
        ("qstat-json-deleted-by-manager-x", "49.vm", COMPLETED, "cancelled", None),
        ("qstat-json-x-traps-term", "51.vm", COMPLETED, "cancelled", None),
        ("qstat-json-x-forcedeleted-50", "50.vm", COMPLETED, "cancelled", None),
        ("qstat-json-x-bad-depend-31", "31.vm", COMPLETED, "cancelled", None),
        ("qstat-json-x-array-deleted", "1010[].vm", COMPLETED, "cancelled", None),
        ("qstat-json-held-array-t", "289[].vm", QUEUED_HELD, None, None),
        ("qstat-json-held-array-t", "289[1].vm", COMPLETED, "cancelled", None),
        ("qstat-json-held-array-t", "289[2].vm", QUEUED_HELD, None, None),
    ],
)
def test_status_and_outcome_of_each_recorded_job(
    name: str, job_id: str, status: str, outcome: str | None, exit_code: int | None
) -> None:
    """Substate 92 without an exit status is not a success."""
    job = job_of(job_id, decode(OPENPBS.output(name).out, Jobs).jobs[job_id])
    assert (job.status, job.outcome, job.exit_code) == (status, outcome, exit_code)


def test_a_task_is_held_like_its_array() -> None:
    """A task has the state Q and its array's holds. The system's hold for a dependency is not the user's."""

    def task(**more: str) -> Job:
        attributes = {"Job_Owner": "a@b", "job_state": "Q", "substate": 10, **more}
        return job_of("1[2].vm", decode(json.dumps({"Jobs": {"1[2].vm": attributes}}), Jobs).jobs["1[2].vm"])

    dependency = {"depend": "afterok:1.vm@vm"}
    assert [task(Hold_Types=holds).status for holds in ("u", "o", "s", "n", "")] == [*[QUEUED_HELD] * 3, QUEUED, QUEUED]
    assert [task(Hold_Types=holds, **dependency).status for holds in ("s", "us", "n")] == [QUEUED, QUEUED_HELD, QUEUED]


@pytest.mark.parametrize(
    ("name", "job_id", "status", "outcome"),
    [
        ("qstat-json-x-held-array-ended-t", "391[2].vm", COMPLETED, "cancelled"),
        ("qstat-json-begun-array-t", "392[2].vm", QUEUED, None),
        ("qstat-json-begun-array-t", "392[3].vm", COMPLETED, "cancelled"),
    ],
)
def test_a_task_that_never_ran_has_no_times_and_no_exit_code(
    name: str, job_id: str, status: str, outcome: str | None
) -> None:
    """PBS prints its array's start, end and exit status for it: that of a success, where the other tasks succeed."""
    attributes = decode(OPENPBS.output(name).out, Jobs).jobs[job_id]
    assert attributes.started
    job = job_of(job_id, attributes)
    assert (job.status, job.outcome, job.exit_code, job.started_at, job.ended_at) == (status, outcome, None, None, None)
    assert job.submitted_at is not None


def test_the_comment_about_a_deleted_sibling_is_not_a_reason() -> None:
    """PBS gives it to the array and to every queued task."""
    jobs = decode(OPENPBS.output("qstat-json-held-array-t").out, Jobs).jobs
    assert {attributes.comment for attributes in jobs.values()} == {"Subjob finished"}
    assert {job_id: job_of(job_id, attributes).native_reason for job_id, attributes in jobs.items()} == {
        "289[].vm": None, "289[1].vm": "Subjob finished", "289[2].vm": None,
    }  # fmt: skip


def test_all_fields_of_a_job() -> None:
    """Times are in UTC."""
    job = job_of("1.vm", decode(OPENPBS.output("qstat-json-x-full-finished").out, Jobs).jobs["1.vm"])
    assert (job.name, job.owner, job.queue, job.account) == ("demo-job", "pbsa", "workq", "proj123")
    # Sun Nov 22 19:07:38 2026 and 19:08:24, in UTC.
    assert (job.submitted_at, job.started_at, job.ended_at) == (1795374458, 1795374458, 1795374504)
    assert (job.wallclock_time, job.wallclock_limit) == (45, 300)


def test_a_job_that_can_never_start() -> None:
    """``can_start`` is False for this comment of a queued job alone."""
    comment = "Can Never Run: Insufficient amount of resource: ncpus (R: 6336 A: 4 T: 4)"

    def job(**more: object) -> Job:
        text = json.dumps({"Jobs": {"1.vm": {"Job_Owner": "a@b", "job_state": "Q", **more}}})
        return job_of("1.vm", decode(text, Jobs).jobs["1.vm"])

    assert (job(comment=comment).can_start, job(comment=comment).reason) == (False, comment)
    for other in (
        {},
        {"comment": "Not Running: Insufficient amount of resource: ncpus"},
        {"comment": comment, "job_state": "F"},
    ):
        assert (job(**other).can_start, job(**other).reason) == (None, None)


def test_an_unknown_state_has_no_status() -> None:
    """The job keeps its native state."""
    attributes = decode('{"Jobs": {"1.vm": {"Job_Owner": "a@b", "job_state": "~"}}}', Jobs).jobs["1.vm"]
    job = job_of("1.vm", attributes)
    assert (job.status, job.native_state, job.outcome) == (None, "~", None)


@pytest.mark.parametrize("cut", [0, 1, 50, 400, -3])
def test_output_that_was_cut_off_is_unavailable(cut: int) -> None:
    """Output that was cut off anywhere is an error, and never a shorter list."""
    with pytest.raises(SchedulerUnavailable, match="cannot be read"):
        decode(OPENPBS.output("qstat-json-full").out[:cut], Jobs)
