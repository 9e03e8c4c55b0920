"""Slurm's jobs in the queue: the command line of squeue, and its rows. Pure functions.

Tested with Slurm 22.05. The rows have a format of our own. ``--json`` took 5 s for 20,000 jobs, this format 0.2 s.
"""

from __future__ import annotations

from typing import NamedTuple

from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, Job
from pun_app.adapters.parse import duration, number, word
from pun_app.adapters.slurm.reasons import never_starts
from pun_app.adapters.slurm.states import HELD_REASONS, STATUS, has_started, own_exit_code


class Row(NamedTuple):
    """One row of squeue: the columns of COLUMNS, as printed."""

    job_id: str
    state: str
    exit_code: str
    uid: str
    user: str
    account: str
    partition: str
    submit_time: str
    start_time: str
    end_time: str
    time_used: str
    time_limit: str
    nodes: str
    reason: str
    comment: str
    name: str


COLUMNS = Row(
    job_id="JobArrayID",
    state="State",
    exit_code="exit_code",
    uid="UserID",
    user="UserName",
    account="Account",
    partition="Partition",
    submit_time="SubmitTime",
    start_time="StartTime",
    end_time="EndTime",
    time_used="TimeUsed",
    time_limit="TimeLimit",
    nodes="NodeList",
    reason="Reason",
    comment="Comment",
    name="Name",
)
"""squeue's names of the columns (squeue(1), --Format)."""


def jobs_command(delimiter: str, *, user: str | None = None, job_id: str | None = None) -> list[str]:
    """Return the argv that lists jobs in the queue: a user's, or one job. An array has a row for each task.

    A column without a width is not cut, and the text after its colon is printed behind it (tested with 22.05).
    """
    columns = ",".join(f"{name}:{delimiter}" for name in COLUMNS)
    argv = ["squeue", "--all", "--states=all", "--array", "--noheader", f"--Format={columns}"]
    if user is not None:
        argv.append(f"--user={user}")
    if job_id is not None:
        argv.append(f"--jobs={job_id}")
    return argv


def parse_row(columns: list[str]) -> tuple[int | None, str | None, Job]:
    """Return (uid, comment, job) of a row, whose columns are in the order of COLUMNS."""
    row = Row._make(columns)
    status, outcome = STATUS.get(row.state, (None, None))
    if row.state == "PENDING" and row.reason in HELD_REASONS:
        status = QUEUED_HELD
    why_never = never_starts(row.reason, row.partition) if status == QUEUED else None
    job = Job(
        id=row.job_id,
        name=row.name,
        owner=word(row.user),
        status=status,
        native_state=row.state,
        native_reason=word(row.reason),
        outcome=outcome,
        exit_code=own_exit_code(outcome, _exit_code(row.exit_code)),
        queue=word(row.partition),
        account=word(row.account),
        submitted_at=number(row.submit_time),
        started_at=number(row.start_time) if has_started(status, row.nodes) else None,
        ended_at=number(row.end_time) if status == COMPLETED else None,
        wallclock_time=duration(row.time_used),
        wallclock_limit=duration(row.time_limit),
        can_start=False if why_never else None,
        reason=why_never,
    )
    return number(row.uid), word(row.comment), job


def _exit_code(text: str) -> int | None:
    """Return the exit code in a wait status (wait(2)): 128 and the signal's number for a job killed by a signal."""
    status = number(text)
    if status is None:
        return None
    return 128 + (status & 127) if status & 127 else status >> 8 & 255
