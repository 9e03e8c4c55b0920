"""condor_q and condor_history: HTCondor's jobs as ClassAds, and what their attributes mean. Pure functions.

Attributes are those of the HTCondor manual (25.x), Job ClassAd Attributes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, Job, PastJob

STATUS = {1: QUEUED, 2: RUNNING, 3: RUNNING, 4: COMPLETED, 5: QUEUED_HELD, 6: RUNNING, 7: SUSPENDED}
"""JobStatus → the contract's status. 3 is a job that is being removed and is still in the queue."""
STATUS_NAMES = {
    1: "IDLE",
    2: "RUNNING",
    3: "REMOVED",
    4: "COMPLETED",
    5: "HELD",
    6: "TRANSFERRING_OUTPUT",
    7: "SUSPENDED",
}
REMOVED = 3
OVER_TIME = 47
"""HoldReasonCode of a job that ran longer than its allowed_execute_duration."""


class Ad(Struct):
    """The attributes of one proc, the ones that condor_q and condor_history are asked for."""

    cluster: int = field(name="ClusterId", default=0)
    proc: int = field(name="ProcId", default=0)
    owner: str = field(name="Owner", default="")
    status: int = field(name="JobStatus", default=0)
    name: Any = field(name="JobBatchName", default=None)
    submitted: int | None = field(name="QDate", default=None)
    started: int | None = field(name="JobCurrentStartDate", default=None)
    completed: int | None = field(name="CompletionDate", default=None)
    entered: int | None = field(name="EnteredCurrentStatus", default=None)
    wall: float | None = field(name="RemoteWallClockTime", default=None)
    limit: Any = field(name="AllowedExecuteDuration", default=None)
    code: int | None = field(name="ExitCode", default=None)
    by_signal: Any = field(name="ExitBySignal", default=False)
    signal: int | None = field(name="ExitSignal", default=None)
    hold_code: int | None = field(name="HoldReasonCode", default=None)
    held_before: int | None = field(name="LastHoldReasonCode", default=None)
    hold_reason: Any = field(name="HoldReason", default=None)
    remove_reason: Any = field(name="RemoveReason", default=None)
    account: Any = field(name="AcctGroup", default=None)
    cpus: Any = field(name="RequestCpus", default=None)
    memory: Any = field(name="RequestMemory", default=None)
    used_cpu: float | None = field(name="RemoteUserCpu", default=None)
    used_system: float | None = field(name="RemoteSysCpu", default=None)
    workdir: Any = field(name="Iwd", default=None)
    output: Any = field(name="Out", default=None)
    error: Any = field(name="Err", default=None)
    used_memory: Any = field(name="ResidentSetSize_RAW", default=None)


ATTRIBUTES = ",".join(part.encode_name for part in msgspec.structs.fields(Ad))
"""The value of the option -attributes, with which HTCondor prints no others."""

T = TypeVar("T")


def queue_command(selection: Sequence[str]) -> list[str]:
    """Return argv that prints the ads of queued and running jobs. ``selection`` is a user, job ids, or options."""
    return ["condor_q", *selection, "-json", "-attributes", ATTRIBUTES]


def history_command(selection: Sequence[str]) -> list[str]:
    """Return argv that prints the ads of jobs that have left the queue, the latest first."""
    return ["condor_history", *selection, "-json", "-attributes", ATTRIBUTES]


def decode(text: str, form: type[T]) -> list[T]:
    """Return ads, of which there are none where HTCondor prints nothing.

    Raises SchedulerUnavailable for output that was cut off or is not JSON.
    """
    try:
        return msgspec.json.decode(text, type=list[form]) if text.strip() else []  # type: ignore[valid-type]
    except msgspec.DecodeError as error:
        raise SchedulerUnavailable(f"HTCondor's output cannot be read: {error}") from error


def job_of(ad: Ad, *, has_left: bool) -> Job:
    """Return the job of one proc.

    ``has_left`` tells that the ad is from condor_history. The status 3 alone does not: a job that is being removed is
    still in the queue.
    """
    status = COMPLETED if has_left else STATUS.get(ad.status)
    started = ad.started if status not in (QUEUED, QUEUED_HELD) else None
    wall = int(ad.wall or 0)
    if status == RUNNING and started is not None:
        wall = max(0, int(time.time()) - started)
    outcome, code = _outcome(ad) if status == COMPLETED else (None, None)
    reason = ad.remove_reason or ad.hold_reason
    return Job(
        id=f"{ad.cluster}.{ad.proc}",
        name=None if ad.name is None else str(ad.name),
        owner=ad.owner,
        status=status,
        native_state=STATUS_NAMES.get(ad.status, str(ad.status)),
        native_reason=str(reason) if reason else None,
        outcome=outcome,
        exit_code=code,
        account=None if ad.account is None else str(ad.account),
        submitted_at=ad.submitted,
        started_at=started,
        # CompletionDate of a removed job is 0.
        ended_at=(ad.completed or ad.entered) if status == COMPLETED else None,
        wallclock_time=wall,
        wallclock_limit=as_int(ad.limit),
    )


def _outcome(ad: Ad) -> tuple[str, int | None]:
    """Return the outcome and the exit code of a proc that has left the queue."""
    if ad.status == REMOVED:
        return ("timed_out" if OVER_TIME in (ad.hold_code, ad.held_before) else "cancelled"), None
    if ad.by_signal is True:
        return "failed", 128 + (ad.signal or 0)  # As a shell does.
    return ("succeeded" if ad.code == 0 else "failed"), ad.code


def past_job(ad: Ad) -> PastJob:
    """Return the job of one proc that has left the queue, with what it requested and used."""
    requested_mib, used_kib = as_int(ad.memory), as_int(ad.used_memory)
    return PastJob(
        job_of(ad, has_left=True),
        cpus=as_int(ad.cpus),
        cpu_time=None if ad.used_cpu is None else int(ad.used_cpu + (ad.used_system or 0)),
        memory_used=None if used_kib is None else used_kib * 1024,
        memory_requested=None if requested_mib is None else requested_mib * 1024**2,
    )


def as_int(value: Any) -> int | None:
    """Return a number; None for an expression, which is text in the JSON."""
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
