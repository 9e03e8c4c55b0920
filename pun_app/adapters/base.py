"""The contract of an adapter: the methods that the app calls, for any scheduler.

A method that an adapter does not override raises Unsupported, which the API reports as 501. An adapter raises only the
errors of errors.py. It never reports an unknown job as completed. For a state that it does not know, it returns a
``status`` of None together with the ``native_state``. Adapters do not use HTTP, so they work at a Python prompt too.
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
"""The operations of an adapter: methods that raise Unsupported until an adapter overrides them."""


WITHOUT_OUTER_BLANKS = (
    "job_name", "queue_name", "accounting_id", "qos", "reservation", "output_path", "error_path",
)  # fmt: skip
"""Fields of a JobRequest whose values must not begin or end with a blank."""


def id_sort_key(job_id: str) -> tuple[tuple[int, ...], str]:
    """Return a sort key that orders job ids by their numbers: ``9`` before ``10``."""
    return tuple(int(number) for number in re.findall(r"\d+", job_id)), job_id


class Adapter:
    """The base class of adapters. An adapter uses one cluster's scheduler as the user who runs the process.

    ``job`` is the ``job`` mapping of the cluster file.

    Arrays: the scheduler has an id for an array and one for each task, such as ``7`` and ``7_2`` in Slurm. A list
    contains either each task or the whole array as one job. job() accepts both ids. For an array it returns all tasks
    as one job (model.merge_tasks()) with the array's id. A change with an array's id changes all of its tasks. A change
    with a task's id changes that task alone, or raises Rejected if the scheduler can only change whole arrays.
    """

    job_id: ClassVar[re.Pattern[str]] = re.compile(r"[^\s/]{1,64}")
    """The form of a job id. Only matching ids are passed to commands, so it must not match an option of a command."""
    options: ClassVar[frozenset[str]] = frozenset()
    """The options (of model.OPTIONS) that submit() supports. The others are rejected by name."""
    directives: ClassVar[Directives | None] = None
    """The syntax of directives in a script; None if the scheduler reads none."""
    wall_time_unit: ClassVar[int] = 1
    """Seconds. The scheduler rounds a wall time up to a multiple of this."""
    native: ClassVar[Native | None] = None
    """How the submit command parses options.native, and which of its options are rejected."""

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        self.cluster_id = cluster_id
        self.config = job

    def check_id(self, job_id: str) -> str:
        """Return the id. Raises JobNotFound if it does not have the form of this scheduler's ids."""
        if not self.is_id(job_id):
            raise JobNotFound()
        return job_id

    def is_id(self, job_id: str) -> bool:
        """Return True if the text has the form of this scheduler's job ids."""
        # The check for ASCII is needed since \d matches the digits of other scripts too.
        return job_id.isascii() and bool(self.job_id.fullmatch(job_id))

    def check_options(self, request: JobRequest) -> None:
        """Raise Rejected, with the option's name, for an option that this scheduler lacks or for a malformed value.

        submit() and validate() call this first, so no option is silently ignored.
        """
        for name in request.asked():
            if name not in self.options:
                adapter = self.config.get("adapter")
                raise Rejected(
                    f"options.{name}: the {adapter} scheduler of cluster {self.cluster_id} does not have this option; "
                    "omit it"
                )
        for name in DEPENDENCIES:
            for job_id in getattr(request, name):
                if not self.is_id(job_id):
                    raise Rejected(f"options.{name}: {job_id} is not a job id of cluster {self.cluster_id}")
        for name in WITHOUT_OUTER_BLANKS:
            value = getattr(request, name)
            if value is not None and value != value.strip():
                # Some schedulers keep such blanks, others remove them, and the output of some is then ambiguous.
                raise Rejected(f"options.{name}: {value!r} begins or ends with a blank; remove it")
        if request.array is not None:
            parse_array(request.array)
        if self.native is not None:
            self.native.check(request.native)

    def requested(self, request: JobRequest) -> Requested:
        """Return what script, options and native options request together, with the wall time as the scheduler rounds
        it."""
        known, unit = asked(request, self.directives), self.wall_time_unit
        return known if known.wall_time is None else replace(known, wall_time=-(-known.wall_time // unit) * unit)

    def submit(self, request: JobRequest) -> Job:
        """Submit a job, and return what is known about it at that moment.

        Raises Rejected if the scheduler does not accept the job, and NotSent if the request did not reach the
        scheduler. In both cases no job was created. Any other SchedulerUnavailable means that a job may exist.
        """
        raise self._unsupported("submit jobs")

    def validate(self, request: JobRequest) -> ValidationResult:
        """Check a job without submitting it. Raises Rejected if the scheduler would not accept it."""
        raise self._unsupported("check a job without submitting it")

    def find_submitted(self, submit_tag: str) -> Job | None:
        """Return the unfinished or recently ended job with a submit tag; None if there is none.

        All tasks of an array have the tag of its submit. If several jobs have it, then the submit command or a client
        repeated the submit. The first job is kept, the others are cancelled, and ``Job.reason`` reports it.
        """
        raise self._unsupported("find a job by its submit tag")

    def jobs(self) -> list[Job]:
        """Return the user's own jobs in any order, including those ended jobs that the scheduler still lists."""
        raise self._unsupported("list jobs")

    def page(self, count: int, before: str | None) -> list[Job]:
        """Return up to ``count`` jobs with the latest ids, in descending order.

        With ``before``, return only jobs with ids before that one. An adapter may override this method to avoid holding
        the whole list in memory.
        """
        listed = sorted(self.jobs(), key=lambda job: id_sort_key(job.id), reverse=True)
        return [job for job in listed if before is None or id_sort_key(job.id) < id_sort_key(before)][:count]

    def job(self, job_id: str) -> Job:
        """Return one of the user's jobs, unfinished or ended.

        ``Job.id`` is the requested id, or its full form (PBS adds the server). For an array it is the array's id, even
        if only one task is left. Raises JobNotFound, also for another user's job.
        """
        raise self._unsupported("show a job")

    def output(self, job_id: str) -> OutputFiles:
        """Return the paths of a job's output files.

        Raises JobNotFound, and Rejected for an array, since each task has its own files (array_output_error()).
        """
        raise self._unsupported("find the output files of jobs")

    def array_id(self, job_id: str) -> str:
        """Return the id of the array of a listed task; for any other job, its own id."""
        return job_id

    def normalize_id(self, job_id: str) -> str:
        """Return the canonical form of an id that has several forms, such as with or without the server."""
        return job_id

    def select(self, jobs: list[Job], job_ids: Sequence[str]) -> dict[str, Job]:
        """Return the requested jobs in a list, by the requested ids. An array is found by its tasks too."""
        found: dict[str, list[Job]] = {}
        for job in jobs:
            for name in {self.normalize_id(job.id), self.normalize_id(self.array_id(job.id))}:
                found.setdefault(name, []).append(job)
        names = {job_id: self.normalize_id(job_id) for job_id in job_ids}
        return {job_id: self.merge(job_id, found[name]) for job_id, name in names.items() if name in found}

    def merge(self, job_id: str, jobs: list[Job]) -> Job:
        """Return a single job itself, or the tasks of an array as one job. ``job_id`` is the requested id.

        If the array of that id has only one task, the result still has the array's id.
        """
        job, array = merge_tasks(job_id, jobs), self.array_id(jobs[0].id)
        is_array = self.normalize_id(job_id) == self.normalize_id(array) != self.normalize_id(jobs[0].id)
        return msgspec.structs.replace(job, id=array) if is_array else job

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Return jobs of the user that jobs() omits, by id: ended jobs, or single tasks of a listed array.

        An adapter should use one query for all ids. The result has no entry for an unknown id.
        """
        return {}

    def cancel(self, job_id: str) -> None:
        """Cancel a job, an array or a task. Raises JobNotFound, and Rejected if it has already ended."""
        raise self._unsupported("cancel jobs")

    def hold(self, job_id: str) -> str | None:
        """Hold a queued job, and return its new status. Raises JobNotFound, and Rejected if it is not queued."""
        raise self._unsupported("hold jobs")

    def release(self, job_id: str) -> str | None:
        """Release a held job, and return its new status. Raises JobNotFound, and Rejected if it has ended."""
        raise self._unsupported("release jobs")

    def history(self, period: Period) -> list[PastJob]:
        """Return the user's ended jobs that pass the filter ``period``, in any order.

        Raises Unsupported if the site has no accounting.
        """
        raise self._unsupported("list ended jobs")

    def queues(self) -> list[Queue]:
        """Return the queues that the user may see."""
        raise self._unsupported("list queues")

    def accounts(self) -> list[Account]:
        """Return the accounts that the user may charge; an empty list if the site does not charge for jobs."""
        raise self._unsupported("list accounts")

    def info(self) -> ClusterInfo:
        """Return the cluster's nodes, processors and GPUs: how many there are, and how many are in use."""
        raise self._unsupported("report the load of the cluster")

    def program_names(self) -> list[str]:
        """Return the names of the commands that the adapter runs. ``punway check`` looks for them."""
        return []

    def version(self) -> str | None:
        """Return the scheduler's version; None if it is unknown."""
        return None

    @classmethod
    def supports(cls, operation: str) -> bool:
        """Return True if the adapter overrides an operation, one of OPERATIONS."""
        return getattr(cls, operation) is not getattr(Adapter, operation)

    def command_path(self, name: str) -> str:
        """Return the path of a command. Raises CommandNotRun if it is not found."""
        raise self._unsupported(f"run {name}")

    def array_output_error(self, job_id: str, example: str) -> Rejected:
        """Return the error that output() raises for an array. ``example`` is the id of one of its tasks."""
        return Rejected(
            f"Job {job_id} is an array, and each task has its own output; ask for a task, such as {example}"
        )

    def _unsupported(self, operation: str) -> Unsupported:
        name = self.config.get("adapter")
        return Unsupported(f"The adapter {name} of cluster {self.cluster_id} cannot {operation}")
