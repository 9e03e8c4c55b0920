"""What LSF's bjobs and bhist print, and what it means. Pure functions.

Times are read as UTC, which the commands are told to print; most have no year.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.model import (
    COMPLETED,
    QUEUED,
    QUEUED_HELD,
    RUNNING,
    SUSPENDED,
    Job,
    OutputFiles,
    PastJob,
)
from pun_app.adapters.parse import ctime, number, size, utc_time_before

STATUS = {
    "PEND": QUEUED, "WAIT": QUEUED, "PSUSP": QUEUED_HELD, "PROV": QUEUED, "RUN": RUNNING, "USUSP": SUSPENDED,
    "SSUSP": SUSPENDED, "DONE": COMPLETED, "EXIT": COMPLETED,
}  # fmt: skip
"""Job states of bjobs(1) → the contract's status. Of UNKWN and ZOMBI LSF itself does not know what the job does."""

TERMINATIONS = {
    "OWNER": "cancelled", "FORCE_OWNER": "cancelled", "ADMIN": "cancelled", "FORCE_ADMIN": "cancelled",
    "REMOVE_HUNG_JOB": "cancelled", "ORPHAN_SYSTEM": "cancelled", "RUNLIMIT": "timed_out", "CPULIMIT": "timed_out",
    "DEADLINE": "timed_out", "WINDOW": "timed_out", "MEMLIMIT": "out_of_memory", "SWAP": "out_of_memory",
    "PREEMPT": "preempted", "LOAD": "preempted", "BUCKET_KILL": "preempted", "UNKNOWN": "failed",
}  # fmt: skip
"""``TERM_…``: why LSF ended a job (bacct(1), Termination reasons)."""

BY_SIGNAL, BY_RUNLIMIT = 128, 140
"""Above the first are the exit codes of jobs that a signal ended; the second is SIGUSR2, by which LSF ends a job at its
run limit. A script may end with them by itself."""

_SHORT = re.compile(r"(\d\d)/(\d\d)-(\d\d):(\d\d):(\d\d)")
_ROW = re.compile(
    r"(?P<JOBID>\d+) +(?P<USER>\S+) +(?P<STAT>[A-Z]+) +(?P<QUEUE>\S+) +\S+ +\S+ +(?P<JOB_NAME>.*?)"
    r" +(?P<SUBMIT_TIME>\d\d/\d\d-\d\d:\d\d:\d\d) +(?P<PROJ_NAME>\S+) +\d+:\d+:[-\d.]+ +\S+ +\S+ +\S+"
    r" +(?P<START_TIME>-|\d\d/\d\d-\d\d:\d\d:\d\d) +(?P<FINISH_TIME>-|\d\d/\d\d-\d\d:\d\d:\d\d)(?: [LEX])?(?: +\d+)? *"
)


def records(text: str) -> list[Job]:
    """The jobs of ``bjobs -json``; without those that it did not find."""
    try:
        found = json.loads(text, strict=False)["RECORDS"]
        return [_job(record) for record in found if "ERROR" not in record]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SchedulerUnavailable(f"LSF's answer cannot be read: {error}") from error


def table(text: str) -> list[Job]:
    """The jobs of ``bjobs -w -W``, whose names may hold blanks. What is no whole row is no job."""
    return [_job(row.groupdict()) for row in map(_ROW.fullmatch, text.splitlines()) if row]


def when(text: str, now: int) -> int | None:
    """Unix seconds of ``Nov 22 19:21``, ``Nov 22 19:21:07 2026`` or ``11/22-19:21:49``, with LSF's letter behind it."""
    text = re.sub(r" [LEX]$", "", text.strip())
    short = _SHORT.fullmatch(text)
    return utc_time_before(now, *(int(part) for part in short.groups())) if short else ctime(text, now)


