"""HTCondor's ClassAds of jobs, slots and schedds, and what they mean. Pure functions.

By HTCondor's manual, Job ClassAd Attributes.
"""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec
from msgspec import Struct, field

from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, Job, OutputFiles, PastJob

STATUS = {1: QUEUED, 2: RUNNING, 3: RUNNING, 4: COMPLETED, 5: QUEUED_HELD, 6: RUNNING, 7: SUSPENDED}
"""JobStatus (HTCondor manual, Job ClassAd Attributes) → the contract's status: 3 is a job on its way out of the queue,
which is still there, and 6 one that sends its output."""
NAMES = {1: "IDLE", 2: "RUNNING", 3: "REMOVED", 4: "COMPLETED", 5: "HELD", 6: "TRANSFERRING_OUTPUT", 7: "SUSPENDED"}
REMOVED = 3
OVER_TIME = 47
"""HoldReasonCode of a job that ran longer than its allowed_execute_duration."""


class Ad(Struct):
    """A job's ClassAd, as far as it is read."""

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


class Slot(Struct):
    machine: str = field(name="Machine", default="")
    state: str = field(name="State", default="")
    cpus: int = field(name="Cpus", default=0)
    gpus: Any = field(name="Gpus", default=0)


class Schedd(Struct):
    name: str = field(name="Name", default="")


ATTRIBUTES = ",".join(part.encode_name for part in msgspec.structs.fields(Ad))


def job_of(ad: Ad, *, has_left: bool) -> Job:
    """One proc. ``has_left`` is true of an ad of condor_history: a job that is being removed is in the queue still."""
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
        native_state=NAMES.get(ad.status, str(ad.status)),
        native_reason=str(reason) if reason else None,
        outcome=outcome,
        exit_code=code,
        account=None if ad.account is None else str(ad.account),
        submitted_at=ad.submitted,
        started_at=started,
        # Of a job that was removed the first is 0.
        ended_at=(ad.completed or ad.entered) if status == COMPLETED else None,
        wallclock_time=wall,
        wallclock_limit=whole(ad.limit),
    )


def output_files(ad: Ad) -> OutputFiles:
    """Without a path, or with /dev/null, the stream goes nowhere."""
    paths = [os.path.join(str(ad.workdir or "/"), str(path)) if path else None for path in (ad.output, ad.error)]
    out, error = (None if path == os.devnull else path for path in paths)
    return OutputFiles(out, error, at_end=True)


def _outcome(ad: Ad) -> tuple[str, int | None]:
    if ad.status == REMOVED:
        return ("timed_out" if OVER_TIME in (ad.hold_code, ad.held_before) else "cancelled"), None
    if ad.by_signal is True:
        return "failed", 128 + (ad.signal or 0)
    return ("succeeded" if ad.code == 0 else "failed"), ad.code


def past_job(ad: Ad) -> PastJob:
    memory = whole(ad.memory)
    used = whole(ad.used_memory)
    return PastJob(
        job_of(ad, has_left=True),
        cpus=whole(ad.cpus),
        cpu_time=None if ad.used_cpu is None else int(ad.used_cpu + (ad.used_system or 0)),
        # KiB, and MiB.
        memory_used=None if used is None else used * 1024,
        memory_requested=None if memory is None else memory * 1024**2,
    )


def whole(value: Any) -> int | None:
    """A number; None for an expression, which JSON has as text."""
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
