"""pun_app/adapters/lsf/bjobs.py against output of volclava 2.2, and of IBM LSF 8.3 and 9.1 as in OOD's tests."""

from __future__ import annotations

import json

import pytest

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.lsf.bjobs import parse_json, parse_table, parse_time
from pun_app.adapters.lsf.long_format import LongRecord, with_details
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, Job
from tests.pun_app.adapters.lsf.common import NOW, RECORDED


def test_every_record_of_the_json_is_a_job() -> None:
    """A job's name may hold quotes, angle brackets and blanks."""
    jobs = {job.id: job for job in parse_json(RECORDED.output("bjobs-o-json-known").out)}
    assert len(jobs) == json.loads(RECORDED["bjobs-o-json-known"]["stdout"])["JOBS"]
    assert {job.status for job in jobs.values()} >= {RUNNING, QUEUED, COMPLETED}
    assert (jobs["2"].outcome, jobs["2"].name, jobs["2"].queue) == ("succeeded", "demo-job", "short")
    assert (jobs["2"].started_at, jobs["2"].ended_at) == (1795375189, 1795375220)
    # How a job that failed did so is not in this LSF's JSON.
    assert (jobs["3"].status, jobs["3"].outcome) == (COMPLETED, None)
    assert jobs["25"].name == 'we"ird nm <x>'
    assert jobs["7[2]"].name == "arr[2]"


def test_the_wide_table_agrees_with_the_json() -> None:
    """The lists were recorded at different times, so only jobs in the same state are compared."""
    rows = {job.id: job for job in parse_table(RECORDED.output("bjobs-W-a-final").out)}
    others = {job.id: job for job in parse_json(RECORDED.output("bjobs-o-json-known").out)}
    same = [number for number, job in rows.items() if number in others and job.status == others[number].status]
    assert len(same) > 15
    for number in same:
        ours, theirs = rows[number], others[number]
        assert (ours.name, ours.queue, ours.started_at, ours.ended_at) == (
            theirs.name, theirs.queue, theirs.started_at, theirs.ended_at,
        )  # fmt: skip
    assert rows["2"].account == "proj123"
    # As OOD's tests have it of LSF 8.3 and 9.1, whose table ends with a column more.
    ibm = (
        "542945  efranz  DONE  short      foobar02.osc.edu compute013  #!/bin/bash;#BSUB -q short # queue; echo \"Hello, I am in"
        " $PWD\";sleep 30 03/31-19:24:57 default    000:00:00.03 2      32     9389 03/31-19:24:59 03/31-19:25:29 1\n"
        "542935  efranz  RUN   short      foobar02.osc.edu compute013  foo        03/31-14:46:42 default    000:00:00.00 2      32"
        "     25156 03/31-14:46:44 -\n542  efranz  RUN  sho"
    )  # fmt: skip
    done, running = parse_table(ibm)
    assert (done.outcome, done.name and done.name.endswith("sleep 30")) == ("succeeded", True)
    assert (running.status, running.name, running.ended_at) == (RUNNING, "foo", None)


@pytest.mark.parametrize(
    ("stat", "status"),
    [("PEND", QUEUED), ("WAIT", QUEUED), ("PSUSP", QUEUED_HELD), ("RUN", RUNNING), ("USUSP", SUSPENDED), ("SSUSP", SUSPENDED),
     ("DONE", COMPLETED), ("EXIT", COMPLETED), ("UNKWN", None), ("ZOMBI", None), ("BRANDNEW", None)],
)  # fmt: skip
def test_status_of_each_state(stat: str, status: str | None) -> None:
    """A state that is not in the table has no status, and keeps its native state."""
    (job,) = parse_json(json.dumps({"RECORDS": [{"JOBID": "1", "STAT": stat}]}))
    assert (job.status, job.native_state) == (status, stat)


@pytest.mark.parametrize(
    ("code", "reason", "outcome", "exit_code"),
    [
        ("3", "", "failed", 3), ("137", "", "failed", 137), ("130", "TERM_OWNER: job killed by owner", "cancelled", None),
        ("140", "TERM_RUNLIMIT: job killed after reaching LSF run time limit", "timed_out", None),
        ("137", "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit", "out_of_memory", None),
        ("143", "TERM_PREEMPT: job killed after preemption", "preempted", None), ("", "", "cancelled", None),
        ("1", "TERM_SOMETHING_NEW", "failed", 1),
    ],
    ids=["exit code", "signal", "owner", "run limit", "memory limit", "preempted", "killed while pending", "new reason"],
)  # fmt: skip
def test_outcome_from_the_termination_reason(code: str, reason: str, outcome: str, exit_code: int | None) -> None:
    """LSF 10.1 has exit_code and exit_reason among the fields of -o; the reasons are those of bacct(1)."""
    row = {"JOBID": "1", "STAT": "EXIT", "EXIT_CODE": code, "EXIT_REASON": reason}
    (job,) = parse_json(json.dumps({"RECORDS": [row]}))
    assert (job.outcome, job.exit_code) == (outcome, exit_code)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("Nov 22 19:21", 1795375260), ("Nov 22 19:21:07", 1795375267), ("Nov 22 19:21:07 2026", 1795375267), ("11/22-19:21:07", 1795375267),
     ("Nov 22 19:21 L", 1795375260), ("Dec 31 23:59:59", 1767225599), ("Feb 29 00:00", 1709164800), ("-", None), ("", None),
     ("Nov 31 10:00", None), ("13/40-99:99:99", None)],
)  # fmt: skip
def test_a_time_without_a_year_is_the_latest_one(text: str, seconds: int | None) -> None:
    """At the end of November, a time in December is that of the year before."""
    assert parse_time(text, NOW) == seconds


@pytest.mark.parametrize("cut", [0, 5, 300, -4])
def test_json_that_was_cut_off_is_unavailable(cut: int) -> None:
    """Output that was cut off anywhere is an error, and never a shorter list."""
    with pytest.raises(SchedulerUnavailable, match="cannot be read"):
        parse_json(RECORDED.output("bjobs-o-json-known").out[:cut])


def test_a_dependency_that_can_never_be_met() -> None:
    """``can_start`` is False for this reason of a pending job alone, in JSON and in the long format."""

    def job(stat: str, reason: str) -> Job:
        record = {"JOBID": "7", "STAT": stat, "USER": "a", "PEND_REASON": reason}
        return parse_json(json.dumps({"COMMAND": "bjobs", "JOBS": 1, "RECORDS": [record]}))[0]

    never = "Dependency condition invalid or never satisfied;"
    assert (job("PEND", never).can_start, never in (job("PEND", never).reason or "")) == (False, True)
    for stat, reason in (("PEND", "Job dependency condition not satisfied"), ("PEND", ""), ("RUN", never)):
        assert (job(stat, reason).can_start, job(stat, reason).reason) == (None, None)
    record = LongRecord("7", f"Job <7>, User <a>, Status <PEND>\n PENDING REASONS:\n {never}\n")
    assert with_details(Job("7", status=QUEUED, native_state="PEND"), record).can_start is False