def _job(record: dict[str, Any]) -> Job:
    now = int(time.time())
    given = {name: str(value).strip() for name, value in record.items() if value is not None and value != "-"}
    state, name = given.get("STAT", ""), given.get("JOB_NAME", "")
    index = number(given.get("JOBINDEX", "")) or _index(name)
    status = STATUS.get(state)
    started = when(given.get("START_TIME", ""), now) if status not in (QUEUED, QUEUED_HELD) else None
    ended = when(given.get("FINISH_TIME", ""), now) if status == COMPLETED else None
    limit = re.match(r"[\d.]+", given.get("RUNTIMELIMIT", ""))
    job = Job(
        id=f"{given.get('JOBID', '').partition('[')[0]}{f'[{index}]' if index else ''}",
        name=name or None,
        owner=given.get("USER"),
        status=status,
        native_state=state or None,
        native_reason=given.get("EXIT_REASON") or given.get("PEND_REASON") or None,
        queue=given.get("QUEUE"),
        account=given.get("PROJ_NAME"),
        submitted_at=when(given.get("SUBMIT_TIME", ""), now),
        started_at=started,
        ended_at=ended,
        wallclock_time=max(0, (ended or now) - started) if started is not None else 0,
        wallclock_limit=int(float(limit[0]) * 60) if limit else None,
    )
    job = _never_started(job)
    if state == "DONE" or (state == "EXIT" and ("EXIT_CODE" in record or "EXIT_REASON" in given)):
        return _ended(job, number(given.get("EXIT_CODE", "")), given.get("EXIT_REASON", ""))
    return job


def _index(name: str) -> int | None:
    """Of ``arr[7]``: brackets in a name are an element of an array."""
    found = re.search(r"\[(\d{1,9})\]$", name)
    return int(found[1]) if found else None


def _never_started(job: Job) -> Job:
    """A queued job with why it can never start, where LSF's reason says so."""
    if job.status != QUEUED or "invalid or never satisfied" not in (job.native_reason or ""):
        return job
    return msgspec.structs.replace(
        job, can_start=False, reason=f"It waits for a job that did not end as its dependency asks ({job.native_reason})"
    )


def _ended(job: Job, code: int | None, reason: str) -> Job:
    """A job with how it ended, by its exit code and LSF's own words."""
    if job.native_state == "DONE":
        return msgspec.structs.replace(job, outcome="succeeded", exit_code=0)
    term = re.search(r"TERM_(\w+)", reason)
    if term:
        outcome = TERMINATIONS.get(term[1], "failed")
    else:
        # Without a code it was killed before it began.
        outcome = "cancelled" if code is None else "timed_out" if _is_over_time(job, code) else "failed"
    return msgspec.structs.replace(job, outcome=outcome, exit_code=code if outcome == "failed" else None)


def _is_over_time(job: Job, code: int | None) -> bool:
    """Whether a job has the exit code of one that LSF ended for its run limit, and ran as long as that."""
    if code != BY_RUNLIMIT or job.wallclock_limit is None or job.started_at is None or job.ended_at is None:
        return False
    # Its time in seconds was rounded twice.
    return job.ended_at - job.started_at >= job.wallclock_limit - 2


