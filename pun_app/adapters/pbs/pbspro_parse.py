"""What PBS's qstat and pbsnodes print as JSON, and what it means.

Seen with OpenPBS 23.06. Values outside of what is read here are guessed at by PBS itself ("007" becomes 7), so that
names are taken as whatever they are.
"""

from __future__ import annotations

import re
import time
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, ClusterInfo, Job, PastJob, Queue
from pun_app.adapters.parse import ctime, duration, number, size

STATUS = {
    "Q": QUEUED, "W": QUEUED, "T": QUEUED, "H": QUEUED_HELD, "R": RUNNING, "E": RUNNING, "S": SUSPENDED, "U": SUSPENDED,
    "F": COMPLETED, "X": COMPLETED,
}  # fmt: skip
"""Job states of qstat(1B) → the contract's status. B, an array that has begun, is as its tasks are; M (moved to
another server) is not known here any more."""

WAITS_FOR_JOBS = 22
"""The substate of a job that PBS holds until its dependencies are met: nobody held it, and nobody can release it."""

LIMITS = {-29: "timed_out", -28: "timed_out", -27: "out_of_memory", -26: "out_of_memory"}
"""Exit_status of a job that PBS ended for its walltime, cput, mem or vmem (pbs_error.h)."""

_TASK = re.compile(r"\[\d+\]")
_RUNNING_TASKS = re.compile(r"Running:[1-9]|Exiting:[1-9]")

_OF_A_SIBLING = "Subjob finished"
"""The comment of an array, and of each task that waits, once one of the others was deleted."""

T = TypeVar("T")


class JobAnswer(Struct):
    name: Any = field(name="Job_Name", default=None)
    owner: str = field(name="Job_Owner", default="")
    state: str = field(name="job_state", default="")
    substate: int | None = None
    holds: str = field(name="Hold_Types", default="")
    depend: Any = None
    queue: Any = None
    account: Any = field(name="Account_Name", default=None)
    created: str = field(name="ctime", default="")
    started: str = field(name="stime", default="")
    ended: str = field(name="obittime", default="")
    recorded: int | None = field(name="history_timestamp", default=None)
    exit_status: int | None = field(name="Exit_status", default=None)
    comment: Any = None
    used: dict[str, Any] = field(name="resources_used", default_factory=dict)
    asked: dict[str, Any] = field(name="Resource_List", default_factory=dict)
    task_states: str = field(name="array_state_count", default="")
    index: int | None = field(name="array_index", default=None)
    output: Any = field(name="Output_Path", default=None)
    error: Any = field(name="Error_Path", default=None)
    joined: Any = field(name="Join_Path", default="n")
    kept: Any = field(name="Keep_Files", default="n")
    variables: Any = field(name="Variable_List", default=None)


class Jobs(Struct):
    jobs: dict[str, JobAnswer] = field(name="Jobs", default_factory=dict)


class Server(Struct):
    default_queue: str = ""


class Servers(Struct):
    servers: dict[str, Server] = field(name="Server", default_factory=dict)


class QueueAnswer(Struct):
    enabled: str = "False"
    started: str = "False"
    most: dict[str, Any] = field(name="resources_max", default_factory=dict)
    default: dict[str, Any] = field(name="resources_default", default_factory=dict)
    users_listed: str = field(name="acl_user_enable", default="False")
    users: Any = field(name="acl_users", default="")


class Queues(Struct):
    queues: dict[str, QueueAnswer] = field(name="Queue", default_factory=dict)


class Node(Struct):
    state: str = ""
    jobs: Any = None
    has: dict[str, Any] = field(name="resources_available", default_factory=dict)
    gives: dict[str, Any] = field(name="resources_assigned", default_factory=dict)


class Nodes(Struct):
    nodes: dict[str, Node] = {}


def read(text: str, form: type[T]) -> T:
    """Raises SchedulerUnavailable for an answer that was cut off, or is none."""
    try:
        return msgspec.json.decode(text, type=form)
    except msgspec.DecodeError as error:
        raise SchedulerUnavailable(f"PBS's answer cannot be read: {error}") from error


def user_of(job: JobAnswer) -> str:
    """Without the host that the job was submitted on."""
    return job.owner.rpartition("@")[0] or job.owner


