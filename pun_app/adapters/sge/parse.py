"""What Grid Engine's qstat, qhost, qacct and qconf print, and what it means. Pure functions.

Seen with Son of Grid Engine 8.1.9. Times are read as UTC, which the commands are told to print.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import msgspec

from pun_app.adapters.markup import Element, document, text_of
from pun_app.adapters.model import (
    COMPLETED,
    QUEUED,
    QUEUED_HELD,
    RUNNING,
    SUSPENDED,
    ClusterInfo,
    Job,
    PastJob,
    Queue,
)
from pun_app.adapters.parse import clock, ctime, iso_time, number, size, utc_time, word

OVER_TIME = 37
"""``failed`` of a job that was ended for its h_rt or s_rt. sge_status(5)."""
KILLED = 100
"""``failed`` of a job that a signal ended."""
SIGKILL = 137
"""The exit status that qdel, and a limit, leave."""

PRODUCT = "Grid Engine"

IN_ERROR = (
    "Grid Engine could not start the job and does not try again: cancel it, and submit it without the cause, which "
    "native_reason names"
)
"""Why a job in the state E of qstat(1) cannot start. The state lasts until somebody clears it (qmod -cj)."""

_OF_EACH_RECORD = {"jobnumber", "failed", "exit_status", "end_time", "maxvmem"}
_AMERICAN = re.compile(r"(\d\d)/(\d\d)/(\d{4}) (\d\d):(\d\d):(\d\d)(?:\.\d+)?")
_YEAR_5138 = 100_000_000_000


def rows(text: str, task: str = "") -> dict[str, list[Job]]:
    """The jobs of ``qstat -xml -r``, by number: a row for each task that runs, one for all that wait.

    With ``task`` only the rows that it is in.
    """
    listed: dict[str, list[Job]] = {}
    for row in document(text, PRODUCT).iter("job_list"):
        if not task or _holds(text_of(row, "tasks"), int(task)):
            listed.setdefault(text_of(row, "JB_job_number"), []).append(_job(row))
    return listed


def _holds(tasks: str, task: int) -> bool:
    """Whether ``1-5:2,8`` has this task."""
    for part in tasks.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if found:
            first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
            if first <= task <= last and (task - first) % max(step, 1) == 0:
                return True
    return False


def _job(row: Element) -> Job:
    state = text_of(row, "state")
    status = _status(state, waits_for_jobs=row.find("predecessor_jobs") is not None)
    started = iso_time(text_of(row, "JAT_start_time"))
    limits = {request.get("name"): (request.text or "").strip() for request in row.iter("hard_request")}
    return Job(
        id=text_of(row, "JB_job_number"),
        # In this one place the XML has "%lt;" for "<".
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
        reason=IN_ERROR if "E" in state else None,
    )


def _status(state: str, *, waits_for_jobs: bool) -> str | None:
    """Of the letters of qstat(1): h held, q queued, w waits, r runs, t goes over, sSTN suspended, d deleted, R again,
    E in error, z ended."""
    if state == "z":
        return COMPLETED
    if "q" in state:
        return QUEUED_HELD if "h" in state and not waits_for_jobs else QUEUED
    if re.search("[sSTN]", state):
        return SUSPENDED
    return RUNNING if re.search("[rtd]", state) else None


def details(text: str, job: Job, task: str) -> Job:
    """The job with what ``qstat -xml -j`` adds; as it is where that knows it no more."""
    answer = document(text, PRODUCT)
    found = answer.find("djob_info/element")
    if found is None:
        return job
    tasks = [
        one
        for one in found.iter("ulong_sublist")
        if one.find("JAT_task_number") is not None and (not task or text_of(one, "JAT_task_number") == task)
    ]
    starts = [epoch(text_of(one, "JAT_start_time")) for one in tasks]
    # What went wrong at a start stands with the task, why the scheduler passes a job by with the answer as a whole.
    errors = [message for one in tasks for message in one.iter("QIM_message")] if job.can_start is False else []
    reasons = [(message.text or "").strip() for message in (*errors, *answer.iter("MES_message"))]
    started = min((start for start in starts if start), default=job.started_at)
    return msgspec.structs.replace(
        job,
        submitted_at=epoch(text_of(found, "JB_submission_time")),
        started_at=started,
        native_reason="; ".join(dict.fromkeys(reasons))[:1000] or None,
        account=word(text_of(found, "JB_project")),
    )


def has_submit_tag(text: str, submit_tag: str) -> bool:
    """Whether the context of a job (``qstat -xml -j``) has the submit tag."""
    return any(value.text == submit_tag for value in document(text, PRODUCT).iterfind(".//JB_context//VA_value"))


def objects(text: str) -> list[dict[str, str]]:
    """What qconf and qacct print: lines of a name and a value, long ones continued behind a backslash."""
    found: list[dict[str, str]] = [{}]
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.startswith("=====") or not line.strip():
            if found[-1]:
                found.append({})
            continue
        name, _, value = line.strip().partition(" ")
        found[-1].setdefault(name, value.strip())
    return found if found[-1] or len(found) == 1 else found[:-1]


def past_jobs(text: str, user: str, task: str = "") -> list[PastJob]:
    """The user's records in the answer of ``qacct -j``, without one that was cut off."""
    whole_lines = text[: text.rfind("\n") + 1]
    return [
        _past_job(record)
        for record in objects(whole_lines)
        if record.get("owner") == user and record.keys() >= _OF_EACH_RECORD and task in ("", record.get("taskid"))
    ]


