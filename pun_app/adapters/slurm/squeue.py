"""Slurm's jobs: argv for sbatch, squeue and sacct, and what they print. Pure functions, in pairs.

Seen with 22.05, checked against its manual pages. Text is asked for in a format of our own, never ``--json``:
with 20,000 jobs that took 5 s, this 0.2 s.
"""

from __future__ import annotations

import re
import secrets

from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import (
    COMPLETED,
    DEPENDENCIES,
    QUEUED,
    QUEUED_HELD,
    RUNNING,
    SUSPENDED,
    Job,
    JobRequest,
    ValidationResult,
)
from pun_app.adapters.parse import duration, number, records, word
from pun_app.adapters.script import last_option
from pun_app.adapters.slurm.reasons import never_starts

STATUS: dict[str, tuple[str, str | None]] = {
    "PENDING": (QUEUED, None),
    "CONFIGURING": (QUEUED, None),
    "EXPEDITING": (QUEUED, None),
    "REQUEUED": (QUEUED, None),
    "REQUEUE_FED": (QUEUED, None),
    "REQUEUE_HOLD": (QUEUED_HELD, None),
    "RESV_DEL_HOLD": (QUEUED_HELD, None),
    "SPECIAL_EXIT": (QUEUED_HELD, None),
    "RUNNING": (RUNNING, None),
    "COMPLETING": (RUNNING, None),
    "RESIZING": (RUNNING, None),
    "SIGNALING": (RUNNING, None),
    "STAGE_OUT": (RUNNING, None),
    "SUSPENDED": (SUSPENDED, None),
    "STOPPED": (SUSPENDED, None),
    "COMPLETED": (COMPLETED, "succeeded"),
    "FAILED": (COMPLETED, "failed"),
    "CANCELLED": (COMPLETED, "cancelled"),
    "REVOKED": (COMPLETED, "cancelled"),
    "TIMEOUT": (COMPLETED, "timed_out"),
    "DEADLINE": (COMPLETED, "timed_out"),
    "OUT_OF_MEMORY": (COMPLETED, "out_of_memory"),
    "NODE_FAIL": (COMPLETED, "node_failed"),
    "BOOT_FAIL": (COMPLETED, "node_failed"),
    "PREEMPTED": (COMPLETED, "preempted"),
}
"""Each job state code of squeue(1) → the contract's status, and the outcome of one that has ended."""

HELD_REASONS = ("JobHeldUser", "JobHeldAdmin")

OPTIONS = {
    "workdir": "--chdir",
    "job_name": "--job-name",
    "queue_name": "--partition",
    "accounting_id": "--account",
    "output_path": "--output",
    "error_path": "--error",
    "array": "--array",
    "nodes": "--nodes",
    "cores": "--ntasks",
    "gpus": "--gpus-per-node",
    "qos": "--qos",
    "reservation": "--reservation",
}
"""Fields of a JobRequest → sbatch's options, always as ``--option=value``: no value becomes an option."""

QUEUE_FIELDS = (
    "JobArrayID", "State", "exit_code", "UserID", "UserName", "Account", "Partition", "SubmitTime",
    "StartTime", "EndTime", "TimeUsed", "TimeLimit", "NodeList", "Reason", "Comment", "Name",
)  # fmt: skip
HISTORY_FIELDS = (
    "JobID", "State", "ExitCode", "UID", "User", "Account", "Partition", "Submit",
    "Start", "End", "ElapsedRaw", "TimelimitRaw", "NodeList", "JobName",
)  # fmt: skip

UNREACHABLE = re.compile(
    r"Unable to contact slurm|Socket timed out|Connection (refused|reset|timed out)|Zero Bytes were transmitted"
    r"|authentication|Could not establish a configuration|communication|Transport endpoint|Unexpected message",
    re.IGNORECASE,
)
NEVER_SENT = re.compile(r"connect failure|Connection refused|Could not establish a configuration", re.IGNORECASE)
NO_SUCH_JOB = re.compile(r"Invalid job id", re.IGNORECASE)
_TRIAL = re.compile(r"Job \S+ to start at (\d{1,12}) ([^\n]*)")
_SUBMITTED = re.compile(r"(\d+)(?:;(\S+))?")


def submit_command(request: JobRequest) -> list[str]:
    """argv of a submit; the script goes to its standard input.

    ``--get-user-env`` gives the job the user's login environment, as ``--export=NONE`` would, but without
    the SLURM_EXPORT_ENV=NONE that breaks every srun inside the job.
    """
    argv = ["sbatch", "--parsable", "--get-user-env"]
    for field, option in OPTIONS.items():
        value = getattr(request, field)
        if value is not None:
            argv.append(f"{option}={value}")
    if request.wall_time is not None:
        minutes, seconds = divmod(request.wall_time, 60)
        argv.append(f"--time={minutes}:{seconds:02}")
    if request.memory is not None:
        argv.append(f"--mem={request.memory}M")
    if request.hold:
        argv.append("--hold")
    if request.email is not None:
        argv += [f"--mail-user={request.email}", "--mail-type=END,FAIL"]
    waits = [":".join((kind, *jobs)) for kind in DEPENDENCIES if (jobs := getattr(request, kind))]
    if waits:
        argv.append(f"--dependency={','.join(waits)}")
    for field, option, short in (("output_path", "--output", "-o"), ("error_path", "--error", "-e")):
        # Accounting keeps this line, and of the script nothing: where the output went is known by it alone.
        own = last_option(request, "#SBATCH", option) or last_option(request, "#SBATCH", short)
        if own and getattr(request, field) is None:
            argv.append(f"{option}={own}")
    native, comment = list(request.native), last_option(request, "#SBATCH", "--comment")
    argv.append(f"--comment={comment + ' ' if comment else ''}{request.submit_tag}")
    # What comes last wins, so a comment of the user's own goes on in ours.
    for index, given in enumerate(native):
        if given.startswith("--comment=") or (index and native[index - 1] == "--comment"):
            native[index] = f"{given} {request.submit_tag}"
    return argv + native


