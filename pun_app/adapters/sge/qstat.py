"""qstat: Grid Engine's queued and running jobs, as XML. Pure functions.

Tested with Son of Grid Engine 8.1.9. Times are in UTC, as the commands run with TZ=UTC.
"""

from __future__ import annotations

import re
import time

import msgspec

from pun_app.adapters.markup import Element, document, text_of
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, RUNNING, SUSPENDED, Job
from pun_app.adapters.parse import clock, iso_time, number, word

PRODUCT = "Grid Engine"

ERROR_STATE_REASON = (
    "Grid Engine could not start the job and does not try again. Cancel the job, and submit it again once the cause in "
    "native_reason is removed."
)
"""The reason of a job in the state E of qstat(1), which lasts until somebody clears it (qmod -cj)."""

_MAX_REASON_CHARACTERS = 1000
_YEAR_5138 = 100_000_000_000
"""Unix seconds from here on are milliseconds or microseconds."""


def list_command(user: str, states: str) -> list[str]:
    """Return argv that lists a user's jobs in these states: p pending, r running, s suspended, z recently ended."""
    return ["qstat", "-xml", "-r", "-u", user, "-s", states]


def details_command(number: str) -> list[str]:
    """Return argv that prints all details of one job."""
    return ["qstat", "-xml", "-j", number]


def parse_rows(text: str, task: str = "") -> dict[str, list[Job]]:
    """Return the jobs of ``qstat -xml -r`` by number: one for each running task, and one for all pending tasks.

    With ``task``, only the rows that hold this task are returned.
    Raises SchedulerUnavailable for output that was cut off.
    """
    listed: dict[str, list[Job]] = {}
    for row in document(text, PRODUCT).iter("job_list"):
        if not task or _holds(text_of(row, "tasks"), int(task)):
            listed.setdefault(text_of(row, "JB_job_number"), []).append(_job(row))
    return listed


def _holds(tasks: str, task: int) -> bool:
    """Return whether a list of tasks such as ``1-5:2,8`` holds this one."""
    for part in tasks.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if found:
            first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
            if first <= task <= last and (task - first) % max(step, 1) == 0:
                return True
    return False


def _job(row: Element) -> Job:
    state = text_of(row, "state")
    status = _status(state, has_predecessors=row.find("predecessor_jobs") is not None)
    started = iso_time(text_of(row, "JAT_start_time"))
    limits = {request.get("name"): (request.text or "").strip() for request in row.iter("hard_request")}
    return Job(
        id=text_of(row, "JB_job_number"),
        # 8.1.9 writes "<" as "%lt;" in this element alone.
        name=(text_of(row, "full_job_name") or text_of(row, "JB_name")).replace("%lt;", "<"),
        owner=text_of(row, "JB_owner") or None,
        status=status,
        native_state=state or None,
        queue=text_of(row, "queue_name").partition("@")[0] or text_of(row, "hard_req_queue") or None,
        submitted_at=iso_time(text_of(row, "JB_submission_time")),
        started_at=started,
        wallclock_time=max(0, int(time.time()) - started) if started is not None else 0,
        wallclock_limit=clock(limits.get("h_rt", "")),
        can_start=False if "E" in state else None,
        reason=ERROR_STATE_REASON if "E" in state else None,
    )


def _status(state: str, *, has_predecessors: bool) -> str | None:
    """Return the status for the letters of qstat(1); None for unknown ones.

    The letters: h held, q queued, w waiting, r running, t transferring, s, S, T and N suspended, d deleted,
    R restarted, E error, z ended. Grid Engine also holds a job until its predecessors have ended.
    """
    if state == "z":
        return COMPLETED
    if "q" in state:
        return QUEUED_HELD if "h" in state and not has_predecessors else QUEUED
    if re.search("[sSTN]", state):
        return SUSPENDED
    return RUNNING if re.search("[rtd]", state) else None


def with_details(text: str, job: Job, task: str) -> Job:
    """Return a listed job with its project, times and reasons from ``qstat -xml -j``.

    A job that qstat no longer knows is returned unchanged. With ``task``, only this task's start and errors count.
    """
    output = document(text, PRODUCT)
    found = output.find("djob_info/element")
    if found is None:
        return job
    tasks = [
        one
        for one in found.iter("ulong_sublist")
        if one.find("JAT_task_number") is not None and (not task or text_of(one, "JAT_task_number") == task)
    ]
    starts = [epoch(text_of(one, "JAT_start_time")) for one in tasks]
    # The error of a failed start is an element of the task. The scheduler's reasons for a pending job are elsewhere.
    errors = [message for one in tasks for message in one.iter("QIM_message")] if job.can_start is False else []
    reasons = [(message.text or "").strip() for message in (*errors, *output.iter("MES_message"))]
    started = min((start for start in starts if start), default=job.started_at)
    return msgspec.structs.replace(
        job,
        submitted_at=epoch(text_of(found, "JB_submission_time")),
        started_at=started,
        native_reason="; ".join(dict.fromkeys(reasons))[:_MAX_REASON_CHARACTERS] or None,
        account=word(text_of(found, "JB_project")),
    )


def has_submit_tag(text: str, submit_tag: str) -> bool:
    """Return whether the context of a job (``qstat -xml -j``) holds the submit tag."""
    return any(value.text == submit_tag for value in document(text, PRODUCT).iterfind(".//JB_context//VA_value"))


def epoch(text: str) -> int | None:
    """Return Unix seconds of a number of seconds, milliseconds or microseconds.

    Son of Grid Engine prints seconds; other descendants of Grid Engine print parts of them.
    """
    value = number(text)
    while value is not None and value >= _YEAR_5138:
        value //= 1000
    return value
