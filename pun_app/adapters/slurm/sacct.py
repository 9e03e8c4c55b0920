"""Slurm's jobs in accounting: the command lines of sacct, and its rows. Pure functions.

Tested with Slurm 22.05, and compared with sacct(1).
"""

from __future__ import annotations

from typing import NamedTuple

from pun_app.adapters.model import COMPLETED, Job, PastJob, Period
from pun_app.adapters.parse import duration, number, records, size, word
from pun_app.adapters.slurm.states import OUTCOMES_WITH_EXIT_CODE, STATUS, has_started


class Row(NamedTuple):
    """A row of sacct, with the columns of COLUMNS as printed."""

    job_id: str
    state: str
    exit_code: str
    uid: str
    user: str
    account: str
    partition: str
    submit: str
    start: str
    end: str
    elapsed: str
    time_limit: str
    nodes: str
    name: str


class Usage(NamedTuple):
    """The columns with the usage of a job or a step, as printed."""

    total_cpu: str
    cpus: str
    allocated_tres: str
    requested_tres: str
    max_rss: str
    tasks: str


COLUMNS = Row(
    job_id="JobID",
    state="State",
    exit_code="ExitCode",
    uid="UID",
    user="User",
    account="Account",
    partition="Partition",
    submit="Submit",
    start="Start",
    end="End",
    elapsed="ElapsedRaw",
    time_limit="TimelimitRaw",
    nodes="NodeList",
    name="JobName",
)
"""sacct's names of the columns (sacct(1), --format)."""
USAGE_COLUMNS = Usage(
    total_cpu="TotalCPU",
    cpus="AllocCPUS",
    allocated_tres="AllocTRES",
    requested_tres="ReqTRES",
    max_rss="MaxRSS",
    tasks="NTasks",
)

_EARLIEST = 1_000_000
"""The earliest time in Unix seconds that sacct accepts."""


def sacct_jobs_command(delimiter: str, job_ids: str) -> list[str]:
    """Return the argv for the records of jobs. An array has a row for each task. ``job_ids`` is ``7,9``."""
    return [
        "sacct", "--allocations", "--noheader", "--parsable", f"--delimiter={delimiter}",
        f"--jobs={job_ids}", f"--format={','.join(COLUMNS)}",
    ]  # fmt: skip


def parse_jobs(text: str, delimiter: str) -> list[tuple[int | None, Job]]:
    """Return (uid, job) of each row."""
    return [_job(Row._make(row)) for row in records(text, delimiter, len(COLUMNS))]


def _job(row: Row) -> tuple[int | None, Job]:
    # "CANCELLED by 1003": the state, and the user who caused it.
    state, _, reason = row.state.partition(" ")
    status, outcome = STATUS.get(state.rstrip("+"), (None, None))
    minutes = number(row.time_limit)
    job = Job(
        id=row.job_id,
        name=row.name,
        owner=word(row.user),
        status=status,
        native_state=state,
        native_reason=word(reason),
        outcome=outcome,
        exit_code=_exit_code(row.exit_code) if outcome in OUTCOMES_WITH_EXIT_CODE else None,
        queue=word(row.partition),
        account=word(row.account),
        submitted_at=number(row.submit),
        started_at=number(row.start) if has_started(status, row.nodes) else None,
        ended_at=number(row.end) if status == COMPLETED else None,
        wallclock_time=number(row.elapsed),
        wallclock_limit=None if minutes is None else minutes * 60,
    )
    return number(row.uid), job


def _exit_code(text: str) -> int | None:
    """Return the exit code in ``CODE:SIGNAL``; for a job killed by a signal, 128 plus the signal's number."""
    code, _, killed_by = text.partition(":")
    signal_number = number(killed_by)
    return 128 + signal_number if signal_number else number(code)


def sacct_history_command(delimiter: str, user: str, period: Period) -> list[str]:
    """Return the argv for a user's jobs that had one of the period's outcomes in the period, with their steps.

    Times are Unix seconds, which have no time zone. sacct lists jobs that were cancelled before they started only if
    the command names states and both ends of the period.
    """
    states = [state for state, (_, outcome) in STATUS.items() if outcome in period.outcomes]
    return [
        "sacct", "--noheader", "--parsable", f"--delimiter={delimiter}", f"--user={user}",
        f"--starttime=uts{max(_EARLIEST, period.start)}", f"--endtime=uts{max(_EARLIEST, period.end)}",
        f"--state={','.join(states)}",
        f"--format={','.join((*COLUMNS, *USAGE_COLUMNS))}",
    ]  # fmt: skip


def parse_history(text: str, delimiter: str) -> list[tuple[int | None, PastJob]]:
    """Return (uid, job with its usage) of each job.

    The processor time of a job is in its own row, and its memory is in the rows of its steps.
    """
    jobs: dict[str, tuple[Row, Usage]] = {}
    memory: dict[str, int] = {}
    for columns in records(text, delimiter, len(COLUMNS) + len(USAGE_COLUMNS)):
        row, usage = Row._make(columns[: len(COLUMNS)]), Usage._make(columns[len(COLUMNS) :])
        job_id, step, _ = row.job_id.partition(".")
        if not step:
            jobs[job_id] = row, usage
            continue
        used, tasks = size(usage.max_rss), number(usage.tasks)
        if used is not None:
            # MaxRSS is the memory of a step's largest task. Steps may run one after the other, so the largest counts.
            memory[job_id] = max(memory.get(job_id, 0), used * (tasks or 1))
    return [_past_job(row, usage, memory.get(job_id)) for job_id, (row, usage) in jobs.items()]


def _past_job(row: Row, usage: Usage, memory_used: int | None) -> tuple[int | None, PastJob]:
    uid, job = _job(row)
    if not usage.allocated_tres:
        return uid, PastJob(job)  # The job was cancelled before it started.
    return uid, PastJob(
        job,
        cpus=number(usage.cpus),
        cpu_time=duration(usage.total_cpu),
        memory_used=memory_used,
        # On sites that do not allocate memory (SelectTypeParameters) only the requested memory is known.
        memory_requested=_memory(usage.allocated_tres) or _memory(usage.requested_tres),
    )


def _memory(tres: str) -> int | None:
    """Return the bytes in ``billing=1,cpu=1,mem=200M,node=1``, of all nodes together."""
    return size(dict(pair.partition("=")[::2] for pair in tres.split(",")).get("mem", ""))