def trial_command(request: JobRequest) -> list[str]:
    """argv of a submit that is only tried; what it says goes to standard error. sbatch(1)."""
    argv = submit_command(request)
    return [argv[0], "--test-only", *argv[1:]]


def parse_trial(text: str) -> ValidationResult:
    """What ``sbatch --test-only`` said of a job that it would take. The id in it is nobody's."""
    said = _TRIAL.search(text)
    return (
        ValidationResult(int(said[1]), said[2].strip())
        if said
        else ValidationResult(message=text.strip()[:500] or None)
    )


def parse_submit(text: str, cluster: str | None = None) -> str | None:
    """The job id that ``sbatch --parsable`` printed (sbatch(1): id, and ";cluster" with -M); None where it is none.

    Raises Rejected where the job is not on this cluster.
    """
    match = _SUBMITTED.fullmatch(text.strip())
    if match and match[2] and match[2] != cluster:
        raise Rejected(
            f"The native options sent this job to the cluster {match[2]}, where it is job {match[1]}; "
            "choose a cluster by the request's cluster"
        )
    return match[1] if match else None


def queue_command(delimiter: str, *, user: str | None = None, job_id: str | None = None) -> list[str]:
    """argv of a list of jobs in the queue: a user's, or one job (an array: each of its tasks).

    In ``-O`` a field without a width is not cut, and what follows the colon is printed after it (seen
    with 22.05).
    """
    fields = ",".join(f"{name}:{delimiter}" for name in QUEUE_FIELDS)
    argv = ["squeue", "--all", "--states=all", "--array", "--noheader", f"--Format={fields}"]
    if user is not None:
        argv.append(f"--user={user}")
    if job_id is not None:
        argv.append(f"--jobs={job_id}")
    return argv


def queued_job(
    job_id: str, state: str, exit_code: str, uid: str, user: str, account: str, queue: str, submitted: str,
    started: str, ended: str, used: str, limit: str, nodes: str, reason: str, comment: str, name: str,
) -> tuple[int | None, str | None, Job]:  # fmt: skip
    """A row's uid, comment and job."""
    status, outcome = STATUS.get(state, (None, None))
    if state == "PENDING" and reason in HELD_REASONS:
        status = QUEUED_HELD
    why_never = never_starts(reason, queue) if status == QUEUED else None
    raw = number(exit_code)
    code = None if raw is None else (128 + (raw & 127) if raw & 127 else raw >> 8 & 255)
    job = Job(
        id=job_id,
        name=name,
        owner=word(user),
        status=status,
        native_state=state,
        native_reason=word(reason),
        outcome=outcome,
        exit_code=_exit_code(outcome, code),
        queue=word(queue),
        account=word(account),
        submitted_at=number(submitted),
        started_at=number(started) if _has_started(status, nodes) else None,
        ended_at=number(ended) if status == COMPLETED else None,
        wallclock_time=duration(used),
        wallclock_limit=duration(limit),
        can_start=False if why_never else None,
        reason=why_never,
    )
    return number(uid), word(comment), job


def history_command(delimiter: str, job_id: str) -> list[str]:
    """argv of one job's accounting record, or of each task's of an array."""
    return [
        "sacct", "--allocations", "--noheader", "--parsable", f"--delimiter={delimiter}",
        f"--jobs={job_id}", f"--format={','.join(HISTORY_FIELDS)}",
    ]  # fmt: skip


def parse_history(text: str, delimiter: str) -> list[tuple[int | None, Job]]:
    """Each row's uid and job."""
    return [ended_job(*row) for row in records(text, delimiter, len(HISTORY_FIELDS))]


def ended_job(
    job_id: str, state: str, exit_code: str, uid: str, user: str, account: str, queue: str, submitted: str,
    started: str, ended: str, elapsed: str, limit: str, nodes: str, name: str,
) -> tuple[int | None, Job]:  # fmt: skip
    # "CANCELLED by 1003": the state, and by whom.
    state, _, reason = state.partition(" ")
    status, outcome = STATUS.get(state.rstrip("+"), (None, None))
    code, _, killed_by = exit_code.partition(":")
    signal_number = number(killed_by) or 0
    minutes = number(limit)
    job = Job(
        id=job_id,
        name=name,
        owner=word(user),
        status=status,
        native_state=state,
        native_reason=word(reason),
        outcome=outcome,
        exit_code=_exit_code(outcome, 128 + signal_number if signal_number else number(code)),
        queue=word(queue),
        account=word(account),
        submitted_at=number(submitted),
        started_at=number(started) if _has_started(status, nodes) else None,
        ended_at=number(ended) if status == COMPLETED else None,
        wallclock_time=number(elapsed),
        wallclock_limit=None if minutes is None else minutes * 60,
    )
    return number(uid), job


def _has_started(status: str | None, nodes: str) -> bool:
    """Of a job that waits Slurm prints when it may start, of one that was cancelled before it started when that was."""
    return status not in (QUEUED, QUEUED_HELD) and nodes.strip() not in ("", "None assigned")


def _exit_code(outcome: str | None, code: int | None) -> int | None:
    """A job that Slurm ended has none of its own; squeue and sacct print other numbers for it."""
    return code if outcome in ("succeeded", "failed") else None


def new_delimiter() -> str:
    """What separates fields in one answer: no job's name can hold it, as nobody knows it before."""
    return f"\x1f{secrets.token_hex(4)}\x1f"
