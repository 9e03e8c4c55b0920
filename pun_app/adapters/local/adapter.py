"""The adapter ``local``: the embedded scheduler of the demo and of single machines.

Jobs are processes of the user, each in a session of its own. The queue is on disk, so that it outlives the PUN. Key in
the cluster file: ``slots``, the number of jobs that run at once (default: the number of processors).
"""

from __future__ import annotations

import os
import pwd
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pun_app.adapters import model
from pun_app.adapters.base import Adapter
from pun_app.adapters.command import start_detached
from pun_app.adapters.errors import JobNotFound, Rejected, SchedulerUnavailable
from pun_app.adapters.local.queue import DONE, HELD, QUEUED, RUNNING, LocalJob, LocalQueue
from pun_app.adapters.model import (
    COMPLETED,
    Account,
    ClusterInfo,
    Job,
    JobRequest,
    OutputFiles,
    PastJob,
    Period,
    Queue,
    ValidationResult,
)
from pun_app.adapters.script import is_one_path
from pun_app.expiring_files import folder_of_user

STATUS = {QUEUED: model.QUEUED, HELD: model.QUEUED_HELD, RUNNING: model.RUNNING, DONE: COMPLETED}
QUEUE_NAME = "local"


class LocalAdapter(Adapter):
    """The jobs of one user on this machine."""

    job_id = re.compile(r"[1-9]\d{0,9}")
    options = frozenset({"job_name", "queue_name", "wall_time", "output_path", "error_path", "hold"})

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        super().__init__(cluster_id, job)
        self._user = pwd.getpwuid(os.geteuid()).pw_name
        self._queue = LocalQueue(folder_of_user() / "local" / cluster_id)
        slots = job.get("slots", os.cpu_count() or 1)
        if type(slots) is not int or slots < 1:
            raise SchedulerUnavailable(
                f"The cluster's configuration is wrong: job.slots must be a whole number of at least 1, not {slots!r}"
            )
        self._slots = slots

    def validate(self, request: JobRequest) -> ValidationResult:
        self._check(request)
        waiting = [job for job in self.jobs() if job.status in (model.QUEUED, model.RUNNING)]
        return ValidationResult(int(time.time()) if len(waiting) < self._slots and not request.hold else None)

    def _check(self, request: JobRequest) -> None:
        self.check_options(request)
        if not request.content.startswith("#!"):
            raise Rejected("script.content: This does not look like a batch script. Begin its first line with #!")
        if request.queue_name not in (None, QUEUE_NAME):
            raise Rejected(
                f"options.queue_name: Unknown queue {request.queue_name}. The only queue of the local scheduler is "
                f"{QUEUE_NAME}; omit the option."
            )

    def submit(self, request: JobRequest) -> Job:
        self._check(request)

        def queued(number: int) -> LocalJob:
            output = _path(request, request.output_path or "punway-%j.out", number)
            return LocalJob(
                id=number,
                name=request.job_name or "job",
                workdir=request.workdir,
                output=output,
                # A file that is opened twice would lose what one stream writes over the other.
                error=_path(request, request.error_path, number)
                if request.error_path and not is_one_path(request)
                else output,
                wall_time=request.wall_time,
                state=HELD if request.hold else QUEUED,
                submitted_at=int(time.time()),
                submit_tag=request.submit_tag,
            )

        with _disk():
            job = self._queue.add(request.content, queued)
            self._ensure_runner()
        return self._job(job)

    def find_submitted(self, submit_tag: str) -> Job | None:
        with _disk():
            return next((self._job(job) for job in self._queue.jobs() if job.submit_tag == submit_tag), None)

    def jobs(self) -> list[Job]:
        with _disk():
            jobs = self._queue.jobs()
            if any(job.state in (QUEUED, RUNNING) for job in jobs):
                self._ensure_runner()
        return [self._job(job) for job in jobs]

    def job(self, job_id: str) -> Job:
        with _disk():
            job = self._find(job_id)
            if job.state in (QUEUED, RUNNING):
                self._ensure_runner()
        return self._job(job)

    def cancel(self, job_id: str) -> None:
        with _disk(), self._queue.locked():
            job = self._find(job_id)
            if job.state == DONE:
                raise Rejected(f"Job {job_id} has already completed ({job.outcome})")
            if job.state == RUNNING:
                self._queue.put(replace(job, end="cancelled"))  # The runner ends the job.
            else:
                self._queue.put(replace(job, state=DONE, ended_at=int(time.time()), outcome="cancelled"))
        self._ensure_runner()

    def hold(self, job_id: str) -> str | None:
        with _disk(), self._queue.locked():
            job = self._find(job_id)
            if job.state not in (QUEUED, HELD):
                raise Rejected(f"Job {job_id} is {STATUS[job.state]}; only a queued job can be held")
            self._queue.put(replace(job, state=HELD))
        return model.QUEUED_HELD

    def release(self, job_id: str) -> str | None:
        with _disk(), self._queue.locked():
            job = self._find(job_id)
            if job.state == DONE:
                raise Rejected(f"Job {job_id} has already completed ({job.outcome})")
            if job.state != HELD:
                return STATUS[job.state]
            self._queue.put(replace(job, state=QUEUED))
        self._ensure_runner()
        return model.QUEUED

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        found = {}
        for job_id in job_ids:
            try:
                found[job_id] = self.job(job_id)
            except JobNotFound:
                continue
        return found

    def output(self, job_id: str) -> OutputFiles:
        with _disk():
            job = self._find(job_id)
        return OutputFiles(job.output, job.error)

    def history(self, period: Period) -> list[PastJob]:
        return [PastJob(job) for job in self.jobs() if period.holds(job)]

    def queues(self) -> list[Queue]:
        """Return the only queue."""
        in_use = any(job.status == model.RUNNING for job in self.jobs())
        return [
            Queue(
                QUEUE_NAME,
                state="up",
                native_state="up",
                default=True,
                active_nodes=int(in_use),
                idle_nodes=int(not in_use),
                total_nodes=1,
                tres={"slots": str(self._slots)},
            )
        ]

    def accounts(self) -> list[Account]:
        """Return an empty list, as nothing is charged."""
        return []

    def info(self) -> ClusterInfo:
        """Return the use of the machine, on which each job takes one slot."""
        running = sum(job.status == model.RUNNING for job in self.jobs())
        return ClusterInfo(
            active_nodes=int(running > 0), total_nodes=1, active_processors=running, total_processors=self._slots
        )

    def _find(self, job_id: str) -> LocalJob:
        job = self._queue.get(int(self.check_id(job_id)))
        if job is None:
            raise JobNotFound()
        return job

    def _ensure_runner(self) -> None:
        """Start a runner unless one is running."""
        # A starting runner takes the same lock, so neither mistakes the other for a running runner.
        with self._queue.locked():
            runner_lock = self._queue.runner_lock()
            if runner_lock is None:
                return
            os.close(runner_lock)
        runner = [sys.executable, "-I", "-m", "pun_app.adapters.local.runner"]
        start_detached([*runner, str(self._queue.folder), str(self._slots)])

    def _job(self, job: LocalJob) -> Job:
        until = job.ended_at or int(time.time())
        return Job(
            id=str(job.id),
            name=job.name,
            owner=self._user,
            status=STATUS[job.state],
            native_state=job.state,
            native_reason=job.end if job.outcome == "failed" else None,
            outcome=job.outcome,
            exit_code=job.exit_code if job.outcome in ("succeeded", "failed") else None,
            queue=QUEUE_NAME,
            submitted_at=job.submitted_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
            wallclock_time=until - job.started_at if job.started_at else 0,
            wallclock_limit=job.wall_time,
        )


def _path(request: JobRequest, given: str, number: int) -> str:
    """Return the absolute path of an output file. ``%j`` stands for the job's id, as in sbatch(1)."""
    return os.path.join(request.workdir, given.replace("%j", str(number)))


@contextmanager
def _disk() -> Iterator[None]:
    """Raise SchedulerUnavailable for an error of the home folder, which may be full, missing or read-only."""
    try:
        yield
    except OSError as error:
        raise SchedulerUnavailable(
            f"The local queue in your home folder cannot be used: {error.strerror}. Check that you can write there."
        ) from error
