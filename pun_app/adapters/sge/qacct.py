"""qacct: Grid Engine's accounting records of jobs that have ended. Pure functions.

Tested with Son of Grid Engine 8.1.9, and with a record of Open Cluster Scheduler 9. Times are in UTC, as the commands
run with TZ=UTC.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from pun_app.adapters.model import COMPLETED, Job, PastJob
from pun_app.adapters.parse import clock, ctime, iso_time, number, size, utc_time, word
from pun_app.adapters.sge.qconf import parse_objects

FAILED_OVER_TIME = 37
"""``failed`` of a job that was ended at its h_rt or s_rt. sge_status(5)."""
FAILED_BY_SIGNAL = 100
"""``failed`` of a job that a signal ended. sge_status(5)."""
SIGKILL_EXIT_STATUS = 137
"""The exit status of a job that qdel or a limit ended."""

_FIELDS_OF_EVERY_RECORD = {"jobnumber", "failed", "exit_status", "end_time", "maxvmem"}
"""maxvmem is at the end: a record without it was cut off."""
_US_TIME = re.compile(r"(\d\d)/(\d\d)/(\d{4}) (\d\d):(\d\d):(\d\d)(?:\.\d+)?")


def accounting_command(user: str, selection: Sequence[str]) -> list[str]:
    """Return argv that prints a user's records. ``selection`` is options such as ``-j 7`` or ``-b TIME -j``."""
    return ["qacct", "-o", user, *selection]


def parse_records(text: str, user: str, task: str = "") -> list[PastJob]:
    """Return the user's jobs in the output of ``qacct -j``, one for each task that has ended.

    With ``task``, only records of this task are returned. A record that was cut off is left out.
    """
    complete_lines = text[: text.rfind("\n") + 1]
    return [
        _past_job(record)
        for record in parse_objects(complete_lines)
        if record.get("owner") == user
        and record.keys() >= _FIELDS_OF_EVERY_RECORD
        and task in ("", record.get("taskid"))
    ]


def parse_time(text: str, now: int) -> int | None:
    """Return Unix seconds of a time; None for other text.

    Each descendant of Grid Engine has its own form: ``Mon Nov 23 05:41:13 2026`` (Son of Grid Engine, and Univa before
    8.2), ``2026-11-23 05:41:13.123456`` (Open Cluster Scheduler 9) or ``11/23/2026 05:41:13.123`` (Altair).
    """
    us_time = _US_TIME.fullmatch(text.strip())
    if us_time:
        month, day, year, *clock_time = (int(part) for part in us_time.groups())
        return utc_time(year, month, day, *clock_time)
    return iso_time(text.strip().replace(" ", "T", 1)) or ctime(text, now)


def _past_job(record: dict[str, str]) -> PastJob:
    now = int(time.time())
    # Open Cluster Scheduler has no category, but the command line of the submit.
    request = record.get("category") or record.get("submit_cmd_line", "")
    requested = dict(pair.split("=", 1) for pair in re.findall(r"\b(?:h_rt|h_vmem)=[^ ,]+", request))
    slots = number(record.get("slots", "")) or 1
    used, memory_per_slot = size(record.get("maxvmem", "")), size(requested.get("h_vmem", ""))
    memory_limit = None if memory_per_slot is None else memory_per_slot * slots
    ran, time_limit = clock(record.get("ru_wallclock", "")), clock(requested.get("h_rt", ""))
    failed = number(record.get("failed", "").partition(" ")[0]) or 0
    status = number(record.get("exit_status", "").partition(" ")[0])
    deleted_by = record.get("deleted_by")
    if failed == FAILED_OVER_TIME or (
        failed == FAILED_BY_SIGNAL and time_limit is not None and ran is not None and ran >= time_limit
    ):
        outcome = "timed_out"
    elif failed == FAILED_BY_SIGNAL and memory_limit is not None and used is not None and used >= memory_limit:
        outcome = "out_of_memory"
    elif failed == FAILED_BY_SIGNAL and (
        (deleted_by is None and status == SIGKILL_EXIT_STATUS) or deleted_by not in (None, "", "NONE")
    ):
        # By qdel. Only descendants with deleted_by distinguish it from a job that killed itself.
        outcome = "cancelled"
    else:
        outcome = "succeeded" if not failed and status == 0 else "failed"
    job = Job(
        id=record["jobnumber"] + (f".{record['taskid']}" if number(record.get("taskid", "")) else ""),
        name=record.get("jobname"),
        owner=record["owner"],
        status=COMPLETED,
        native_state="z",
        native_reason=record["failed"] if failed else None,
        outcome=outcome,
        exit_code=status if outcome in ("succeeded", "failed") else None,
        queue=record.get("qname"),
        account=word(record.get("project", "").replace("NONE", "")),
        submitted_at=parse_time(record.get("qsub_time", ""), now),
        started_at=parse_time(record.get("start_time", ""), now),
        ended_at=parse_time(record.get("end_time", ""), now),
        wallclock_time=ran,
        wallclock_limit=time_limit,
    )
    return PastJob(
        job, cpus=slots, cpu_time=clock(record.get("cpu", "")), memory_used=used, memory_requested=memory_limit
    )
