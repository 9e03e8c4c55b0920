"""Queued tasks of arrays that were cancelled, kept for as long as their array is there.

Slurm and Grid Engine take such a task out of the array and tell of it no more, neither in the queue nor in accounting.
"""

from __future__ import annotations

import logging
import time

import msgspec

from pun_app.adapters.base import Adapter
from pun_app.adapters.errors import JobNotFound, SchedulerUnavailable
from pun_app.adapters.model import COMPLETED, QUEUED, QUEUED_HELD, Job
from pun_app.expiring_files import ExpiringFiles, folder_of_user

KEPT = 30 * 86_400.0
"""Seconds for which a task is kept at most."""

log = logging.getLogger("punway.pun")


class CancelledTasks:
    """Those of one cluster, in the user's home."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._kept = ExpiringFiles(folder_of_user() / "cancelled" / adapter.cluster_id, KEPT, SchedulerUnavailable)

    def is_task(self, job_id: str) -> bool:
        return self._adapter.array_id(job_id) != job_id

    def queued(self, job_id: str) -> Job | None:
        """The task, where it is one that is queued: what keep() is to be given once it is cancelled."""
        if not self.is_task(job_id):
            return None
        job = self._adapter.job(job_id)
        return job if job.status in (QUEUED, QUEUED_HELD) else None

    def keep(self, job_id: str, task: Job) -> None:
        """Remember that a queued task has been cancelled."""
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
            self._kept.put(job_id, msgspec.json.encode(ended))
        except SchedulerUnavailable as trouble:
            # It is cancelled, whatever becomes of this.
            log.warning("that task %s was cancelled could not be kept: %s", job_id, trouble.message)

    def job(self, job_id: str) -> Job:
        """One job, as Adapter.job() tells; of a task that this knows, and the scheduler no more, how it ended."""
        try:
            job = self._adapter.job(job_id)
        except JobNotFound:
            task = self.task(job_id)
            if task is None:
                raise
            return task
        # Grid Engine's adapter tells for some seconds what the task was last, or that it has ended somehow.
        is_open = job.status in (QUEUED, QUEUED_HELD) or (job.status == COMPLETED and job.outcome is None)
        return (self.task(job_id) or job) if is_open else job

    def task(self, job_id: str) -> Job | None:
        """The task as it was kept; None where it was not, or where its array is gone."""
        if not self.is_task(job_id):
            return None
        try:
            content = self._kept.get(job_id)
            if content is None:
                return None
            task = msgspec.json.decode(content, type=Job)
            array = self._adapter.job(self._adapter.array_id(job_id))
        except JobNotFound:
            return None
        except msgspec.DecodeError as error:
            log.warning("what was kept of task %s cannot be read: %s", job_id, error)
            return None
        # The scheduler may begin with its numbers anew.
        is_same = None in (task.submitted_at, array.submitted_at) or task.submitted_at == array.submitted_at
        return task if is_same else None
