"""LSF's job states and how a job ended: LSF's words and exit codes as the contract's status and outcome."""

from __future__ import annotations

import re

import msgspec

from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, Job

STATUS = {
    "PEND": QUEUED, "WAIT": QUEUED, "PSUSP": QUEUED_HELD, "PROV": QUEUED, "RUN": RUNNING, "USUSP": SUSPENDED,
    "SSUSP": SUSPENDED, "DONE": COMPLETED, "EXIT": COMPLETED,
}  # fmt: skip
"""Job states of bjobs(1) → the contract's status. UNKWN and ZOMBI are missing: LSF itself does not know whether such a
job runs."""

TERMINATION_OUTCOMES = {
    "OWNER": "cancelled", "FORCE_OWNER": "cancelled", "ADMIN": "cancelled", "FORCE_ADMIN": "cancelled",
    "REMOVE_HUNG_JOB": "cancelled", "ORPHAN_SYSTEM": "cancelled", "RUNLIMIT": "timed_out", "CPULIMIT": "timed_out",
    "DEADLINE": "timed_out", "WINDOW": "timed_out", "MEMLIMIT": "out_of_memory", "SWAP": "out_of_memory",
    "PREEMPT": "preempted", "LOAD": "preempted", "BUCKET_KILL": "preempted", "UNKNOWN": "failed",
}  # fmt: skip
"""``TERM_…`` reasons for which LSF ended a job (bacct(1), Termination reasons) → the contract's outcome."""

SIGNAL_EXIT_CODE = 128
"""Exit codes above this one are those of jobs that a signal ended. A script may also end with such a code itself."""
RUN_LIMIT_EXIT_CODE = 140
"""Exit code of a job that LSF ended with SIGUSR2 at its run limit. A script may also end with this code itself."""

_ROUNDING_S = 2
"""The start and the end of a job are each rounded to a second."""


def with_outcome(job: Job, exit_code: int | None, reason: str) -> Job:
    """Return a completed job with its outcome and exit code.

    ``exit_code`` is None for a job that was killed before it started. ``reason`` holds LSF's ``TERM_…`` word, or is
    empty where this LSF gives none.
    """
    if job.native_state == "DONE":
        return msgspec.structs.replace(job, outcome="succeeded", exit_code=0)
    termination = re.search(r"TERM_(\w+)", reason)
    if termination:
        outcome = TERMINATION_OUTCOMES.get(termination[1], "failed")
    elif exit_code is None:
        outcome = "cancelled"
    else:
        outcome = "timed_out" if _reached_run_limit(job, exit_code) else "failed"
    return msgspec.structs.replace(job, outcome=outcome, exit_code=exit_code if outcome == "failed" else None)


def _reached_run_limit(job: Job, exit_code: int) -> bool:
    """Return whether a job has the exit code of the run limit and also ran for as long as the limit allows."""
    if (
        exit_code != RUN_LIMIT_EXIT_CODE
        or job.wallclock_limit is None
        or job.started_at is None
        or job.ended_at is None
    ):
        return False
    return job.ended_at - job.started_at >= job.wallclock_limit - _ROUNDING_S


def with_unmet_dependency(job: Job) -> Job:
    """Return a queued job with ``can_start`` set to False where LSF says that its dependency can never be met."""
    if job.status != QUEUED or "invalid or never satisfied" not in (job.native_reason or ""):
        return job
    return msgspec.structs.replace(
        job,
        can_start=False,
        reason=f"It depends on a job that did not end in the required way ({job.native_reason})",
    )