def when(text: str, now: int) -> int | None:
    """Unix seconds of a time in the accounting file's answer, which each descendant of Grid Engine writes in its own
    form: ``Mon Nov 23 05:41:13 2026``, ``2026-11-23 05:41:13.123456``, or ``11/23/2026 05:41:13.123``.
    """
    american = _AMERICAN.fullmatch(text.strip())
    if american:
        month, day, year, *clock_time = (int(part) for part in american.groups())
        return utc_time(year, month, day, *clock_time)
    return iso_time(text.strip().replace(" ", "T", 1)) or ctime(text, now)


def epoch(text: str) -> int | None:
    """Unix seconds of a number of seconds, milliseconds or microseconds, as the descendant has it."""
    value = number(text)
    while value is not None and value >= _YEAR_5138:
        value //= 1000
    return value


def _past_job(record: dict[str, str]) -> PastJob:
    now = int(time.time())
    given = record.get("category") or record.get("submit_cmd_line", "")
    asked = dict(pair.split("=", 1) for pair in re.findall(r"\b(?:h_rt|h_vmem)=[^ ,]+", given))
    failed = number(record.get("failed", "").partition(" ")[0]) or 0
    status = number(record.get("exit_status", "").partition(" ")[0])
    ran, limit = clock(record.get("ru_wallclock", "")), clock(asked.get("h_rt", ""))
    slots = number(record.get("slots", "")) or 1
    deleted_by = record.get("deleted_by")
    used, allowed = size(record.get("maxvmem", "")), size(asked.get("h_vmem", ""))
    allowed = None if allowed is None else allowed * slots
    if failed == OVER_TIME or (failed == KILLED and limit is not None and ran is not None and ran >= limit):
        outcome = "timed_out"
    elif failed == KILLED and allowed is not None and used is not None and used >= allowed:
        outcome = "out_of_memory"
    elif failed == KILLED and ((deleted_by is None and status == SIGKILL) or deleted_by not in (None, "", "NONE")):
        # qdel. Only some descendants tell it from a job that killed itself.
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
        submitted_at=when(record.get("qsub_time", ""), now),
        started_at=when(record.get("start_time", ""), now),
        ended_at=when(record.get("end_time", ""), now),
        wallclock_time=ran,
        wallclock_limit=limit,
    )
    return PastJob(job, cpus=slots, cpu_time=clock(record.get("cpu", "")), memory_used=used, memory_requested=allowed)


def queues_of(instances: str, configured: str) -> list[Queue]:
    """The queues: what ``qstat -xml -f`` says of each host in each, and ``qconf -sq`` of their limits."""
    hosts: dict[str, list[Element]] = {}
    for instance in document(instances, PRODUCT).iter("Queue-List"):
        hosts.setdefault(text_of(instance, "name").partition("@")[0], []).append(instance)
    return [_queue(queue, hosts.get(queue["qname"], [])) for queue in objects(configured) if "qname" in queue]


def _queue(queue: dict[str, str], instances: list[Element]) -> Queue:
    states = [text_of(instance, "state") for instance in instances]
    # d disabled by hand, D by the calendar, u unreachable, E in error, o orphaned: none of them starts a job.
    up = [state for state in states if not re.search("[dDuEo]", state)]
    used = sum((number(text_of(instance, "slots_used")) or 0) > 0 for instance in instances)
    idle = sum(
        (number(text_of(instance, "slots_used")) or 0) == 0 and not re.search("[dDuEo]", text_of(instance, "state"))
        for instance in instances
    )
    return Queue(
        name=queue["qname"],
        state="up" if up or not instances else "down",
        native_state=",".join(sorted({state for state in states if state})) or None,
        time_limit=clock(queue.get("h_rt", "").partition(",")[0]),
        active_nodes=used,
        idle_nodes=idle,
        total_nodes=len(instances),
    )


def cluster_info(hosts: str, instances: str) -> ClusterInfo:
    """The sums over hosts: processors of ``qhost -xml``, slots in use of ``qstat -xml -f``."""
    used: dict[str, int] = {}
    for instance in document(instances, PRODUCT).iter("Queue-List"):
        host = text_of(instance, "name").partition("@")[2]
        used[host] = used.get(host, 0) + (number(text_of(instance, "slots_used")) or 0)
    processors = {
        host.get("name", ""): value
        for host in document(hosts, PRODUCT).iter("host")
        for value in _values(host, "num_proc")
    }
    return ClusterInfo(
        active_nodes=sum(slots > 0 for slots in used.values()),
        total_nodes=len(processors),
        active_processors=sum(used.values()),
        total_processors=sum(processors.values()),
    )


def _values(host: Element, name: str) -> Iterator[int]:
    for value in host.iter("hostvalue"):
        found = number(value.text or "") if value.get("name") == name else None
        if found is not None:
            yield found
