"""bjobs: the commands that list LSF's jobs, and the JSON and the wide table that they print. Pure functions.

Fields and states are those of bjobs(1) of LSF 10.1. The wide table is that of LSF 8 and 9 and of volclava 2.2.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.lsf.states import STATUS, with_outcome, with_unmet_dependency
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, Job
from pun_app.adapters.parse import ctime, number, utc_time_before


class Row(NamedTuple):
    """A job in a list, with LSF's own names of the fields. None is a field that this LSF lacks, "" an empty one."""

    jobid: str | None = None
    jobindex: str | None = None
    stat: str | None = None
    user: str | None = None
    queue: str | None = None
    job_name: str | None = None
    proj_name: str | None = None
    submit_time: str | None = None
    start_time: str | None = None
    finish_time: str | None = None
    exit_code: str | None = None
    exit_reason: str | None = None
    pend_reason: str | None = None
    runtimelimit: str | None = None
    job_description: str | None = None


FIELDS = Row._fields
"""The fields that bjobs -o is asked for. Where this LSF lacks some of them, the adapter asks for a job's details."""

UNKNOWN_FIELD_EXIT_CODE = 99
"""bjobs' exit code for a field that it does not know."""

_SHORT_TIME = re.compile(r"(\d\d)/(\d\d)-(\d\d):(\d\d):(\d\d)")
_TABLE_ROW = re.compile(
    r"(?P<jobid>\d+) +(?P<user>\S+) +(?P<stat>[A-Z]+) +(?P<queue>\S+) +\S+ +\S+ +(?P<job_name>.*?)"
    r" +(?P<submit_time>\d\d/\d\d-\d\d:\d\d:\d\d) +(?P<proj_name>\S+) +\d+:\d+:[-\d.]+ +\S+ +\S+ +\S+"
    r" +(?P<start_time>-|\d\d/\d\d-\d\d:\d\d:\d\d) +(?P<finish_time>-|\d\d/\d\d-\d\d:\d\d:\d\d)(?: [LEX])?(?: +\d+)? *"
)


def json_command(fields: Sequence[str], selection: Sequence[str]) -> list[str]:
    """Return argv that prints these fields as JSON. ``selection`` is job ids, or options such as ``-u alice``."""
    return ["bjobs", "-json", "-o", " ".join(fields), *selection]


def table_command(selection: Sequence[str]) -> list[str]:
    """Return argv that prints the wide table, for an LSF whose bjobs has no -json."""
    return ["bjobs", "-w", "-W", *selection]


def details_command(selection: Sequence[str]) -> list[str]:
    """Return argv that prints all details of jobs in the long format (long_format.py), without broken lines (-UF)."""
    return ["bjobs", "-UF", "-l", *selection]


def parse_json(text: str) -> list[Job]:
    """Return the jobs of ``bjobs -json``, without the records of jobs that it did not find.

    Raises SchedulerUnavailable for output that was cut off or has another form.
    """
    try:
        # Not strict: a job's name may hold control characters, which bjobs does not escape.
        records = json.loads(text, strict=False)["RECORDS"]
        return [_job(_row(record)) for record in records if "ERROR" not in record]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SchedulerUnavailable(f"LSF's output cannot be read: {error}") from error


def parse_table(text: str) -> list[Job]:
    """Return the jobs of ``bjobs -w -W``, whose names may hold blanks. A row that was cut off is left out."""
    return [_job(_row(row.groupdict())) for row in map(_TABLE_ROW.fullmatch, text.splitlines()) if row]


def parse_time(text: str, now: int) -> int | None:
    """Return Unix seconds of ``Nov 22 19:21``, ``Nov 22 19:21:07 2026`` or ``11/22-19:21:49``; None for other text.

    A letter may follow the time: L, E and X tell how LSF knows it. The times are in UTC, as the commands run with
    TZ=UTC, and a missing year is that of the latest such time before ``now``.
    """
    text = re.sub(r" [LEX]$", "", text.strip())
    short = _SHORT_TIME.fullmatch(text)
    return utc_time_before(now, *(int(part) for part in short.groups())) if short else ctime(text, now)


def _row(record: Mapping[str, Any]) -> Row:
    """Return the row of a JSON record, whose keys are the fields in capitals, or of a row of the table."""
    given = {name.lower(): value for name, value in record.items()}
    known = {
        name: "" if given[name] is None or given[name] == "-" else str(given[name]).strip()
        for name in FIELDS
        if name in given
    }
    return Row(**known)


def _job(row: Row) -> Job:
    now = int(time.time())
    status = STATUS.get(row.stat or "")
    index = number(row.jobindex or "") or _array_index(row.job_name or "")
    started = parse_time(row.start_time or "", now) if status not in (QUEUED, QUEUED_HELD) else None
    ended = parse_time(row.finish_time or "", now) if status == COMPLETED else None
    limit_minutes = re.match(r"[\d.]+", row.runtimelimit or "")
    job = Job(
        id=f"{(row.jobid or '').partition('[')[0]}{f'[{index}]' if index else ''}",
        name=row.job_name or None,
        owner=row.user or None,
        status=status,
        native_state=row.stat or None,
        native_reason=row.exit_reason or row.pend_reason or None,
        queue=row.queue or None,
        account=row.proj_name or None,
        submitted_at=parse_time(row.submit_time or "", now),
        started_at=started,
        ended_at=ended,
        wallclock_time=max(0, (ended or now) - started) if started is not None else 0,
        wallclock_limit=int(float(limit_minutes[0]) * 60) if limit_minutes else None,
    )
    job = with_unmet_dependency(job)
    if row.stat == "DONE" or (row.stat == "EXIT" and (row.exit_code is not None or row.exit_reason)):
        return with_outcome(job, number(row.exit_code or ""), row.exit_reason or "")
    return job


def _array_index(name: str) -> int | None:
    """Return the index of ``arr[7]``. In LSF, brackets in a job's name always mean an element of an array."""
    found = re.search(r"\[(\d{1,9})\]$", name)
    return int(found[1]) if found else None