@dataclass(frozen=True)
class Story:
    """What ``bjobs -UF -l`` and ``bhist -l`` tell of one job: its first line, and what happened to it."""

    id: str
    text: str

    def _given(self, name: str, ends: str) -> str | None:
        found = re.search(rf"(?:^|, ){name} <(.*?)>(?={ends})", self.text, re.S)
        return found[1] if found else None

    @property
    def name(self) -> str | None:
        return self._given("Job Name", ", User <")

    @property
    def user(self) -> str | None:
        return self._given("User", ", |\n|$")

    @property
    def queue(self) -> str | None:
        switched = re.findall(r"Switched to Queue <(\S+?)>", self.text)
        return switched[-1] if switched else self._given("Queue", ", ") or self._submitted_to()

    @property
    def project(self) -> str | None:
        return self._given("Project", ", ")

    @property
    def state(self) -> str | None:
        return self._given("Status", ", ")

    @property
    def description(self) -> str:
        return self._given("Job Description", "$|\n|, ") or ""

    @property
    def output(self) -> OutputFiles:
        """Where it goes, by the line of the submit; a relative path begins where bsub ran. %J, %I: bsub(1)."""
        number, _, index = self.id.rstrip("]").partition("[")
        folder = self._given("CWD", ", |;") or "$HOME"
        folder = re.sub(r"^\$HOME", lambda _: os.environ["HOME"], folder)
        paths = [self._given(rf"{name} File(?: \(overwrite\))?", ", |;") for name in ("Output", "Error")]
        out, error = (
            path and os.path.join(folder, path.replace("%J", number).replace("%I", index or "0")) for path in paths
        )
        return OutputFiles(out, error or out, at_end=True)

    def _submitted_to(self) -> str | None:
        found = re.search(r"Submitted from host <[^>]*>.*?, to Queue <(\S+?)>", self.text)
        return found[1] if found else None

    def at(self, pattern: str) -> int | None:
        """Unix seconds of the last event whose line has these words."""
        found = re.findall(
            rf"^(\w{{3}} \w{{3}} +\d+ \d\d:\d\d:\d\d(?: \d{{4}})?): [^\n]*?(?:{pattern})", self.text, re.M
        )
        return ctime(found[-1], int(time.time())) if found else None

    @property
    def submitted(self) -> int | None:
        return self.at("Submitted from")

    @property
    def started(self) -> int | None:
        return self.at(r"[Ss]tarted (?:\d+ Task|on <)|Starting \(")

    @property
    def ended(self) -> int | None:
        return self.at(r"Done successfully|Exited")

    @property
    def exit_code(self) -> int | None:
        found = re.search(r"Exited with exit code (\d+)", self.text)
        killed = re.search(r"Exited by signal (\d+)", self.text)
        return int(found[1]) if found else 128 + int(killed[1]) if killed else None

    @property
    def reason(self) -> str:
        """``TERM_…``, or why it waits."""
        found = re.search(r"(TERM_\w+[^\n]*)", self.text) or re.search(r"PENDING REASONS:\n\s*([^\n]+)", self.text)
        return found[1].strip().rstrip(".;") if found else ""

    @property
    def limit(self) -> int | None:
        found = re.search(r"RUNLIMIT\s*\n\s*([\d.]+) min", self.text)
        return int(float(found[1]) * 60) if found else None

    @property
    def memory(self) -> int | None:
        found = re.search(r"MAX MEM: ([\d.]+ ?[KMGT]?)(?:byte|B)", self.text)
        return size(found[1]) if found else None

    @property
    def cpu_time(self) -> int | None:
        found = re.search(r"CPU time used is ([\d.]+) sec", self.text)
        return int(float(found[1])) if found else None

    @property
    def cpus(self) -> int | None:
        found = re.search(r"(\d+) (?:Processors|Task\(s\))", self.text)
        return int(found[1]) if found else 1


def stories(text: str) -> Iterator[Story]:
    """Each job of a long answer."""
    # bhist breaks lines at 80 columns, in the middle of words.
    whole = re.sub(r"\n {21}(?! )", "", text)
    for part in re.split(r"(?m)^(?=Job <\d+(?:\[\d+\])?>, )", whole)[1:]:
        yield Story(part[5 : part.index(">")], part.rstrip("-\n ") + "\n")


def told(job: Job, story: Story) -> Job:
    """The job with what the long answer adds."""
    state = job.native_state or story.state
    status = STATUS.get(state or "")
    submitted = story.submitted or job.submitted_at
    started = story.started or job.started_at
    ended = (story.ended or job.ended_at) if status == COMPLETED else None
    more = msgspec.structs.replace(
        job,
        status=status,
        native_state=state,
        native_reason=story.reason or job.native_reason,
        account=job.account or story.project,
        submitted_at=submitted,
        started_at=started if status not in (QUEUED, QUEUED_HELD) else None,
        ended_at=ended,
        wallclock_limit=story.limit or job.wallclock_limit,
    )
    more = _never_started(more)
    return _ended(more, story.exit_code, story.reason) if status == COMPLETED and job.outcome is None else more


def past_job(story: Story, limits: Mapping[str, int | None] = MappingProxyType({})) -> PastJob:
    """A job that bhist tells of, with who ended it. ``limits`` are the queues', for a job without one of its own."""
    done = "Done successfully" in story.text
    started, ended = story.started, story.ended
    job = told(
        Job(
            id=story.id,
            name=story.name,
            owner=story.user,
            native_state="DONE" if done else "EXIT" if ended is not None else None,
            queue=story.queue,
            wallclock_time=max(0, ended - started) if started is not None and ended is not None else 0,
            wallclock_limit=limits.get(story.queue or ""),
        ),
        story,
    )
    if job.outcome == "failed" and re.search(r"Signal <(KILL|TERM|INT)> requested by user", story.text):
        job = msgspec.structs.replace(job, outcome="cancelled", exit_code=None)
    return PastJob(job, cpus=story.cpus, cpu_time=story.cpu_time, memory_used=story.memory)
