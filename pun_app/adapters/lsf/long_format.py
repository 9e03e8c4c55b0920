"""The long format of ``bjobs -UF -l`` and ``bhist -l``: one job's first line, followed by its events. Pure functions.

As LSF 10.1 documents it and volclava 2.2 prints it. Times are in UTC, as the commands run with TZ=UTC; most have no
year.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from pun_app.adapters.lsf.states import STATUS, with_outcome, with_unmet_dependency
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, Job
from pun_app.adapters.parse import ctime, size

_SIGNAL_BASE = 128
"""A shell's exit code for a command that a signal ended is this plus the signal's number."""


@dataclass(frozen=True)
class LongRecord:
    """A job in the long format. ``text`` is its first line and its events, with broken lines joined."""

    id: str
    text: str

    def field(self, name: str, followed_by: str) -> str | None:
        """Return the value of ``name <value>`` in the text.

        ``name`` and ``followed_by`` are regular expressions. ``followed_by`` matches what comes after the value, as the
        value itself may hold ``>``.
        """
        found = re.search(rf"(?:^|, ){name} <(.*?)>(?={followed_by})", self.text, re.S)
        return found[1] if found else None

    @property
    def name(self) -> str | None:
        return self.field("Job Name", ", User <")

    @property
    def user(self) -> str | None:
        return self.field("User", ", |\n|$")

    @property
    def queue(self) -> str | None:
        """The queue that the job was last switched to, or else the one it was submitted to."""
        switched = re.findall(r"Switched to Queue <(\S+?)>", self.text)
        return switched[-1] if switched else self.field("Queue", ", ") or self._submit_queue()

    @property
    def project(self) -> str | None:
        return self.field("Project", ", ")

    @property
    def state(self) -> str | None:
        return self.field("Status", ", ")

    @property
    def description(self) -> str:
        return self.field("Job Description", "$|\n|, ") or ""

    def _submit_queue(self) -> str | None:
        found = re.search(r"Submitted from host <[^>]*>.*?, to Queue <(\S+?)>", self.text)
        return found[1] if found else None

    def event_time(self, pattern: str) -> int | None:
        """Return Unix seconds of the last event whose line matches a regular expression."""
        found = re.findall(
            rf"^(\w{{3}} \w{{3}} +\d+ \d\d:\d\d:\d\d(?: \d{{4}})?): [^\n]*?(?:{pattern})", self.text, re.M
        )
        return ctime(found[-1], int(time.time())) if found else None

    @property
    def submitted_at(self) -> int | None:
        return self.event_time("Submitted from")

    @property
    def started_at(self) -> int | None:
        return self.event_time(r"[Ss]tarted (?:\d+ Task|on <)|Starting \(")

    @property
    def ended_at(self) -> int | None:
        return self.event_time(r"Done successfully|Exited")

    @property
    def exit_code(self) -> int | None:
        found = re.search(r"Exited with exit code (\d+)", self.text)
        killed = re.search(r"Exited by signal (\d+)", self.text)
        return int(found[1]) if found else _SIGNAL_BASE + int(killed[1]) if killed else None

    @property
    def reason(self) -> str:
        """``TERM_…`` and its explanation, or the reason for which the job is pending; "" for neither."""
        found = re.search(r"(TERM_\w+[^\n]*)", self.text) or re.search(r"PENDING REASONS:\n\s*([^\n]+)", self.text)
        return found[1].strip().rstrip(".;") if found else ""

    @property
    def run_limit_s(self) -> int | None:
        found = re.search(r"RUNLIMIT\s*\n\s*([\d.]+) min", self.text)
        return int(float(found[1]) * 60) if found else None

    @property
    def memory_bytes(self) -> int | None:
        found = re.search(r"MAX MEM: ([\d.]+ ?[KMGT]?)(?:byte|B)", self.text)
        return size(found[1]) if found else None

    @property
    def cpu_time_s(self) -> int | None:
        found = re.search(r"CPU time used is ([\d.]+) sec", self.text)
        return int(float(found[1])) if found else None

    @property
    def cpus(self) -> int | None:
        """The job's processors. The long format names them only where there are several."""
        found = re.search(r"(\d+) (?:Processors|Task\(s\))", self.text)
        return int(found[1]) if found else 1


def parse_long_format(text: str) -> Iterator[LongRecord]:
    """Yield the record of each job."""
    # bhist breaks lines at 80 columns, in the middle of words, and indents the rest by 21 blanks.
    joined = re.sub(r"\n {21}(?! )", "", text)
    for part in re.split(r"(?m)^(?=Job <\d+(?:\[\d+\])?>, )", joined)[1:]:
        yield LongRecord(part[5 : part.index(">")], part.rstrip("-\n ") + "\n")


def job_of(record: LongRecord) -> Job:
    """Return the job of a record alone."""
    return with_details(Job(id=record.id, name=record.name, owner=record.user, queue=record.queue), record)


def with_details(job: Job, record: LongRecord) -> Job:
    """Return a listed job with the details of its record: its times, its reason, its limit and how it ended."""
    state = job.native_state or record.state
    status = STATUS.get(state or "")
    started = record.started_at or job.started_at
    ended = (record.ended_at or job.ended_at) if status == COMPLETED else None
    detailed = msgspec.structs.replace(
        job,
        status=status,
        native_state=state,
        native_reason=record.reason or job.native_reason,
        account=job.account or record.project,
        submitted_at=record.submitted_at or job.submitted_at,
        started_at=started if status not in (QUEUED, QUEUED_HELD) else None,
        ended_at=ended,
        wallclock_limit=record.run_limit_s or job.wallclock_limit,
    )
    detailed = with_unmet_dependency(detailed)
    if status == COMPLETED and job.outcome is None:
        return with_outcome(detailed, record.exit_code, record.reason)
    return detailed
