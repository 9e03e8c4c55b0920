"""Slurm's jobs of the past: argv for sacct over a period, and what it prints. Pure functions.

Seen with 22.05, checked against sacct(1). A job's processor time stands in its own row, its memory in the rows of
its steps, so that all rows are read.
"""

from __future__ import annotations

from pun_app.adapters.model import PastJob, Period
from pun_app.adapters.parse import duration, number, records, size
from pun_app.adapters.slurm.squeue import HISTORY_FIELDS, STATUS, ended_job

USAGE_FIELDS = ("TotalCPU", "AllocCPUS", "AllocTRES", "ReqTRES", "MaxRSS", "NTasks")


_EARLIEST = 1_000_000
"""To sacct, anything before is no time."""


def past_command(delimiter: str, user: str, period: Period) -> list[str]:
    """argv of a user's jobs that were in one of the states in a period, with their steps.

    Times are given as Unix seconds, which have no zone. Without states, and without both ends of the period,
    sacct leaves out jobs that were cancelled before they started.
    """
    states = [state for state, (_, outcome) in STATUS.items() if outcome in period.outcomes]
    return [
        "sacct", "--noheader", "--parsable", f"--delimiter={delimiter}", f"--user={user}",
        f"--starttime=uts{max(_EARLIEST, period.start)}", f"--endtime=uts{max(_EARLIEST, period.end)}",
        f"--state={','.join(states)}",
        f"--format={','.join(HISTORY_FIELDS + USAGE_FIELDS)}",
    ]  # fmt: skip


def parse_past(text: str, delimiter: str) -> list[tuple[int | None, PastJob]]:
    """Each job's uid, and the job with what it used."""
    jobs: dict[str, list[str]] = {}
    memory: dict[str, int] = {}
    for row in records(text, delimiter, len(HISTORY_FIELDS) + len(USAGE_FIELDS)):
        job_id, step, _ = row[0].partition(".")
        if not step:
            jobs[job_id] = row
            continue
        used, tasks = size(row[-2]), number(row[-1])
        if used is not None:
            # MaxRSS is of the largest task of a step; steps run after or beside each other, the largest counts.
            memory[job_id] = max(memory.get(job_id, 0), used * (tasks or 1))
    return [_past_job(row, memory.get(job_id)) for job_id, row in jobs.items()]


def _past_job(row: list[str], memory_used: int | None) -> tuple[int | None, PastJob]:
    uid, job = ended_job(*row[: len(HISTORY_FIELDS)])
    cpu_time, cpus, allocated, requested, _, _ = row[len(HISTORY_FIELDS) :]
    if not allocated:
        return uid, PastJob(job)  # It was cancelled before it started.
    return uid, PastJob(
        job,
        cpus=number(cpus),
        cpu_time=duration(cpu_time),
        memory_used=memory_used,
        # Where memory is not allocated (SelectTypeParameters), what was asked for is all that there is.
        memory_requested=_memory(allocated) or _memory(requested),
    )


def _memory(tres: str) -> int | None:
    """Bytes in ``billing=1,cpu=1,mem=200M,node=1``, of all nodes together."""
    return size(dict(pair.partition("=")[::2] for pair in tres.split(",")).get("mem", ""))
