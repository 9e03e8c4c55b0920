"""A record of cancelled tasks of arrays, for schedulers that forget them.

Slurm and Grid Engine remove a queued task that is cancelled from its array, and report it neither in the queue nor in
accounting. The record of a task lasts as long as its array exists.
"""

from __future__ import annotations

import logging
import time

import msgspec

from pun_app.adapters.base import Adapter
from pun_app.adapters.errors import JobNotFound, SchedulerUnavailable
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, Job
from pun_app.expiring_files import ExpiringFiles, folder_of_user

MAX_AGE_S = 30 * 86_400.0
"""Seconds for which a task is recorded at most."""

log = logging.getLogger("punway.pun")


class CancelledTasks:
    """The user's cancelled tasks on one cluster, recorded in the user's home."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._files = ExpiringFiles(
            folder_of_user() / "cancelled" / adapter.cluster_id, MAX_AGE_S, SchedulerUnavailable
        )

    def is_task(self, job_id: str) -> bool:
        """Return True for the id of a task of an array."""
        return self._adapter.array_id(job_id) != job_id

    def queued(self, job_id: str) -> Job | None:
        """Return the task if it is queued, to be given to record() once it is cancelled; None for any other job."""
        if not self.is_task(job_id):
            return None
        job = self._adapter.job(job_id)
        return job if job.status in (QUEUED, QUEUED_HELD) else None

    def record(self, job_id: str, task: Job) -> None:
        """Record that a queued task was cancelled. A failure to do so is logged only: the task is cancelled anyway."""
        ended = msgspec.structs.replace(
            task,
            id=job_id,
            status=COMPLETED,
            native_state=None,
            native_reason=None,
            outcome="cancelled",
            ended_at=int(time.time()),
            can_start=None,
            reason=None,
        )
        try:
            self._files.put(job_id, msgspec.json.encode(ended))
        except SchedulerUnavailable as error:
            log.warning("could not record that task %s was cancelled: %s", job_id, error.message)

    def job(self, job_id: str) -> Job:
        """Return a job as Adapter.job() does, or a cancelled task that the scheduler no longer reports."""
        try:
            job = self._adapter.job(job_id)
        except JobNotFound:
            task = self.task(job_id)
            if task is None:
                raise
            return task
        # For some seconds Grid Engine's adapter reports the last known state of the task, or an unknown outcome.
        is_uncertain = job.status in (QUEUED, QUEUED_HELD) or (job.status == COMPLETED and job.outcome is None)
        return (self.task(job_id) or job) if is_uncertain else job

    def task(self, job_id: str) -> Job | None:
        """Return a recorded task; None without a record, and once its array is gone."""
        if not self.is_task(job_id):
            return None
        try:
            content = self._files.get(job_id)
            if content is None:
                return None
            task = msgspec.json.decode(content, type=Job)
            array = self._adapter.job(self._adapter.array_id(job_id))
        except JobNotFound:
            return None
        except msgspec.DecodeError as error:
            log.warning("ignoring the unreadable record of task %s: %s", job_id, error)
            return None
        # A scheduler may reuse job ids, so the time of the submit must match too.
        is_same = None in (task.submitted_at, array.submitted_at) or task.submitted_at == array.submitted_at
        return task if is_same else None
