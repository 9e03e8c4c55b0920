"""The data that adapters take and return, such as Job and JobRequest. Times are Unix seconds, durations seconds."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated

import msgspec
from msgspec import Meta

QUEUED = "queued"
QUEUED_HELD = "queued_held"
RUNNING = "running"
SUSPENDED = "suspended"
COMPLETED = "completed"

STATUS_PRECEDENCE = (None, COMPLETED, QUEUED_HELD, QUEUED, RUNNING, SUSPENDED)
"""The statuses in ascending precedence, as in OOD. The status of an array is the highest status of its tasks."""


@dataclass(frozen=True)
class JobRequest:
    """A job to submit. ``None`` leaves a choice to the scheduler.

    ``wall_time`` is in seconds. ``memory`` (MiB) and ``gpus`` are per node, ``cores`` is for all nodes together.
    ``array`` is written as in arrays.py: ``0-9``, ``1,3,5-7:2`` or ``1-100%10``. ``after``, ``afterok``, ``afternotok``
    and ``afterany`` are ids of jobs that must first have started, succeeded, failed or ended. The scheduler sends a
    message to ``email`` when the job ends or fails. ``native`` has further words for the submit command. ``submit_tag``
    is stored with the job, so that the job can be found if the output of the submit command is lost.
    """

    content: str
    workdir: str
    job_name: str | None = None
    queue_name: str | None = None
    accounting_id: str | None = None
    wall_time: int | None = None
    output_path: str | None = None
    error_path: str | None = None
    array: str | None = None
    after: tuple[str, ...] = ()
    afterok: tuple[str, ...] = ()
    afternotok: tuple[str, ...] = ()
    afterany: tuple[str, ...] = ()
    nodes: int | None = None
    cores: int | None = None
    memory: int | None = None
    gpus: int | None = None
    qos: str | None = None
    reservation: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    hold: bool = False
    email: str | None = None
    native: tuple[str, ...] = ()
    submit_tag: str = field(default_factory=lambda: f"punway:{secrets.token_hex(8)}")

    def asked(self) -> list[str]:
        """Return the names of the options that the request sets, in the order of OPTIONS."""
        return [name for name in OPTIONS if getattr(self, name) not in (None, (), {}, False)]


OPTIONS = tuple(f.name for f in fields(JobRequest) if f.name not in ("content", "workdir", "submit_tag"))
"""The options of a submit. An adapter supports an option or rejects it by name. It never ignores one."""

DEPENDENCIES = ("after", "afterok", "afternotok", "afterany")


class Job(msgspec.Struct, frozen=True, gc=False):
    """A job, or a task of an array. A value that the scheduler does not report is None.

    ``status`` is one of the five statuses above, and ``native_state`` the scheduler's own word. ``outcome`` is one of
    OUTCOMES once the job has ended. ``can_start`` is False for a queued job that the scheduler cannot start until
    somebody changes the job or its limits; ``reason`` is then a sentence that says why. ``reason`` also reports that a
    submit created several jobs. Otherwise both are None.

    A list may have ten thousand jobs, so this is a Struct. The garbage collector can skip it, since it cannot be part
    of a reference cycle.
    """

    id: str
    name: str | None = None
    owner: str | None = None
    status: str | None = None
    native_state: str | None = None
    native_reason: str | None = None
    outcome: str | None = None
    exit_code: int | None = None
    queue: str | None = None
    account: str | None = None
    submitted_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    wallclock_time: int | None = None
    wallclock_limit: int | None = None
    can_start: bool | None = None
    reason: str | None = None


def merge_tasks(job_id: str, jobs: list[Job]) -> Job:
    """Return a single job itself, or the tasks of an array as one job with the id ``job_id``."""
    if len(jobs) == 1:
        return jobs[0]
    leading = max(jobs, key=lambda job: STATUS_PRECEDENCE.index(job.status))
    first = jobs[0]
    ended = [job for job in jobs if job.status == COMPLETED]
    outcome = exit_code = ended_at = None
    queued = [job for job in jobs if job.status in (QUEUED, QUEUED_HELD)]
    # An array is stuck only if no task is running and no queued task can start.
    is_stuck = bool(queued) and len(queued) + len(ended) == len(jobs) and all(job.can_start is False for job in queued)
    if len(ended) == len(jobs):
        failed = [job for job in ended if job.outcome != "succeeded"]
        outcome = (failed or ended)[0].outcome
        exit_code = max((job.exit_code for job in ended if job.exit_code is not None), default=None)
        ended_at = max((job.ended_at for job in ended if job.ended_at is not None), default=None)
    return Job(
        id=job_id,
        name=first.name,
        owner=first.owner,
        status=leading.status,
        native_state=leading.native_state,
        native_reason=leading.native_reason,
        outcome=outcome,
        exit_code=exit_code,
        queue=first.queue,
        account=first.account,
        submitted_at=first.submitted_at,
        started_at=min((job.started_at for job in jobs if job.started_at is not None), default=None),
        ended_at=ended_at,
        wallclock_time=max((job.wallclock_time or 0 for job in jobs), default=None),
        wallclock_limit=first.wallclock_limit,
        can_start=False if is_stuck else None,
        reason=queued[0].reason if is_stuck else None,
    )


class OutputFiles(msgspec.Struct, frozen=True):
    """The absolute paths of a job's standard output and standard error; None for a path that is unknown.

    Both paths are the same if the streams share a file. ``at_end`` is True if the scheduler creates the files only
    after the job has ended.
    """

    stdout: str | None
    stderr: str | None
    at_end: bool = False


class PastJob(msgspec.Struct, frozen=True):
    """An ended job with its usage. A value that the scheduler does not record is None.

    ``cpus`` is the number of allocated processors, and ``cpu_time`` the processor seconds that the job used.
    ``memory_used`` and ``memory_requested`` are bytes on all of its nodes together.
    """

    job: Job
    cpus: int | None = None
    cpu_time: int | None = None
    memory_used: int | None = None
    memory_requested: int | None = None

    @property
    def cpu_efficiency(self) -> float | None:
        """Return the used share of the processor time, from 0 to 1, or slightly more if clocks are inexact."""
        return _share(self.cpu_time, (self.cpus or 0) * (self.job.wallclock_time or 0))

    @property
    def memory_efficiency(self) -> float | None:
        """Return the peak share of the requested memory that the job used: from 0 to 1, or above if it used more."""
        return _share(self.memory_used, self.memory_requested)


def _share(used: int | None, of: int | None) -> float | None:
    return round(used / of, 3) if used is not None and of else None


@dataclass(frozen=True)
class ValidationResult:
    """The scheduler's report on an acceptable job: its expected start in Unix seconds, and a message."""

    starts_at: int | None = None
    message: str | None = None


