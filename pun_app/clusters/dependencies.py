"""The dependencies of a new job, looked up before it is submitted.

A scheduler soon forgets ended jobs. Slurm then treats a condition on such a job as met, whatever its outcome was, and
other schedulers reject the submit. So a condition on an ended job is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import COMPLETED, DEPENDENCIES, Job, JobRequest

Met = dict[str, list[str]]
"""The conditions that are already met: the name of an option, such as ``afterok`` → ids of jobs."""


def settle(
    request: JobRequest, look_up: Callable[[Sequence[str]], dict[str, Job]], cluster_id: str
) -> tuple[JobRequest, Met]:
    """Return the request with only those conditions that are still open, and the conditions that are already met.

    ``look_up`` returns the user's jobs by their ids. Raises Rejected for an id that is not a job of the user, and for a
    condition that can never be met. A condition on an ended job whose outcome is unknown yet is left to the scheduler.
    """
    named = list(dict.fromkeys(job_id for name in DEPENDENCIES for job_id in getattr(request, name)))
    if not named:
        return request, {}
    jobs = look_up(named)
    is_open: dict[str, tuple[str, ...]] = {}
    met: Met = {}
    for name in DEPENDENCIES:
        for job_id in getattr(request, name):
            if job_id not in jobs:
                raise Rejected(
                    f"options.{name}: you have no job {job_id} on cluster {cluster_id}; correct the id, or "
                    "name another user's job in options.native"
                )
            is_met = _is_met(name, jobs[job_id])
            if is_met is False:
                raise Rejected(
                    f"options.{name}: job {job_id} has already ended ({jobs[job_id].outcome}), so a job that waits for "
                    f"it with {name} would never start; omit it, or choose another condition"
                )
            if is_met:
                met.setdefault(name, []).append(job_id)
            else:
                is_open[name] = (*is_open.get(name, ()), job_id)
    after, afterok, afternotok, afterany = (is_open.get(name, ()) for name in DEPENDENCIES)
    return replace(request, after=after, afterok=afterok, afternotok=afternotok, afterany=afterany), met


def _is_met(name: str, job: Job) -> bool | None:
    """Return True for a condition that is met, False for one that can never be, and None for one that is open."""
    if job.status != COMPLETED:
        return None
    if name in ("after", "afterany"):
        return True
    if job.outcome is None:
        return None
    return (job.outcome == "succeeded") == (name == "afterok")
