"""The contract of every adapter. What a scheduler lacks stays unimplemented here and becomes a 501.

An adapter raises the errors of errors.py, decided where the scheduler's words are known: JobNotFound, Rejected,
Unsupported and SchedulerUnavailable. An unknown job is never "completed", and an unknown state is
``None`` beside its ``native_state``. Adapters know no HTTP and can be used from a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import msgspec

from pun_app.adapters.arrays import parse_array
from pun_app.adapters.directives import Directives, Requested, asked
from pun_app.adapters.errors import JobNotFound, Rejected, Unsupported
from pun_app.adapters.model import (
    DEPENDENCIES,
    Account,
    ClusterInfo,
    Job,
    JobRequest,
    OutputFiles,
    PastJob,
    Period,
    Queue,
    ValidationResult,
    merge_tasks,
)
from pun_app.adapters.native import Native

OPERATIONS = (
    "submit", "validate", "jobs", "job", "cancel", "hold", "release", "output", "history", "queues", "accounts", "info",
)  # fmt: skip
"""What an adapter may do: the methods below, each of which answers Unsupported until it is written."""


WITHOUT_OUTER_BLANKS = (
    "job_name", "queue_name", "accounting_id", "qos", "reservation", "output_path", "error_path",
)  # fmt: skip
"""The names and paths of a submit, which neither begin nor end with a blank."""


def id_sort_key(job_id: str) -> tuple[tuple[int, ...], str]:
    """The order of job ids in which they were given: by their numbers, not by their digits."""
    return tuple(int(number) for number in re.findall(r"\d+", job_id)), job_id


class Adapter:
    """One cluster's scheduler. ``job`` is the cluster file's mapping of that name."""

    job_id: ClassVar[re.Pattern[str]] = re.compile(r"[^\s/]{1,64}")
    """What the scheduler's job ids look like; nothing else gets near a command."""

    options: ClassVar[frozenset[str]] = frozenset()
    """Which of model.OPTIONS a submit may have."""

    directives: ClassVar[Directives | None] = None
    """What a script says to the command that submits; None where it says nothing."""
    wall_time_unit: ClassVar[int] = 1
    """Seconds to a multiple of which the scheduler rounds a wall time up."""
    native: ClassVar[Native | None] = None
    """How the command that submits reads options.native."""

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        self.cluster_id = cluster_id
        self.config = job

    def check_id(self, job_id: str) -> str:
        """The id, when it is of this scheduler's form. Raises JobNotFound."""
        if not self.is_id(job_id):
            raise JobNotFound()
        return job_id

    def is_id(self, job_id: str) -> bool:
        """Other scripts have digits too, which a pattern takes and no scheduler does."""
        return job_id.isascii() and bool(self.job_id.fullmatch(job_id))

    def check_options(self, request: JobRequest) -> None:
        """Raise Rejected for an option that this scheduler does not have, or whose value no scheduler should see.

        The first that every submit() does: an option is never dropped.
        """
        for name in request.asked():
            if name not in self.options:
                adapter = self.config.get("adapter")
                raise Rejected(
                    f"options.{name}: the {adapter} scheduler of cluster {self.cluster_id} has no such option"
                )
        for name in DEPENDENCIES:
            for job_id in getattr(request, name):
                if not self.is_id(job_id):
                    raise Rejected(f"options.{name}: {job_id} is no job id of cluster {self.cluster_id}")
        for name in WITHOUT_OUTER_BLANKS:
            value = getattr(request, name)
            if value is not None and value != value.strip():
                # Some schedulers keep such blanks, some drop them, and some answers cannot tell.
                raise Rejected(f"options.{name}: {value!r} begins or ends with a blank; leave it out")
        if request.array is not None:
            parse_array(request.array)
        if self.native is not None:
            self.native.check(request.native)

    def requested(self, request: JobRequest) -> Requested:
        """What a submit asks for in all, its wall time as the scheduler makes it."""
        known, unit = asked(request, self.directives), self.wall_time_unit
        return known if known.wall_time is None else replace(known, wall_time=-(-known.wall_time // unit) * unit)

    def submit(self, request: JobRequest) -> Job:
        """Submit; the job as far as it is known then. Raises Rejected when nothing was submitted."""
        raise self._unsupported("submit jobs")

    def validate(self, request: JobRequest) -> ValidationResult:
        """Ask whether the scheduler would take the job, and submit nothing. Raises Rejected where it would not."""
        raise self._unsupported("check a job without submitting it")

    def find_submitted(self, submit_tag: str) -> Job | None:
        """The job of a submit with that submit tag, alive or ended lately; None where there is none."""
        raise self._unsupported("look for a submit")

    def jobs(self) -> list[Job]:
        """The jobs of the user that this process is, those that ended lately among them."""
        raise self._unsupported("list jobs")

    def page(self, count: int, before: str | None) -> list[Job]:
        """The ``count`` jobs of the list with the latest ids, or the latest before that one, the latest first.

        An adapter that can do so reads them without keeping the others.
        """
        listed = sorted(self.jobs(), key=lambda job: id_sort_key(job.id), reverse=True)
        return [job for job in listed if before is None or id_sort_key(job.id) < id_sort_key(before)][:count]

    def job(self, job_id: str) -> Job:
        """One job of this user, alive or ended. Raises JobNotFound, also for another user's."""
        raise self._unsupported("show a job")

    def output(self, job_id: str) -> OutputFiles:
        """Return the paths of a job's output files.

        Raises JobNotFound, and Rejected for an array, whose tasks have files of their own.
        """
        raise self._unsupported("tell where the output of jobs is")

    def array_id(self, job_id: str) -> str:
        """The id of the array that a task in the list belongs to; the job's own, where it is no task."""
        return job_id

    def normalize_id(self, job_id: str) -> str:
        """One form for the ids of a job that may be written in several."""
        return job_id

    def select(self, jobs: list[Job], job_ids: Sequence[str]) -> dict[str, Job]:
        """Those of a list that were asked for, an array by its tasks too, by the ids as they were asked for."""
        found: dict[str, list[Job]] = {}
        for job in jobs:
            for name in {self.normalize_id(job.id), self.normalize_id(self.array_id(job.id))}:
                found.setdefault(name, []).append(job)
        return {
            job_id: self.merge(job_id, found[name])
            for job_id in job_ids
            if (name := self.normalize_id(job_id)) in found
        }

    def merge(self, job_id: str, jobs: list[Job]) -> Job:
        """The job that was asked for: itself, or an array's tasks in one, with the array's id where it has one task."""
        job, array = merge_tasks(job_id, jobs), self.array_id(jobs[0].id)
        is_array = self.normalize_id(job_id) == self.normalize_id(array) != self.normalize_id(jobs[0].id)
        return msgspec.structs.replace(job, id=array) if is_array else job

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Those of the user's jobs that are in no list any more, or only as part of a job, asked for all at once."""
        return {}

    def cancel(self, job_id: str) -> None:
        raise self._unsupported("cancel jobs")

    def hold(self, job_id: str) -> str | None:
        """Hold a queued job; its status then."""
        raise self._unsupported("hold jobs")

    def release(self, job_id: str) -> str | None:
        """Release a held job; its status then."""
        raise self._unsupported("release jobs")

    def history(self, period: Period) -> list[PastJob]:
        """The jobs of this user that ended in a period, in any order."""
        raise self._unsupported("tell of jobs that have ended")

    def queues(self) -> list[Queue]:
        """The queues that the caller may see."""
        raise self._unsupported("list queues")

    def accounts(self) -> list[Account]:
        """The accounts that the caller may charge."""
        raise self._unsupported("list accounts")

    def info(self) -> ClusterInfo:
        """How much of the cluster is in use."""
        raise self._unsupported("tell how much of it is in use")

    def program_names(self) -> list[str]:
        """The commands that it runs, by name, for ``punway check``."""
        return []

    def version(self) -> str | None:
        """The scheduler's version, as its commands report it; None where there is none to ask."""
        return None

    @classmethod
    def supports(cls, operation: str) -> bool:
        """Whether the adapter has one of OPERATIONS."""
        return getattr(cls, operation) is not getattr(Adapter, operation)

    def command_path(self, name: str) -> str:
        """Where one of them is. Raises SchedulerUnavailable when it is not found."""
        raise self._unsupported(f"run {name}")

    def array_output_error(self, job_id: str, example: str) -> Rejected:
        """What output() raises for an array."""
        return Rejected(f"Job {job_id} is an array; each of its tasks has output of its own: ask for {example}")

    def _unsupported(self, what: str) -> Unsupported:
        name = self.config.get("adapter")
        return Unsupported(f"The adapter {name} of cluster {self.cluster_id} cannot {what}")