OUTCOMES = ("succeeded", "failed", "cancelled", "timed_out", "out_of_memory", "node_failed", "preempted")
"""The possible outcomes of an ended job."""


@dataclass(frozen=True)
class Period:
    """A filter for ended jobs: those that ended from ``start`` until before ``end`` (Unix seconds) with an outcome in
    ``outcomes``."""

    start: int
    end: int
    outcomes: tuple[str, ...] = OUTCOMES

    def holds(self, job: Job) -> bool:
        """Return True for a job that passes the filter. A job whose end is unknown does not pass."""
        ended = job.ended_at
        return ended is not None and self.start <= ended < self.end and job.outcome in self.outcomes


class Queue(msgspec.Struct, frozen=True):
    """A queue (Slurm: partition), as adapters return it and as the API publishes it with these descriptions."""

    name: Annotated[str, Meta(description="The queue's name, which a submit takes as `queue_name`.")]
    state: Annotated[
        str | None,
        Meta(
            description="`up`, `down` (accepts jobs, starts none), `draining` (starts queued jobs, accepts none) or "
            "`inactive`; null if unknown."
        ),
    ] = None
    native_state: Annotated[str | None, Meta(description="The scheduler's own word for the state.")] = None
    default: Annotated[bool, Meta(description="Whether jobs go here if they name no queue.")] = False
    time_limit: Annotated[
        int | None, Meta(description="The longest wall time in seconds; null if unlimited or unknown.")
    ] = None
    default_time_limit: Annotated[
        int | None, Meta(description="The default wall time in seconds; null if unknown.")
    ] = None
    active_nodes: Annotated[int | None, Meta(description="Nodes in use.")] = None
    idle_nodes: Annotated[int | None, Meta(description="Idle nodes.")] = None
    total_nodes: Annotated[int | None, Meta(description="All nodes.")] = None
    allow_accounts: Annotated[
        list[str] | None, Meta(description="Accounts that may use the queue; null if all may.")
    ] = None
    deny_accounts: Annotated[list[str], Meta(description="Accounts that may not use the queue.")] = []
    allow_qos: Annotated[list[str] | None, Meta(description="QOS that may use the queue; null if all may.")] = None
    deny_qos: Annotated[list[str], Meta(description="QOS that may not use the queue.")] = []
    tres: Annotated[
        dict[str, str],
        Meta(description='Total of each resource, as the scheduler writes it, such as `{"cpu": "64"}`.'),
    ] = {}


class Account(msgspec.Struct, frozen=True):
    """An account that the user may charge. The minutes are processor minutes of all users of the account together."""

    name: str
    default: bool = False
    qos: list[str] = []
    default_qos: str | None = None
    cpu_minutes_limit: int | None = None
    cpu_minutes_used: int | None = None
    cpu_minutes_left: int | None = None


class ClusterInfo(msgspec.Struct, frozen=True):
    """The load of a cluster, as adapters return it and as the API publishes it with these descriptions."""

    active_nodes: Annotated[int | None, Meta(description="Nodes in use; null if unknown.")] = None
    total_nodes: Annotated[int | None, Meta(description="All nodes; null if unknown.")] = None
    active_processors: Annotated[int | None, Meta(description="Processors in use; null if unknown.")] = None
    total_processors: Annotated[int | None, Meta(description="All processors; null if unknown.")] = None
    active_gpus: Annotated[int | None, Meta(description="GPUs in use; null if unknown.")] = None
    total_gpus: Annotated[int | None, Meta(description="All GPUs; null if unknown.")] = None
