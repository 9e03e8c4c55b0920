"""bhist: the command that reads LSF's history of jobs, and the past jobs in its output. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from pun_app.adapters.lsf.long_format import LongRecord, with_details
from pun_app.adapters.model import Job, PastJob


def history_command(selection: Sequence[str]) -> list[str]:
    """Return argv for jobs in all of LSF's event files (-n 0). ``selection`` is job ids, or options such as -u."""
    return ["bhist", "-l", "-a", "-n", "0", *selection]


def past_job(record: LongRecord, queue_limits: Mapping[str, int | None] = MappingProxyType({})) -> PastJob:
    """Return a job of the history, with what it used.

    ``queue_limits`` are the run limits of queues, in seconds, for jobs that have no limit of their own.
    """
    done = "Done successfully" in record.text
    started, ended = record.started_at, record.ended_at
    job = with_details(
        Job(
            id=record.id,
            name=record.name,
            owner=record.user,
            native_state="DONE" if done else "EXIT" if ended is not None else None,
            queue=record.queue,
            wallclock_time=max(0, ended - started) if started is not None and ended is not None else 0,
            wallclock_limit=queue_limits.get(record.queue or ""),
        ),
        record,
    )
    if job.outcome == "failed" and re.search(r"Signal <(KILL|TERM|INT)> requested by user", record.text):
        job = msgspec.structs.replace(job, outcome="cancelled", exit_code=None)
    return PastJob(job, cpus=record.cpus, cpu_time=record.cpu_time_s, memory_used=record.memory_bytes)
