"""qstat: PBS's jobs as JSON, and what their attributes mean. Pure functions.

Tested with OpenPBS 23.06; attributes are those of pbs_job_attributes(7B). PBS writes text that looks like a number as a
number ("007" becomes 7), so fields that hold users' text take values of any type.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, Job, PastJob
from pun_app.adapters.parse import ctime, duration, number, size

STATUS = {
    "Q": QUEUED, "W": QUEUED, "T": QUEUED, "H": QUEUED_HELD, "R": RUNNING, "E": RUNNING, "S": SUSPENDED, "U": SUSPENDED,
    "F": COMPLETED, "X": COMPLETED,
}  # fmt: skip
"""Job states of qstat(1B) → the contract's status. Two are missing: B, an array that has begun, has the status of its
tasks, and M is a job that was moved to another server, where its status is unknown."""

DEPENDENCY_HOLD_SUBSTATE = 22
"""The substate of a job that PBS holds until its dependencies are met. No user held it, and no user can release it."""
DELETED_SUBSTATE = 91

LIMIT_OUTCOMES = {-29: "timed_out", -28: "timed_out", -27: "out_of_memory", -26: "out_of_memory"}
"""Exit_status of a job that PBS ended for its walltime, cput, mem or vmem (pbs_error.h) → its outcome."""

SIGNAL_EXIT_STATUS = 256
"""Exit_status from here on is 256 plus the signal by which PBS itself ended the job."""

_TASK = re.compile(r"\[\d+\]")
_RUNNING_TASKS = re.compile(r"Running:[1-9]|Exiting:[1-9]")

_SIBLING_DELETED = "Subjob finished"
"""The comment of an array and of its queued tasks after another of its tasks was deleted."""

T = TypeVar("T")

MAX_IDS_PER_COMMAND = 2000
_AS_JSON = ("-E", "-f", "-F", "json")


def jobs_command(ids: Sequence[str], *, with_history: bool) -> list[str]:
    """Return argv that prints jobs and arrays as JSON, also ended ones ``with_history`` (-x).

    With -E, qstat asks the server once for all of them. Without it, OpenPBS 23.06 prints only the first of several.
    """
    return ["qstat", *(["-x"] if with_history else []), *_AS_JSON, *ids]


class PbsJob(Struct):
    """The attributes of one job or task, of which PBS leaves out those without a value."""

    name: Any = field(name="Job_Name", default=None)
    owner: str = field(name="Job_Owner", default="")
    state: str = field(name="job_state", default="")
    substate: int | None = None
    hold_types: str = field(name="Hold_Types", default="")
    depend: Any = None
    queue: Any = None
    account: Any = field(name="Account_Name", default=None)
    created: str = field(name="ctime", default="")
    started: str = field(name="stime", default="")
    ended: str = field(name="obittime", default="")
    history_timestamp: int | None = field(name="history_timestamp", default=None)
    exit_status: int | None = field(name="Exit_status", default=None)
    comment: Any = None
    used: dict[str, Any] = field(name="resources_used", default_factory=dict)
    requested: dict[str, Any] = field(name="Resource_List", default_factory=dict)
    task_states: str = field(name="array_state_count", default="")
    index: int | None = field(name="array_index", default=None)
    output: Any = field(name="Output_Path", default=None)
    error: Any = field(name="Error_Path", default=None)
    join_path: Any = field(name="Join_Path", default="n")
    keep_files: Any = field(name="Keep_Files", default="n")
    variables: Any = field(name="Variable_List", default=None)


class Jobs(Struct):
    """The output of ``qstat -f -F json``."""

    jobs: dict[str, PbsJob] = field(name="Jobs", default_factory=dict)


def decode(text: str, form: type[T]) -> T:
    """Return a Struct from JSON that a command printed. Raises SchedulerUnavailable for output that was cut off."""
    try:
        return msgspec.json.decode(text, type=form)
    except msgspec.DecodeError as error:
        raise SchedulerUnavailable(f"PBS's output cannot be read: {error}") from error


def owner_of(job: PbsJob) -> str:
    """Return the owner's name, without the host on which the job was submitted."""
    return job.owner.rpartition("@")[0] or job.owner


def job_of(job_id: str, job: PbsJob) -> Job:
    """Return the job of qstat's attributes. ``job_id`` is qstat's key of the job."""
    now = int(time.time())
    status = STATUS.get(job.state)
    # A task that has not begun has the times and the exit status of its array.
    has_begun = job.index is not None or not _TASK.search(job_id)
    if job.state == "B":
        status = RUNNING if _RUNNING_TASKS.search(job.task_states) else QUEUED
    if status == QUEUED_HELD and job.substate == DEPENDENCY_HOLD_SUBSTATE and "u" not in job.hold_types:
        status = QUEUED
    # A task of a held array is in the state Q. With a dependency, the system's hold (s) lasts until it is met.
    if job.state == "Q" and set(job.hold_types) - set("ns" if job.depend else "n"):
        status = QUEUED_HELD
    started = ctime(job.started, now) if has_begun else None
    ended = (ctime(job.ended, now) or job.history_timestamp) if status == COMPLETED and has_begun else None
    used = duration(str(job.used.get("walltime", "")))
    if status == RUNNING and started is not None:
        # PBS updates the time used every two minutes.
        used = max(used or 0, now - started)
    outcome = None
    if status == COMPLETED:
        outcome = _outcome(job) if has_begun else "cancelled"
    comment = _text(job.comment)
    if comment == _SIBLING_DELETED and status != COMPLETED:
        comment = None
    # The scheduler's comment on a request that no host of the cluster can ever meet.
    can_never_start = status == QUEUED and (comment or "").startswith("Can Never Run")
    return Job(
        id=job_id,
        name=_text(job.name),
        owner=owner_of(job),
        status=status,
        native_state=job.state or None,
        native_reason=comment,
        outcome=outcome,
        exit_code=job.exit_status if outcome in ("succeeded", "failed") and (job.exit_status or 0) >= 0 else None,
        queue=_text(job.queue),
        account=_text(job.account),
        submitted_at=ctime(job.created, now),
        started_at=started,
        ended_at=ended,
        wallclock_time=used or 0,
        wallclock_limit=duration(str(job.requested.get("walltime", ""))),
        can_start=False if can_never_start else None,
        reason=comment if can_never_start else None,
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _outcome(job: PbsJob) -> str:
    status = job.exit_status
    # A job that never ran, also because of an impossible dependency; one that PBS ended by a signal; a deleted one.
    if status is None or status >= SIGNAL_EXIT_STATUS or job.substate == DELETED_SUBSTATE:
        return "cancelled"
    return LIMIT_OUTCOMES.get(status, "failed" if status else "succeeded")


def past_job(job_id: str, job: PbsJob) -> PastJob:
    """Return the ended job of qstat's attributes, with what it requested and used."""
    return PastJob(
        job_of(job_id, job),
        cpus=number(str(job.requested.get("ncpus", ""))),
        cpu_time=duration(str(job.used.get("cput", ""))),
        memory_used=size(str(job.used.get("mem", ""))),
        memory_requested=size(str(job.requested.get("mem", ""))),
    )