def job_of(job_id: str, job: JobAnswer) -> Job:
    now = int(time.time())
    status = STATUS.get(job.state)
    # Of a task that has not begun PBS tells the times and the exit status of its array.
    has_begun = job.index is not None or not _TASK.search(job_id)
    if job.state == "B":
        status = RUNNING if _RUNNING_TASKS.search(job.task_states) else QUEUED
    if status == QUEUED_HELD and job.substate == WAITS_FOR_JOBS and "u" not in job.holds:
        status = QUEUED
    # A task of a held array is Q all the same. With a dependency the system's hold is the one that waits for it.
    if job.state == "Q" and set(job.holds) - set("ns" if job.depend else "n"):
        status = QUEUED_HELD
    started = ctime(job.started, now) if has_begun else None
    ended = (ctime(job.ended, now) or job.recorded) if status == COMPLETED and has_begun else None
    used = duration(str(job.used.get("walltime", "")))
    if status == RUNNING and started is not None:
        # PBS learns of the time used every other minute.
        used = max(used or 0, now - started)
    outcome = None
    if status == COMPLETED:
        outcome = _outcome(job) if has_begun else "cancelled"
    comment = None if job.comment is None else str(job.comment)
    if comment == _OF_A_SIBLING and status != COMPLETED:
        comment = None
    # The scheduler's own words for what no host of the cluster is large enough for.
    never = status == QUEUED and (comment or "").startswith("Can Never Run")
    return Job(
        id=job_id,
        name=None if job.name is None else str(job.name),
        owner=user_of(job),
        status=status,
        native_state=job.state or None,
        native_reason=comment,
        outcome=outcome,
        exit_code=job.exit_status if outcome in ("succeeded", "failed") and (job.exit_status or 0) >= 0 else None,
        queue=None if job.queue is None else str(job.queue),
        account=None if job.account is None else str(job.account),
        submitted_at=ctime(job.created, now),
        started_at=started,
        ended_at=ended,
        wallclock_time=used or 0,
        wallclock_limit=duration(str(job.asked.get("walltime", ""))),
        can_start=False if never else None,
        reason=comment if never else None,
    )


def _outcome(job: JobAnswer) -> str:
    status = job.exit_status
    if status is None or status >= 256 or job.substate == 91:
        # It never ran (an impossible dependency, too); PBS itself ended it by a signal; or it was deleted.
        return "cancelled"
    return LIMITS.get(status, "failed" if status else "succeeded")


def past_job(job_id: str, job: JobAnswer) -> PastJob:
    return PastJob(
        job_of(job_id, job),
        cpus=number(str(job.asked.get("ncpus", ""))),
        cpu_time=duration(str(job.used.get("cput", ""))),
        memory_used=size(str(job.used.get("mem", ""))),
        memory_requested=size(str(job.asked.get("mem", ""))),
    )


def queue_of(name: str, queue: QueueAnswer, default: bool) -> Queue:
    takes, starts = queue.enabled == "True", queue.started == "True"
    state = {(True, True): "up", (True, False): "down", (False, True): "draining"}.get((takes, starts), "inactive")
    return Queue(
        name=name,
        state=state,
        native_state=f"enabled={queue.enabled} started={queue.started}",
        default=default,
        time_limit=duration(str(queue.most.get("walltime", ""))),
        default_time_limit=duration(str(queue.default.get("walltime", ""))),
    )


def admits(queue: QueueAnswer, user: str) -> bool:
    """Whether the queue's list of users, where it has one, has this one: ``+alice@*,-bob,carol``."""
    if queue.users_listed != "True":
        return True
    for entry in str(queue.users).split(","):
        name = entry.strip().lstrip("+-").partition("@")[0]
        if name in (user, "*", ""):
            return not entry.strip().startswith("-")
    return False


def cluster_info(nodes: list[Node]) -> ClusterInfo:
    def total(values: list[dict[str, Any]], name: str) -> int:
        return sum(number(str(of.get(name, ""))) or 0 for of in values)

    has, gives = [node.has for node in nodes], [node.gives for node in nodes]
    return ClusterInfo(
        active_nodes=sum(bool(node.jobs) or total([node.gives], "ncpus") > 0 for node in nodes),
        total_nodes=len(nodes),
        active_processors=total(gives, "ncpus"),
        total_processors=total(has, "ncpus"),
        active_gpus=total(gives, "ngpus"),
        total_gpus=total(has, "ngpus"),
    )
